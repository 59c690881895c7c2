"""Delta LSTM (Irie et al. 2021): an LSTM cell whose gates are read from fast weights."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rfwp.checks import check_choice
from rfwp.models.core import State
from rfwp.models.fast_weights import FastMemory, FastWeightConfig, delta_rule
from rfwp.models.feature_maps import FeedbackMapName, feature_map
from rfwp.models.residual_stack import ResidualStack

GATES = 3  # i, u, o


@dataclass(frozen=True)
class Config(FastWeightConfig):
    """Settings of the Delta LSTM. `feature_map` applies to the queries and keys of W."""

    feedback_map: FeedbackMapName = "softmax"
    """Function applied to queries and keys of R: softmax, as published, or l2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("feedback_map", self.feedback_map, FeedbackMapName)

    def build(self, input_size: int) -> ResidualStack:
        return ResidualStack(input_size, self, lambda: DeltaLSTM(self))


class DeltaLSTM(FastMemory):
    """g = W^g_t f(q^g) + R^g_t f'(h_{t-1}) for the gates g = i, u, o, all W and R written by the delta rule;
    c_t = σ(i) u + (1 − σ(i)) c_{t-1};  h_t = σ(o) c_t. f' is `feedback_map`.

    For each gate, q, k, v, β, k', v', β' = W_slow x as in the Delta RNN. The state holds W [B, num_heads, 3, head_size,
    keys], R [B, num_heads, 3, head_size, head_size], h and c [B, num_heads, head_size] of each layer.
    """

    leaf_names = ("W", "R", "h", "c")

    def __init__(self, config: Config) -> None:
        size = config.head_size
        keys = config.key_size
        shapes = ((GATES, size, keys), (GATES, size, size), (size,), (size,))
        super().__init__(config, slow_size=GATES * (5 * size + 2), state_shapes=shapes)
        self.feedback_features = feature_map(config.feedback_map).apply
        self.sizes = [2 * size, size, 1, size, size, 1]

    def prepare(self, slow: Tensor) -> tuple[Tensor, ...]:
        of_gates = slow.view(*slow.shape[:-2], slow.shape[-2] * GATES, -1)  # [..., N * 3, 5 * size + 2]
        query_key, value, rate, back_key, back_value, back_rate = of_gates.split_with_sizes(self.sizes, -1)
        written = self.query_and_key(query_key), value, rate.sigmoid()
        return *written, self.feedback_features(back_key), back_value, back_rate.sigmoid()

    def advance(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        query_key, value, rate, back_key, back_value, back_rate = inputs
        fast, back, h, c = state
        read, new_fast = delta_rule(fast.flatten(0, 1), query_key, value, rate)
        back_query = self.feedback_features(h).repeat_interleave(GATES, 0)
        back_query_key = torch.stack([back_query, back_key], 1)
        fed_back, new_back = delta_rule(back.flatten(0, 1), back_query_key, back_value, back_rate)
        i, u, o = (read + fed_back).view(-1, GATES, h.shape[-1]).unbind(1)
        c = torch.lerp(c, u, i.sigmoid())
        h = o.sigmoid() * c
        return h, (new_fast.view(fast.shape), new_back.view(back.shape), h, c)

    def rates(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, ...]:
        rate, back_rate = inputs[2], inputs[5]
        return rate.view(-1, GATES), back_rate.view(-1, GATES)
