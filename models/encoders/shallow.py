"""Small convolutional network of IMPALA (Espeholt et al. 2018, figure 3, left): two convolutions, fast on a CPU."""

from dataclasses import dataclass

from torch import Tensor, nn

from rfwp.checks import check
from rfwp.models.encoder import Encoder, EncoderConfig, laid_out, scaled


@dataclass(frozen=True)
class Config(EncoderConfig):
    """Settings of the small convolutional network."""

    size: int = 256
    """Number of features."""

    def __post_init__(self) -> None:
        check(self.size >= 1, "size", self.size, "1 or more")

    def build(self, image_shape: tuple[int, ...]) -> "Shallow":
        return Shallow(image_shape, self.size)


class Shallow(Encoder):
    """16 filters 8x8 stride 4, 32 filters 4x4 stride 2, a linear layer; a ReLU after each.

    Raises ValueError if images have fewer than 20 x 20 pixels.
    """

    def __init__(self, image_shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        channels, *sides = image_shape
        check(min(sides) >= 20, "image_shape", image_shape, "20 x 20 pixels or more for the shallow encoder")
        rows, columns = (((side - 8) // 4 + 1 - 4) // 2 + 1 for side in sides)
        self.output_size = size
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * rows * columns, size),
            nn.ReLU(),
        )

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(scaled(laid_out(image, self.training)))
        return features
