"""Residual network of IMPALA (Espeholt et al. 2018, figure 3, right): 15 convolutions, the paper's encoder."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rfwp.checks import check
from rfwp.models.encoder import Encoder, EncoderConfig, scaled


@dataclass(frozen=True)
class Config(EncoderConfig):
    """Settings of the residual network."""

    channels: tuple[int, ...] = (16, 32, 32)
    """Number of filters in each stage; every stage halves the height and the width."""

    size: int = 256
    """Number of features."""

    def __post_init__(self) -> None:
        check(len(self.channels) >= 1, "channels", self.channels, "one stage or more")
        check(min(self.channels) >= 1, "channels", self.channels, "1 filter or more in every stage")
        check(self.size >= 1, "size", self.size, "1 or more")

    def build(self, image_shape: tuple[int, ...]) -> "Impala":
        return Impala(image_shape, self.channels, self.size)


class Impala(Encoder):
    """Stages of one convolution, max pooling with stride 2 and two residual blocks; then ReLU, linear layer, ReLU."""

    def __init__(self, image_shape: tuple[int, ...], channels: tuple[int, ...], size: int) -> None:
        super().__init__()
        below, rows, columns = image_shape
        stages = []
        for filters in channels:
            stages.append(_stage(below, filters))
            below, rows, columns = filters, (rows + 1) // 2, (columns + 1) // 2
        self.output_size = size
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(below * rows * columns, size), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        # Channels last for acting too: on a CPU this encoder, unlike smaller ones, is faster with it either way, and
        # tensor cores prefer it.
        channels_last = image.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.head(self.stages(scaled(channels_last)))
        return features


def _stage(channels: int, filters: int) -> nn.Sequential:
    """Map [N, channels, H, W] to [N, filters, ⌈H/2⌉, ⌈W/2⌉]."""
    return nn.Sequential(
        Convolution(channels, filters),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        Residual(filters),
        Residual(filters),
    )


class Residual(nn.Module):
    """x + convolution(ReLU(convolution(ReLU(x)))), same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(), Convolution(channels, channels), nn.ReLU(), Convolution(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.branch(x)
        return x + change


class Convolution(nn.Conv2d):
    """A 3 x 3 convolution that pads its input on a GPU with channels of zeros, up to a multiple of 8.

    cuDNN needs that to use tensor cores in bfloat16. For 4 channels it falls back to kernels that are far slower.
    """

    MULTIPLE = 8

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__(channels, filters, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        missing = -x.shape[1] % self.MULTIPLE
        if missing == 0 or x.device.type != "cuda":
            return super().forward(x)
        more = (0, 0, 0, 0, 0, missing)
        return functional.conv2d(functional.pad(x, more), functional.pad(self.weight, more), self.bias, padding=1)
