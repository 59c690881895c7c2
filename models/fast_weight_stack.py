"""The network around fast weight memories: an input layer and pre-norm residual blocks."""

from collections.abc import Callable, Iterable
from typing import cast

from torch import Tensor, nn

from rfwp.models.core import Core, State
from rfwp.models.fast_weights import FastMemory, FastWeightConfig


class FastWeightStack(Core):
    """Linear layer to hidden_size, then num_layers blocks, each with its own memory (Irie et al. 2021).

    No LayerNorm at the end: the output is the residual stream. The state holds each layer's leaves in turn.
    """

    def __init__(self, input_size: int, config: FastWeightConfig, memory: Callable[[], FastMemory]) -> None:
        super().__init__()
        self.output_size = config.hidden_size
        self.gradient_horizon = config.gradient_horizon
        self.input = nn.Linear(input_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, memory()) for _ in range(config.num_layers))
        self.state_shapes = tuple(shape for block in self._layers() for shape in block.memory.state_shapes)
        layers = enumerate(self._layers(), start=1)
        self.state_names = tuple(f"layer {n} {name}" for n, block in layers for name in block.memory.leaf_names)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        x = self.input(x)
        after: State = ()
        for block, before in zip(self._layers(), self._split(state), strict=True):
            x, leaves = block.step(x, before)
            after += leaves
        return x, after

    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        x = self.input(x)
        after: State = ()
        for block, before in zip(self._layers(), self._split(state), strict=True):
            x, leaves = block(x, before, first)
            after += leaves
        return x, after

    def _layers(self) -> Iterable["Block"]:
        return cast(Iterable[Block], self.blocks)

    def _split(self, state: State) -> list[State]:
        """Split the flat state into the leaves of each layer."""
        leaves = len(state) // len(self.blocks)
        return [state[start : start + leaves] for start in range(0, len(state), leaves)]


class Block(nn.Module):
    """x ← x + Drop(W_o memory(LN(x))); x ← x + FF(LN(x)), with FF = Linear, ReLU, Drop, Linear, Drop."""

    def __init__(self, config: FastWeightConfig, memory: FastMemory) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.feedforward_size
        self.memory_norm = nn.LayerNorm(hidden)
        self.memory = memory
        self.output = nn.Sequential(nn.Linear(hidden, hidden, bias=False), nn.Dropout(config.dropout))
        self.feedforward = nn.Sequential(
            nn.LayerNorm(hidden),
            nn.Linear(hidden, inner),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(inner, hidden),
            nn.Dropout(config.dropout),
        )

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one agent step: x [B, hidden_size]."""
        y, state = self.memory.step(self.memory_norm(x), state)
        return self._add(x, y), state

    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        """Advance T agent steps: x [T, B, hidden_size], first [T, B]."""
        y, state = self.memory(self.memory_norm(x), state, first)
        return self._add(x, y), state

    def _add(self, x: Tensor, y: Tensor) -> Tensor:
        x = x + self.output(y)
        change: Tensor = self.feedforward(x)
        return x + change
