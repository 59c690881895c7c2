"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000), the paper's baseline."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from rfwp.cuda.gated import lstm
from rfwp.models.core import State
from rfwp.models.gated import GatedConfig, GatedCore


@dataclass(frozen=True)
class Config(GatedConfig):
    """Settings of the LSTM."""

    def build(self, input_size: int) -> "LSTM":
        return LSTM(input_size, self)


class LSTM(GatedCore[nn.LSTMCell]):
    """i, f, u, o = W x + R h_{t-1} + b;  c_t = σ(f) c_{t-1} + σ(i) tanh(u);  h_t = σ(o) tanh(c_t).

    The state holds h and c [B, hidden_size] of each layer.
    """

    leaf_names = ("h", "c")

    def __init__(self, input_size: int, config: Config) -> None:
        cells = (nn.LSTMCell(size, config.hidden_size) for size in config.input_sizes(input_size))
        super().__init__(config, cells)

    def cell_step(self, cell: nn.LSTMCell, x: Tensor, state: State) -> State:
        h, c = cell(x, state)
        return h, c

    def project(self, cell: nn.LSTMCell, x: Tensor) -> Tensor:
        return linear(x, cell.weight_ih, cell.bias_ih + cell.bias_hh)

    def advance(self, cell: nn.LSTMCell, gates: Tensor, state: State) -> State:
        h, c = state
        i, f, u, o = torch.addmm(gates, h, cell.weight_hh.t()).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * u.tanh()
        return o.sigmoid() * c.tanh(), c

    def fused(self, cell: nn.LSTMCell, gates: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        h, c = state
        output, h, c = lstm(gates, cell.weight_hh, h, c, first, gradient_horizon=self.gradient_horizon)
        return output, (h, c)
