"""The network for supervised sequence tasks: embedding, memory core, softmax."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from rfwp.checks import check, check_choice
from rfwp.models.core import CoreConfig, State
from rfwp.models.positions import sinusoidal
from rfwp.models.softmax_head import SoftmaxHead

Positions = Literal["none", "backwards"]
Initialisation = Literal["default", "normal"]


@dataclass(frozen=True)
class SequenceModelConfig:
    """Settings of the layers around the core. The defaults are those of the published algorithmic tasks."""

    embedding_size: int = 256
    """Size of a token's embedding. Without --core.input_layer, the core's hidden_size."""

    embedding_scale: bool = False
    """Multiply embeddings by √embedding_size, as in the published language models."""

    positions: Positions = "none"
    """backwards: add sinusoidal encodings of how many tokens of the segment follow, as in the published language
    models; none."""

    dropout: float = 0.0
    """Dropout probability of embeddings and of the core's output."""

    tied: bool = False
    """The softmax shares the weights of the embedding. The vocabularies must be the same, and embedding_size the size
    of the core's output."""

    cutoffs: tuple[int, ...] = ()
    """Adaptive softmax: first class of each cluster of rarer classes; [] for a full softmax. Cut-offs beyond the
    vocabulary are left out. Published for WikiText-103: [20000, 40000, 200000]."""

    initialisation: Initialisation = "default"
    """default: PyTorch's weights. normal: weights N(0, 0.02), LayerNorm gains N(1, 0.02) and no biases, as in the
    published language models."""

    def __post_init__(self) -> None:
        check(self.embedding_size >= 1, "embedding_size", self.embedding_size, "1 or more")
        even = self.positions == "none" or self.embedding_size % 2 == 0
        check(even, "embedding_size", self.embedding_size, "an even number with positions")
        check(0 <= self.dropout < 1, "dropout", self.dropout, "0 up to, not including, 1")
        rising = all(low < high for low, high in pairwise((0, *self.cutoffs)))
        check(rising, "cutoffs", list(self.cutoffs), "rising whole numbers above 0")
        check_choice("positions", self.positions, Positions)
        check_choice("initialisation", self.initialisation, Initialisation)

    def build(self, core: CoreConfig, tokens: int, classes: int) -> "SequenceModel":
        """Build a model of vocabularies of these sizes. Raises ValueError, naming the setting, if it cannot be tied."""
        return SequenceModel(self, core, tokens, classes)


class SequenceModel(nn.Module):
    """Embedding, core, and a softmax head that is applied to the tokens that count only."""

    def __init__(self, config: SequenceModelConfig, core: CoreConfig, tokens: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, config.embedding_size)
        self.scale = math.sqrt(config.embedding_size) if config.embedding_scale else 1.0
        self.positions = config.positions
        self.dropout = nn.Dropout(config.dropout)
        self.core = core.build(config.embedding_size)
        size = self.core.output_size
        if config.tied:
            check(tokens == classes, "tied", True, "false, because inputs and outputs are different tokens")
            check(size == config.embedding_size, "embedding_size", config.embedding_size, f"{size} if tied")
        weight = self.embedding.weight if config.tied else nn.Linear(size, classes, bias=False).weight
        self.head = SoftmaxHead(weight, tuple(cutoff for cutoff in config.cutoffs if cutoff < classes))
        if config.initialisation == "normal":
            self.apply(_initialise)

    def initial_state(self, batch_size: int) -> State:
        """Return the core's state at the start of a sequence, each leaf [B, ...]."""
        return self.core.initial_state(batch_size)

    def forward(self, token: Tensor, first: Tensor, state: State) -> tuple[Tensor, State]:
        """Read T tokens of B rows: int64 token [T, B], bool first [T, B] -> hidden [T, B, D] for the head, final state.

        Where first[t, b] is set, token[t, b] starts a sequence, and the row's state is cleared before it.
        """
        x = self.embedding(token) * self.scale  # [T, B, E]
        if self.positions == "backwards":
            follow = torch.arange(len(token) - 1, -1, -1, dtype=x.dtype, device=x.device)
            x = x + sinusoidal(follow, x.shape[-1]).unsqueeze(1)
        hidden, state = self.core(self.dropout(x), state, first)
        return self.dropout(hidden), state


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear | nn.Embedding | SoftmaxHead):
        nn.init.normal_(layer.weight, std=0.02)
    if isinstance(layer, nn.LayerNorm):
        nn.init.normal_(layer.weight, mean=1.0, std=0.02)
    if isinstance(layer, nn.Linear | nn.LayerNorm) and layer.bias is not None:
        nn.init.zeros_(layer.bias)
