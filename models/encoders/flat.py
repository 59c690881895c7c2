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

    def build(self, image_shape: tuple[int, ...]) -> "Flat":
        return Flat(image_shape, self.size)


class Flat(Encoder):
    """Flatten, linear layer, ReLU."""

    def __init__(self, image_shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        self.output_size = size
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), size), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(scaled(image))
        return features
