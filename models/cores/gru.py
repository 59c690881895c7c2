"""Gated recurrent unit (Cho et al. 2014), in PyTorch's form: the reset gate acts after the recurrent weights."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from rfwp.cuda.gated import gru
from rfwp.models.core import State
from rfwp.models.gated import GatedConfig, GatedCore


@dataclass(frozen=True)
class Config(GatedConfig):
    """Settings of the GRU."""

    def build(self, input_size: int) -> "GRU":
        return GRU(input_size, self)


class GRU(GatedCore[nn.GRUCell]):
    """r, z, u = W x + b;  r', z', u' = R h_{t-1} + b';  n = tanh(u + σ(r + r') u');  h_t = n + σ(z + z') (h_{t-1} − n).

    The state holds h [B, hidden_size] of each layer.
    """

    leaf_names = ("h",)

    def __init__(self, input_size: int, config: Config) -> None:
        cells = (nn.GRUCell(size, config.hidden_size) for size in config.input_sizes(input_size))
        super().__init__(config, cells)

    def cell_step(self, cell: nn.GRUCell, x: Tensor, state: State) -> State:
        return (cell(x, state[0]),)

    def project(self, cell: nn.GRUCell, x: Tensor) -> Tensor:
        return linear(x, cell.weight_ih, cell.bias_ih)

    def advance(self, cell: nn.GRUCell, gates: Tensor, state: State) -> State:
        (h,) = state
        size = h.shape[-1]
        from_input, new_input = gates.split_with_sizes([2 * size, size], -1)
        from_past, new_past = linear(h, cell.weight_hh, cell.bias_hh).split_with_sizes([2 * size, size], -1)
        r, z = (from_input + from_past).sigmoid().chunk(2, -1)
        n = torch.addcmul(new_input, r, new_past).tanh()
        return (torch.lerp(n, h, z),)

    def fused(self, cell: nn.GRUCell, gates: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        (h,) = state
        output, h = gru(gates, cell.weight_hh, cell.bias_hh, h, first, gradient_horizon=self.gradient_horizon)
        return output, (h,)
