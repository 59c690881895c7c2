#!/usr/bin/env bash
# Trains what this folder shows: six cores in corridors of 10, 50 and 200 steps, three seeds each. At 50 steps every core
# has both rates; elsewhere, one.
#
#   bash run.sh OUT [LENGTH ...]
#
# Takes about two hours on two cores. Interrupted and run again, it goes on.
set -eu
out=$1
shift
[ $# -gt 0 ] || set -- 10 50 200
declare -A steps=([10]=300_000 [50]=500_000 [200]=1_000_000)

compare() {  # RATE NAME OPTION...
  rfwp compare --envs t_maze --env.length "$length" --seeds 3 --steps "${steps[$length]}" --jobs 2 --final_episodes 200 \
    --learner.unroll_length $((length + 8)) --learner.learning_rate "$1" --normalise_values true --log_seconds 0.5 \
    --out "$out/$length/$1/$2" --cores "${@:3}"
}

for length; do
  compare 2e-3 gated lstm gru
  compare 5e-4 fast-weights delta_net rdn srwm
  [ "$length" = 200 ] || compare 2e-3 transformer transformer --core.context $((length + 8))
  if [ "$length" = 50 ]; then  # the other rate, too
    compare 5e-4 gated lstm gru
    compare 2e-3 fast-weights delta_net rdn srwm
    compare 5e-4 transformer transformer --core.context $((length + 8))
  fi
done
