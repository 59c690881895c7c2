"""Shared parts of the gated cores: settings, a stack of PyTorch cells, and a fast unroll over them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar, cast

from torch import Tensor, nn

from rfwp.checks import check
from rfwp.cuda.available import available
from rfwp.models.core import Core, CoreConfig, State, check_horizon, unroll

Cell = TypeVar("Cell", bound=nn.RNNCellBase)


@dataclass(frozen=True)
class GatedConfig(CoreConfig):
    """Settings of the gated cores."""

    hidden_size: int = 256
    """Size of each layer's output."""

    num_layers: int = 1
    """Number of layers, each reading the one below."""

    gradient_horizon: int | None = None
    """Agent steps after which gradients through the recurrent state stop; null for no limit within the unroll."""

    def __post_init__(self) -> None:
        check(self.hidden_size >= 1, "hidden_size", self.hidden_size, "1 or more")
        check(self.num_layers >= 1, "num_layers", self.num_layers, "1 or more")
        check_horizon(self.gradient_horizon)

    def input_sizes(self, input_size: int) -> list[int]:
        """Return the input size of each layer."""
        return [input_size] + [self.hidden_size] * (self.num_layers - 1)


class GatedCore(Core, ABC, Generic[Cell]):
    """A stack of cells. The state holds each cell's leaves [B, hidden_size] in turn; a cell's first leaf is its output.

    A subclass names a cell's leaves and defines its step twice: as `cell_step`, and split in two for speed. `project`
    needs no state, so it is one matrix product for the whole unroll; `advance` is the rest, inside the loop.
    """

    leaf_names: tuple[str, ...]

    def __init__(self, config: GatedConfig, cells: Iterable[Cell]) -> None:
        super().__init__()
        self.output_size = config.hidden_size
        layers = range(1, config.num_layers + 1)
        self.state_names = tuple(f"layer {layer} {name}" for layer in layers for name in self.leaf_names)
        self.state_shapes = ((config.hidden_size,),) * len(self.state_names)
        self.gradient_horizon = config.gradient_horizon
        self.layers = nn.ModuleList(cells)

    @abstractmethod
    def cell_step(self, cell: Cell, x: Tensor, state: State) -> State:
        """Advance one cell by one agent step: x [B, D]. This defines the cell."""

    @abstractmethod
    def project(self, cell: Cell, x: Tensor) -> Tensor:
        """Compute the input's part of the gates: x [T, B, D] -> [T, B, gates * hidden_size]."""

    @abstractmethod
    def advance(self, cell: Cell, gates: Tensor, state: State) -> State:
        """Finish a step, given the input's part of the gates: [B, gates * hidden_size]."""

    @abstractmethod
    def fused(self, cell: Cell, gates: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        """Run `advance` over all steps, with kernels.

        gates: [T, B, gates * hidden_size]; first: [T, B] -> y [T, B, hidden_size], final state.
        """

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        after: State = ()
        for cell, before in self._cells(state):
            leaves = self.cell_step(cell, x, before)
            x, after = leaves[0], after + leaves
        return x, after

    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        after: State = ()
        for cell, before in self._cells(state):
            gates = self.project(cell, x)
            if available(x.device.type, before[0].dtype):
                x, leaves = self.fused(cell, gates, before, first)
            else:
                loop = partial(self.advance_and_read, cell)
                x, leaves = unroll(loop, (gates,), before, first, self.gradient_horizon)
            after += leaves
        return x, after

    def advance_and_read(self, cell: Cell, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        state = self.advance(cell, inputs[0], state)
        return state[0], state

    def _cells(self, state: State) -> list[tuple[Cell, State]]:
        """Pair each cell with its leaves of the flat state."""
        leaves = len(state) // len(self.layers)
        starts = range(0, len(state), leaves)
        cells = cast(Iterable[Cell], self.layers)
        return [(cell, state[start : start + leaves]) for cell, start in zip(cells, starts, strict=True)]
