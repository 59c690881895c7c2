"""Linear Transformer (Katharopoulos et al. 2020) without the normaliser: a purely additive fast weight matrix."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rfwp.models.core import State
from rfwp.models.fast_weights import FastWeightConfig
from rfwp.models.linear_memory import LinearMemory
from rfwp.models.residual_stack import ResidualStack


@dataclass(frozen=True)
class Config(FastWeightConfig):
    """Settings of the Linear Transformer."""

    def build(self, input_size: int) -> ResidualStack:
        return ResidualStack(input_size, self, lambda: LinearTransformer(self))


class LinearTransformer(LinearMemory):
    """q, k, v = W_slow x;  W_t = W_{t-1} + v ⊗ f(k);  y_t = W_t f(q).

    The state holds W [B, num_heads, head_size, keys] of each layer.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config, scalars=0)

    def prepare(self, slow: Tensor) -> tuple[Tensor, ...]:
        query_key, value = slow.split_with_sizes(self.sizes, -1)
        return self.query_and_key(query_key), value

    def advance(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        query_key, value = inputs
        query, key = query_key.unbind(1)
        (fast,) = state
        fast = torch.addcmul(fast, value.unsqueeze(2), key.unsqueeze(1))
        return torch.bmm(query.unsqueeze(1), fast.mT).squeeze(1), (fast,)
