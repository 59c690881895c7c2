"""Transformer (Vaswani et al. 2017) with causal attention over the current step and the `context` steps before it."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rfwp.checks import check, check_choice
from rfwp.models.core import State
from rfwp.models.positions import sinusoidal
from rfwp.models.residual_stack import Memory, ResidualStack, StackConfig

Positions = Literal["sinusoidal", "none"]


@dataclass(frozen=True)
class Config(StackConfig):
    """Settings of the Transformer."""

    context: int = 64
    """C: earlier steps of the episode that a step attends to, in each layer. The state grows with it."""

    positions: Positions = "sinusoidal"
    """What tells the steps apart: sinusoidal, an encoding of the step in its episode, added after the input layer; or
    none."""

    final_norm: bool = False
    """LayerNorm after the last block, as `nn.TransformerEncoder` usually has it. Reinforcement learning starts sooner
    without it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.context >= 1, "context", self.context, "1 or more")
        check_choice("positions", self.positions, Positions)
        fits = self.positions == "none" or self.hidden_size % 2 == 0
        check(fits, "hidden_size", self.hidden_size, "an even number with sinusoidal positions")

    def build(self, input_size: int) -> "Transformer":
        return Transformer(input_size, self)


class Transformer(ResidualStack):
    """Residual blocks with attention as their memory: `nn.TransformerEncoder` with a causal mask, C steps back at most.

    The state holds k and v [B, num_heads, C, head_size] of the last C steps and their count [B], of each layer.
    """

    def __init__(self, input_size: int, config: Config) -> None:
        super().__init__(input_size, config, lambda: Attention(config), output_bias=True)
        self.positions = config.positions
        self.norm = nn.LayerNorm(config.hidden_size) if config.final_norm else nn.Identity()

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self(x.unsqueeze(0), state, torch.zeros(1, len(x), dtype=torch.bool, device=x.device))
        return y.squeeze(0), state

    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        x = self.input(x)
        if self.positions == "sinusoidal":
            x = x + sinusoidal(steps_before(first, state[2]), self.output_size)
        y, state = self.run_blocks(x, state, first)
        return self.norm(y), state


class Attention(Memory):
    """q, k, v = W x + b;  y_t = Σ_s softmax_s(q_t · k_s / √d) v_s, over the steps s of t's episode with t − C ≤ s ≤ t.

    The state holds k and v of the last C steps, oldest first, and how many steps the episode has had; k and v from
    before the episode are zeros.
    """

    leaf_names = ("keys", "values", "steps")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.context = config.context
        self.dropout = config.dropout
        self.num_heads = config.num_heads
        self.project = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        cache = (config.num_heads, config.context, config.head_size)
        self.state_shapes = (cache, cache, ())

    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        old_keys, old_values, age = state
        length, batch = first.shape
        heads = self.project(x).view(length, batch, 3, self.num_heads, -1).permute(2, 1, 3, 0, 4)
        query, new_keys, new_values = heads.unbind()  # [B, num_heads, T, head_size]
        keys = torch.cat([old_keys, new_keys], 2)  # [B, num_heads, C + T, head_size]
        values = torch.cat([old_values, new_values], 2)

        before = steps_before(first, age)  # [T, B]
        distance = torch.arange(self.context, self.context + length, device=x.device).unsqueeze(1)
        distance = distance - torch.arange(self.context + length, device=x.device)  # [T, C + T]
        seen = (distance >= 0) & (distance <= before.clamp(max=self.context).t().unsqueeze(2))  # [B, T, C + T]
        y = self._attend(query, keys, values, seen)

        steps = before[-1] + 1
        kept = torch.arange(self.context, 0, -1, device=x.device) <= steps.unsqueeze(1)  # [B, C]
        keys, values = (
            torch.where(kept[:, None, :, None], each[:, :, -self.context :], 0.0) for each in (keys, values)
        )
        return y.permute(2, 0, 1, 3).flatten(2), (keys, values, steps)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
        """Attend to what is seen: q [B, num_heads, T, head_size], seen [B, T, C + T] -> y as q.

        A weight of 0 does not hide NaN, so keys and values that are not finite are replaced by zeros, and the steps
        that see them become NaN at the end.
        """
        sound = (keys.sum((1, 3)) + values.sum((1, 3))).isfinite()  # [B, C + T]
        keys, values = (torch.where(sound[:, None, :, None], each, 0.0) for each in (keys, values))
        dropout = self.dropout if self.training else 0.0
        y = scaled_dot_product_attention(query, keys, values, seen.unsqueeze(1), dropout)
        lost = (seen & ~sound.unsqueeze(1)).any(2)  # [B, T]
        return y + torch.where(lost, torch.nan, 0.0).to(y.dtype)[:, None, :, None]


def steps_before(first: Tensor, age: Tensor) -> Tensor:
    """Count the earlier steps of each step's episode: bool first [T, B], steps before the unroll age [B] -> [T, B]."""
    t = torch.arange(len(first), device=first.device).unsqueeze(1)
    start = torch.where(first, t, -1).cummax(0).values  # of the episode; -1 if that is before the unroll
    # The state is a float, so it is rounded: near a whole number, the count has no gradient.
    return torch.where(start < 0, age.round() + t, (t - start).to(age.dtype))
