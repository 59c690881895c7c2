"""Delta Net (Schlag, Irie & Schmidhuber 2021): a fast weight matrix written by the delta rule."""

from dataclasses import dataclass

from torch import Tensor

from rfwp.models.core import State
from rfwp.models.fast_weights import FastWeightConfig, delta_rule
from rfwp.models.linear_memory import LinearMemory
from rfwp.models.residual_stack import ResidualStack


@dataclass(frozen=True)
class Config(FastWeightConfig):
    """Settings of the Delta Net."""

    def build(self, input_size: int) -> ResidualStack:
        return ResidualStack(input_size, self, lambda: DeltaNet(self))


class DeltaNet(LinearMemory):
    """q, k, v, β = W_slow x;  W_t = W_{t-1} + σ(β) (v − W_{t-1} f(k)) ⊗ f(k);  y_t = W_t f(q)."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, scalars=1)

    def prepare(self, slow: Tensor) -> tuple[Tensor, ...]:
        query_key, value, rate = slow.split_with_sizes(self.sizes, -1)
        return self.query_and_key(query_key), value, rate.sigmoid()

    def advance(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        query_key, value, rate = inputs
        (fast,) = state
        read, fast = delta_rule(fast, query_key, value, rate)
        return read, (fast,)
