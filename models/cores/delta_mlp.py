"""Delta MLP (Irie et al. 2021): a residual network whose layers are fast weight matrices."""

from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from rfwp.checks import check
from rfwp.models.core import State
from rfwp.models.fast_weights import FastMemory, FastWeightConfig, delta_rule
from rfwp.models.feature_maps import feature_map
from rfwp.models.residual_stack import ResidualStack

WIDENING = 4  # size of a fast block's hidden layer / head_size


@dataclass(frozen=True)
class Config(FastWeightConfig):
    """Settings of the Delta MLP."""

    fast_blocks: int = 1
    """Number of residual blocks of fast weights per head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.fast_blocks >= 1, "fast_blocks", self.fast_blocks, "1 or more")

    def build(self, input_size: int) -> ResidualStack:
        return ResidualStack(input_size, self, lambda: DeltaMLP(self))


class DeltaMLP(FastMemory):
    """q = its part of W_slow x; for each block, q ← q + V_t f(U_t f(LN(q))); then y_t = q.

    U (head_size to 4 * head_size) and V (back) are written by the delta rule: for each block, k, v, β, k', v', β' are
    parts of W_slow x, and U is written at f(k) with v and σ(β), V at f(k') with v' and σ(β'). LN has slow weights, the
    same in every head. The state holds U and V [B, num_heads, values, keys] of each block of each layer.
    """

    def __init__(self, config: Config) -> None:
        size, wide = config.head_size, WIDENING * config.head_size
        growth = feature_map(config.feature_map).growth
        shapes = ((wide, size * growth), (size, wide * growth)) * config.fast_blocks
        sizes = [size, wide, 1, wide, size, 1]
        super().__init__(config, slow_size=size + config.fast_blocks * sum(sizes), state_shapes=shapes)
        blocks = range(1, config.fast_blocks + 1)
        self.leaf_names = tuple(f"{name}{block}" for block in blocks for name in "UV")
        self.sizes = [size, *sizes * config.fast_blocks]
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(config.fast_blocks))

    def prepare(self, slow: Tensor) -> tuple[Tensor, ...]:
        query, *writes = slow.split_with_sizes(self.sizes, -1)
        triples = zip(writes[::3], writes[1::3], writes[2::3], strict=True)
        return query, *chain.from_iterable((self.features(k), v, rate.sigmoid()) for k, v, rate in triples)

    def advance(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        query, *writes = inputs
        after: list[Tensor] = []
        for block, norm in enumerate(self.norms):
            change = norm(query)
            for layer in (2 * block, 2 * block + 1):
                key, value, rate = writes[3 * layer : 3 * layer + 3]
                query_key = torch.stack([self.features(change), key], 1)
                change, fast = delta_rule(state[layer], query_key, value, rate)
                after.append(fast)
            query = query + change
        return query, tuple(after)

    def rates(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, ...]:
        return inputs[3::3]
