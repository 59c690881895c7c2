"""Gated Delta Net (Yang et al. 2024): a Delta Net whose forget rate depends on the input."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from rfwp.models.core import State
from rfwp.models.fast_weights import FastWeightConfig, delta_rule
from rfwp.models.linear_memory import LinearMemory
from rfwp.models.residual_stack import ResidualStack


@dataclass(frozen=True)
class Config(FastWeightConfig):
    """Settings of the Gated Delta Net."""

    def build(self, input_size: int) -> ResidualStack:
        return ResidualStack(input_size, self, lambda: GatedDeltaNet(self))


class GatedDeltaNet(LinearMemory):
    """q, k, v, β, α = W_slow x;  W_t = σ(α + b) W_{t-1} (I − σ(β) f(k) f(k)ᵀ) + σ(β) v ⊗ f(k);  y_t = W_t f(q).

    b is one slow weight per head, initialised so that the heads forget over 10 to 1000 agent steps. Without it every
    memory would start by halving at each step. The state holds W [B, num_heads, head_size, keys] of each layer.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config, scalars=2)
        memory_length = torch.logspace(1, 3, config.num_heads)  # agent steps: 1 / (1 − σ(b))
        self.decay_bias = nn.Parameter((memory_length - 1).log())

    def prepare(self, slow: Tensor) -> tuple[Tensor, ...]:
        query_key, value, rate, decay = slow.split_with_sizes(self.sizes, -1)
        bias = self.decay_bias.repeat_interleave(slow.shape[-2] // self.num_heads).view(-1, 1)  # [N, 1]
        return self.query_and_key(query_key), value, rate.sigmoid(), logsigmoid(decay + bias)

    def advance(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        query_key, value, rate, log_decay = inputs
        (fast,) = state
        read, fast = delta_rule(log_decay.exp().unsqueeze(2) * fast, query_key, value, rate)
        return read, (fast,)
