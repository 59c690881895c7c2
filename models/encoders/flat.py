"""One linear layer over all pixels, for toy tasks with small observations."""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from rfwp.checks import check
from rfwp.models.encoder import Encoder, EncoderConfig, scaled


@dataclass(frozen=True)
class Config(EncoderConfig):
    """Settings of the linear encoder."""

    size: int = 64
    """Number of features."""

    def __post_init__(self) -> None:
        check(self.size >= 1, "size", self.size, "1 or more")

    def build(self, observation_shape: tuple[int, int, int]) -> "Flat":
        return Flat(observation_shape, self.size)


class Flat(Encoder):
    """Flatten, linear layer, ReLU."""

    def __init__(self, observation_shape: tuple[int, int, int], size: int) -> None:
        super().__init__()
        self.output_size = size
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(observation_shape), size), nn.ReLU())

    def forward(self, observation: Tensor) -> Tensor:
        features: Tensor = self.layers(scaled(observation))
        return features
