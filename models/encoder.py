"""The encoder interface: one field of an observation in, one feature vector out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class EncoderConfig(ABC):
    """Settings of an encoder of images; each module of `models/encoders` holds a subclass named `Config`."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of features."""

    @abstractmethod
    def build(self, image_shape: tuple[int, ...]) -> "Encoder":
        """Build the encoder for images of shape (C, H, W). Raises ValueError if they are too small."""


class Encoder(nn.Module, ABC):
    """Maps a field of each observation to a feature vector, independently of time."""

    output_size: int
    reduced_precision: ClassVar[bool] = True  # may run in bfloat16; whole numbers up to 255 are exact in it

    @abstractmethod
    def forward(self, observation: Tensor) -> Tensor:
        """Encode observations: images uint8 [N, C, H, W] -> float [N, output_size], float32 except under autocast."""


def scaled(image: Tensor) -> Tensor:
    """Scale uint8 images from 0..255 to 0..1, in autocast's data type if autocast is on.

    Whole numbers up to 255 are exact in bfloat16, so casting first loses nothing and halves the memory traffic.
    """
    device = image.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return image.to(dtype).mul_(1 / 255)


def laid_out(image: Tensor, training: bool) -> Tensor:
    """Return the images in the memory layout that is fastest for convolutions with few channels.

    In float32, channels last cuts the time of a forward and backward pass by a fifth. It is slower without a backward
    pass, and in bfloat16 on a CPU.
    """
    if training and not torch.is_autocast_enabled("cpu"):
        return image.contiguous(memory_format=torch.channels_last)
    return image
