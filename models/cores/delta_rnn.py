"""Delta RNN (Irie et al. 2021): a Delta Net plus a second fast weight matrix that reads the last output."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rfwp.checks import check_choice
from rfwp.cuda.delta import delta
from rfwp.cuda.feedback import feedback
from rfwp.models.core import State
from rfwp.models.fast_weights import FastMemory, FastWeightConfig, delta_rule
from rfwp.models.feature_maps import FeatureMapName, FeedbackMapName, feature_map
from rfwp.models.residual_stack import ResidualStack


@dataclass(frozen=True)
class Config(FastWeightConfig):
    """Settings of the Delta RNN."""

    feature_map: FeatureMapName = "softmax"
    """Function applied to queries and keys of W. With elu or identity the memory soon diverges."""

    feedback_map: FeedbackMapName = "softmax"
    """Function applied to queries and keys of R: softmax, as published, or l2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("feedback_map", self.feedback_map, FeedbackMapName)

    def build(self, input_size: int) -> ResidualStack:
        return ResidualStack(input_size, self, lambda: DeltaRNN(self))


class DeltaRNN(FastMemory):
    """y_t = W_t f(q) + R_t f'(y_{t-1}), with W and R both written by the delta rule.

    q, k, v, β, k', v', β' = W_slow x: W is written at f(k) with v and σ(β), R at f'(k') with v' and σ(β'). f' is
    `feedback_map`. The state holds W [B, num_heads, head_size, keys], R [B, num_heads, head_size, head_size] and y of
    each layer.
    """

    leaf_names = ("W", "R", "y")

    def __init__(self, config: Config) -> None:
        size = config.head_size
        keys = config.key_size
        super().__init__(config, slow_size=5 * size + 2, state_shapes=((size, keys), (size, size), (size,)))
        self.sizes = [2 * size, size, 1, size, size, 1]
        self.feedback_map = config.feedback_map
        self.feedback_features = feature_map(config.feedback_map).apply
        self.kernel_size = size if keys == size else None

    def prepare(self, slow: Tensor) -> tuple[Tensor, ...]:
        query_key, value, rate, back_key, back_value, back_rate = slow.split_with_sizes(self.sizes, -1)
        written = self.query_and_key(query_key), value, rate.sigmoid()
        return *written, self.feedback_features(back_key), back_value, back_rate.sigmoid()

    def advance(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        query_key, value, rate, back_key, back_value, back_rate = inputs
        fast, back, last_output = state
        read, fast = delta_rule(fast, query_key, value, rate)
        back_query_key = torch.stack([self.feedback_features(last_output), back_key], 1)
        fed_back, back = delta_rule(back, back_query_key, back_value, back_rate)
        output = read + fed_back
        return output, (fast, back, output)

    def rates(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, ...]:
        return inputs[2], inputs[5]

    def fused(self, inputs: tuple[Tensor, ...], state: State, first: Tensor) -> tuple[Tensor, State]:
        query_key, value, rate, back_key, back_value, back_rate = inputs
        fast, back, last_output = state
        horizon = self.gradient_horizon
        read, fast = delta(query_key, value, rate.squeeze(-1), None, fast, first, gradient_horizon=horizon)
        written = (back_key, back_value, back_rate.squeeze(-1))
        output, back, last_output = feedback(
            read, *written, back, last_output, first, feature_map=self.feedback_map, gradient_horizon=horizon
        )
        return output, (fast, back, last_output)
