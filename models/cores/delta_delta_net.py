"""Delta Delta Net (Irie et al. 2021): a Delta Net whose reads program a second Delta Net."""

from dataclasses import dataclass

from torch import Tensor

from rfwp.models.core import State
from rfwp.models.fast_weights import FastMemory, FastWeightConfig, delta_rule
from rfwp.models.residual_stack import ResidualStack


@dataclass(frozen=True)
class Config(FastWeightConfig):
    """Settings of the Delta Delta Net."""

    def build(self, input_size: int) -> ResidualStack:
        return ResidualStack(input_size, self, lambda: DeltaDeltaNet(self))


class DeltaDeltaNet(FastMemory):
    """q, k, v, β = W_slow x;  U_t = U_{t-1} + σ(β) (v − U_{t-1} f(k)) ⊗ f(k);  q', k', v', β' = U_t f(q);
    W_t = W_{t-1} + σ(β') (v' − W_{t-1} f(k')) ⊗ f(k');  y_t = W_t f(q').

    The state holds U [B, num_heads, 3 * head_size + 1, keys] and W [B, num_heads, head_size, keys] of each layer.
    """

    leaf_names = ("U", "W")

    def __init__(self, config: Config) -> None:
        size = config.head_size
        keys = config.key_size
        super().__init__(config, slow_size=5 * size + 2, state_shapes=((3 * size + 1, keys), (size, keys)))
        self.outer_sizes = [2 * size, 3 * size + 1, 1]
        self.inner_sizes = [2 * size, size, 1]

    def prepare(self, slow: Tensor) -> tuple[Tensor, ...]:
        query_key, value, rate = slow.split_with_sizes(self.outer_sizes, -1)
        return self.query_and_key(query_key), value, rate.sigmoid()

    def advance(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        outer, inner = state
        program, outer = self._program(inputs, outer)
        read, inner = delta_rule(inner, *program)
        return read, (outer, inner)

    def rates(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, ...]:
        (_, _, inner_rate), _ = self._program(inputs, state[0])
        return inputs[2], inner_rate

    def _program(self, inputs: tuple[Tensor, ...], outer: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """Write U, then read from it the query, key, value and rate of W."""
        program, outer = delta_rule(outer, *inputs)
        query_key, value, rate = program.split_with_sizes(self.inner_sizes, -1)
        return (self.query_and_key(query_key), value, rate.sigmoid()), outer
