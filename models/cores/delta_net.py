"""Delta Net (Schlag, Irie & Schmidhuber 2021): a fast weight matrix written by the delta rule."""

from dataclasses import dataclass

from torch import Tensor

from rfwp.cuda.delta import delta
from rfwp.models.core import State
from rfwp.models.fast_weight_stack import FastWeightStack
from rfwp.models.fast_weights import FastMemory, FastWeightConfig, delta_rule
from rfwp.models.feature_maps import feature_map


@dataclass(frozen=True)
class Config(FastWeightConfig):
    """Settings of the Delta Net."""

    def build(self, input_size: int) -> FastWeightStack:
        return FastWeightStack(input_size, self, lambda: DeltaNet(self))


class DeltaNet(FastMemory):
    """q, k, v, β = W_slow x;  W_t = W_{t-1} + σ(β) (v − W_{t-1} f(k)) ⊗ f(k);  y_t = W_t f(q)."""

    leaf_names = ("W",)

    def __init__(self, config: Config) -> None:
        size = config.head_size
        keys = size * feature_map(config.feature_map).growth
        super().__init__(config, slow_size=3 * size + 1, state_shapes=((size, keys),))
        self.sizes = [2 * size, size, 1]
        self.kernel_size = size if keys == size else None

    def prepare(self, slow: Tensor) -> tuple[Tensor, ...]:
        query_key, value, rate = slow.split_with_sizes(self.sizes, -1)
        return self.features(query_key.view(*value.shape[:-1], 2, -1)), value, rate.sigmoid()

    def advance(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        query_key, value, rate = inputs
        (fast,) = state
        read, fast = delta_rule(fast, query_key, value, rate)
        return read, (fast,)

    def rates(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, ...]:
        return (inputs[2],)

    def fused(self, inputs: tuple[Tensor, ...], state: State, reset: Tensor) -> tuple[Tensor, State]:
        query_key, value, rate = inputs
        read, fast = delta(query_key, value, rate.squeeze(-1), None, *state, reset, self.gradient_horizon)
        return read, (fast,)
