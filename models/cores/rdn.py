"""Recurrent Delta Net (Irie et al. 2021): a Delta Net whose slow projection also reads its last output."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rfwp.cuda.launch import FEATURE_MAPS
from rfwp.cuda.rdn import rdn
from rfwp.models.core import State
from rfwp.models.fast_weights import FastMemory, FastWeightConfig, delta_rule
from rfwp.models.feature_maps import FeatureMapName
from rfwp.models.residual_stack import ResidualStack


@dataclass(frozen=True)
class Config(FastWeightConfig):
    """Settings of the Recurrent Delta Net."""

    feature_map: FeatureMapName = "softmax"
    """Function applied to queries and keys. With elu or identity the memory soon diverges."""

    def build(self, input_size: int) -> ResidualStack:
        return ResidualStack(input_size, self, lambda: RecurrentDeltaNet(self))


class RecurrentDeltaNet(FastMemory):
    """q, k, v, β = W_slow x + R tanh(y_{t-1});  W_t = W_{t-1} + σ(β) (v − W_{t-1} f(k)) ⊗ f(k);  y_t = W_t f(q).

    R holds slow weights, separate for each head. y is what the head reads, before the block's output layer. The state
    holds W [B, num_heads, head_size, keys] and y [B, num_heads, head_size] of each layer.
    """

    leaf_names = ("W", "y")

    def __init__(self, config: Config) -> None:
        size = config.head_size
        keys = config.key_size
        super().__init__(config, slow_size=3 * size + 1, state_shapes=((size, keys), (size,)))
        self.sizes = [2 * size, size, 1]
        self.feature_map = config.feature_map
        self.kernel_size = size if config.feature_map in FEATURE_MAPS else None
        self.recurrent = nn.Parameter(torch.randn(config.num_heads, size, 3 * size + 1) / size**0.5)

    def prepare(self, slow: Tensor) -> tuple[Tensor, ...]:
        return (slow.view(*slow.shape[:-2], self.num_heads, -1, slow.shape[-1]),)

    def advance(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        read, fast = delta_rule(state[0], *self._written(inputs, state))
        return read, (fast, read)

    def rates(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, ...]:
        return (self._written(inputs, state)[2],)

    def _written(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, Tensor, Tensor]:
        """Compute f(q) and f(k), v and σ(β), which depend on the last output."""
        (slow,), (_, last_read) = inputs, state
        feedback = last_read.tanh().view(self.num_heads, -1, last_read.shape[-1])
        slow = torch.baddbmm(slow, feedback, self.recurrent).flatten(0, 1)
        query_key, value, rate = slow.split_with_sizes(self.sizes, -1)
        return self.query_and_key(query_key), value, rate.sigmoid()

    def fused(self, inputs: tuple[Tensor, ...], state: State, first: Tensor) -> tuple[Tensor, State]:
        (slow,) = inputs
        fast, last_read = state
        read, fast, last_read = rdn(
            slow.flatten(1, 2),
            self.recurrent,
            fast,
            last_read,
            first,
            feature_map=self.feature_map,
            gradient_horizon=self.gradient_horizon,
        )
        return read, (fast, last_read)
