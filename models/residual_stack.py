"""The network around the memories of a deep core: an input layer and residual blocks, each with a memory."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from rfwp.checks import check, check_choice
from rfwp.models.core import Core, CoreConfig, State

BlockName = Literal["pre_norm", "normalised_residual", "post_norm"]


@dataclass(frozen=True)
class StackConfig(CoreConfig):
    """Settings of all cores made of residual blocks; a core's own Config may change the defaults and add settings."""

    hidden_size: int = 128
    """Size of the residual stream, divided among the heads."""

    num_layers: int = 2
    """Number of blocks, each a memory and a feed-forward network."""

    num_heads: int = 4
    """Number of independent memories per layer."""

    feedforward_size: int = 512
    """Hidden size of the feed-forward network in each block."""

    dropout: float = 0.0
    """Dropout probability in each block. It applies only in train() mode, so the acting policy, in eval() mode, differs
    slightly from the one that learns."""

    block: BlockName = "pre_norm"
    """Place of the LayerNorms: pre_norm, before the memory and the feed-forward network; normalised_residual, the same,
    but the memory's residual is its normalised input, as in the published language models; post_norm, after each."""

    input_layer: bool = True
    """Linear layer from the input to hidden_size. Without it, the input must already have that size."""

    def __post_init__(self) -> None:
        width, heads = self.hidden_size, self.num_heads
        check(self.num_layers >= 1, "num_layers", self.num_layers, "1 or more")
        check(heads >= 1, "num_heads", heads, "1 or more")
        check(width >= 1 and width % heads == 0, "hidden_size", width, f"a multiple of num_heads = {heads}")
        check(self.feedforward_size >= 1, "feedforward_size", self.feedforward_size, "1 or more")
        check(0 <= self.dropout < 1, "dropout", self.dropout, "0 up to, not including, 1")
        check_choice("block", self.block, BlockName)

    @property
    def head_size(self) -> int:
        """Size of the queries and values of one head."""
        return self.hidden_size // self.num_heads


class Memory(nn.Module, ABC):
    """What mixes the agent steps of a sequence in a block. Its state has leaves [B, *shape], one per state_shapes.

    A subclass defines `forward`, and `step` unless its core's own `step` does without.
    """

    state_shapes: tuple[tuple[int, ...], ...]
    leaf_names: tuple[str, ...]  # display name of each leaf
    gradient_horizon: int | None = None  # see `unroll`

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one agent step: x [B, hidden_size] -> y [B, hidden_size], new state."""
        raise NotImplementedError

    @abstractmethod
    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        """Advance T agent steps: x [T, B, hidden_size], first [T, B] -> y [T, B, hidden_size], final state."""


class Block(nn.Module):
    """x ← x + Drop(W_o memory(LN(x))); x ← x + FF(LN(x)), with FF = Linear, ReLU, Drop, Linear, Drop."""

    def __init__(self, config: StackConfig, memory: Memory, output_bias: bool) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.feedforward_size
        self.memory_norm = nn.LayerNorm(hidden)
        self.memory = memory
        self.output = nn.Sequential(nn.Linear(hidden, hidden, bias=output_bias), nn.Dropout(config.dropout))
        self.feedforward_norm = nn.LayerNorm(hidden)
        self.feedforward = nn.Sequential(
            nn.Linear(hidden, inner),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(inner, hidden),
            nn.Dropout(config.dropout),
        )

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one agent step: x [B, hidden_size]."""
        return self._around(x, lambda inputs: self.memory.step(inputs, state))

    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        """Advance T agent steps: x [T, B, hidden_size], first [T, B]."""
        return self._around(x, lambda inputs: self.memory(inputs, state, first))

    def _around(self, x: Tensor, memory: Callable[[Tensor], tuple[Tensor, State]]) -> tuple[Tensor, State]:
        """Apply the block's layers around its memory."""
        y, state = memory(self.memory_norm(x))
        x = x + self.output(y)
        return x + self.feedforward(self.feedforward_norm(x)), state


class NormalisedResidualBlock(Block):
    """h = LN(x); x ← h + Drop(W_o memory(h)); x ← x + FF(LN(x))."""

    def _around(self, x: Tensor, memory: Callable[[Tensor], tuple[Tensor, State]]) -> tuple[Tensor, State]:
        x = self.memory_norm(x)
        y, state = memory(x)
        x = x + self.output(y)
        return x + self.feedforward(self.feedforward_norm(x)), state


class PostNormBlock(Block):
    """x ← LN(x + Drop(W_o memory(x))); x ← LN(x + FF(x))."""

    def _around(self, x: Tensor, memory: Callable[[Tensor], tuple[Tensor, State]]) -> tuple[Tensor, State]:
        y, state = memory(x)
        x = self.memory_norm(x + self.output(y))
        return self.feedforward_norm(x + self.feedforward(x)), state


_BLOCKS = {"pre_norm": Block, "normalised_residual": NormalisedResidualBlock, "post_norm": PostNormBlock}


class ResidualStack(Core):
    """Linear layer to hidden_size, then num_layers blocks, each with its own memory (Irie et al. 2021).

    No LayerNorm at the end: the output is the residual stream. The state holds each layer's leaves in turn.
    """

    def __init__(
        self, input_size: int, config: StackConfig, memory: Callable[[], Memory], output_bias: bool = False
    ) -> None:
        """Build the stack. memory: builds one layer's memory; output_bias: each block's W_o has a bias."""
        super().__init__()
        hidden = config.hidden_size
        if not config.input_layer:
            check(input_size == hidden, "hidden_size", hidden, f"{input_size}, the input's size, without input_layer")
        self.output_size = hidden
        self.input = nn.Linear(input_size, hidden) if config.input_layer else nn.Identity()
        block = _BLOCKS[config.block]
        self.blocks = nn.ModuleList(block(config, memory(), output_bias) for _ in range(config.num_layers))
        self.gradient_horizon = self._layers()[0].memory.gradient_horizon
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
        return self.run_blocks(self.input(x), state, first)

    def run_blocks(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        """Advance T agent steps from the residual stream after the input layer: x [T, B, hidden_size]."""
        after: State = ()
        for block, before in zip(self._layers(), self._split(state), strict=True):
            x, leaves = block(x, before, first)
            after += leaves
        return x, after

    def _layers(self) -> Sequence[Block]:
        return cast(Sequence[Block], self.blocks)

    def _split(self, state: State) -> list[State]:
        """Split the flat state into the leaves of each layer."""
        leaves = len(state) // len(self.blocks)
        return [state[start : start + leaves] for start in range(0, len(state), leaves)]
