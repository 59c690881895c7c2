"""No memory: the heads read the encoder's features directly (the paper's feed-forward baseline)."""

from dataclasses import dataclass

from torch import Tensor

from rfwp.models.core import Core, CoreConfig, State


@dataclass(frozen=True)
class Config(CoreConfig):
    """The feed-forward core has no settings."""

    def build(self, input_size: int) -> "FeedForward":
        return FeedForward(input_size)


class FeedForward(Core):
    """Returns its input."""

    state_shapes = ()

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = input_size

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return x, state

    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        return x, state
