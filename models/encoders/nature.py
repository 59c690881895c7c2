"""Convolutional network of DQN (Mnih et al. 2015, Nature): three convolutions; most published agents use it."""

from dataclasses import dataclass

from torch import Tensor, nn

from rfwp.checks import check
from rfwp.models.encoder import Encoder, EncoderConfig, laid_out, scaled


@dataclass(frozen=True)
class Config(EncoderConfig):
    """Settings of the convolutional network of DQN."""

    size: int = 512
    """Number of features."""

    def __post_init__(self) -> None:
        check(self.size >= 1, "size", self.size, "1 or more")

    def build(self, image_shape: tuple[int, ...]) -> "Nature":
        return Nature(image_shape, self.size)


class Nature(Encoder):
    """32 filters 8x8 stride 4, 64 filters 4x4 stride 2, 64 filters 3x3, a linear layer; a ReLU after each.

    Raises ValueError if images have fewer than 36 x 36 pixels.
    """

    def __init__(self, image_shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        channels, *sides = image_shape
        check(min(sides) >= 36, "image_shape", image_shape, "36 x 36 pixels or more for the nature encoder")
        rows, columns = (((side - 8) // 4 + 1 - 4) // 2 + 1 - 2 for side in sides)
        self.output_size = size
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * rows * columns, size),
            nn.ReLU(),
        )

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(scaled(laid_out(image, self.training)))
        return features
