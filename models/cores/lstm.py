"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000), the paper's baseline."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from rfwp.models.core import Core, CoreConfig, State, check, check_horizon, unroll


@dataclass(frozen=True)
class Config(CoreConfig):
    """Settings of the LSTM."""

    hidden_size: int = 256
    """Size of each layer's output."""

    num_layers: int = 1
    """Number of layers, each reading the one below."""

    gradient_horizon: int | None = None
    """Agent steps after which gradients through the recurrent state stop; null for the whole unroll."""

    def __post_init__(self) -> None:
        check(self.hidden_size >= 1, "hidden_size", self.hidden_size, "1 or more")
        check(self.num_layers >= 1, "num_layers", self.num_layers, "1 or more")
        check_horizon(self.gradient_horizon)

    def build(self, input_size: int) -> "LSTM":
        return LSTM(input_size, self)


class LSTM(Core):
    """A stack of LSTM layers. The state holds h and c [B, hidden_size] of each layer."""

    def __init__(self, input_size: int, config: Config) -> None:
        super().__init__()
        self.output_size = config.hidden_size
        self.state_shapes = ((config.hidden_size,), (config.hidden_size,)) * config.num_layers
        self.gradient_horizon = config.gradient_horizon
        sizes = [input_size] + [config.hidden_size] * (config.num_layers - 1)
        self.layers = nn.ModuleList(nn.LSTMCell(size, config.hidden_size) for size in sizes)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        after: list[Tensor] = []
        for layer, h, c in zip(self._cells(), state[::2], state[1::2], strict=True):
            x, c = layer(x, (h, c))
            after += [x, c]
        return x, tuple(after)

    def forward(self, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
        after: State = ()
        for cell, h, c in zip(self._cells(), state[::2], state[1::2], strict=True):
            gates = nn.functional.linear(x, cell.weight_ih, cell.bias_ih + cell.bias_hh)  # [T, B, 4 * hidden_size]
            recurrence = partial(_advance, cell.weight_hh.t())
            x, layer_after = unroll(recurrence, (gates,), (h, c), reset, self.gradient_horizon)
            after += layer_after
        return x, after

    def _cells(self) -> Iterable[nn.LSTMCell]:
        return cast(Iterable[nn.LSTMCell], self.layers)


def _advance(weight: Tensor, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
    """Do what remains of a cell's step when its input projection is done: gates [B, 4 * hidden_size]."""
    (gates,) = inputs
    h, c = state
    i, f, u, o = torch.addmm(gates, h, weight).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * u.tanh()
    h = o.sigmoid() * c.tanh()
    return h, (h, c)
