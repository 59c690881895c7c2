#!/usr/bin/env bash
# Trains what this folder shows: every core, both kinds of keys, two learning rates, three seeds, task by task. Then the
# same with gradients that do not flow through the memory, for the fast weight cores with keys of unit length.
#
#   bash run.sh OUT [TASK ...]
#
# Takes half a minute a run on two cores. Interrupted and run again, it goes on.
set -eu
out=$1
shift
[ $# -gt 0 ] || set -- recall delayed_cue counting n_back

compare() {  # FOLDER OPTION...
  rfwp compare --envs "$task" --seeds 3 --steps 200_000 --jobs 2 --final_episodes 200 --log_seconds 0.5 \
    --learner.learning_rate "$rate" --out "$out/$task/$1-$rate" "${@:2}"
}

sum_cores="linear_transformer delta_net gated_delta_net delta_lstm delta_mlp delta_delta_net"
softmax_cores="rdn delta_rnn srwm"
for task; do
  for rate in 5e-4 2e-3; do
    compare none --cores feedforward lstm gru transformer
    compare l2 --cores $sum_cores $softmax_cores
    compare elu_sum_norm --cores $sum_cores --core.feature_map elu_sum_norm
    compare softmax --cores $softmax_cores --core.feature_map softmax
  done
done
for task; do
  for rate in 5e-4 2e-3; do
    compare horizon-1 --cores $sum_cores $softmax_cores --core.gradient_horizon 1
  done
done
