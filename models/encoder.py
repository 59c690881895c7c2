"""What an encoder is: observations in, one feature vector an observation out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class EncoderConfig(ABC):
    """Settings of one encoder; each module of `models/encoders` holds a subclass named `Config`."""

    @abstractmethod
    def build(self, observation_shape: tuple[int, int, int]) -> "Encoder":
        """Make the encoder for observations of shape (C, H, W); ValueError where they are too small for it."""


class Encoder(nn.Module, ABC):
    """Turns each observation into a feature vector; knows nothing of time."""

    output_size: int

    @abstractmethod
    def forward(self, observation: Tensor) -> Tensor:
        """Encode observation: uint8 [N, C, H, W] -> float [N, output_size]; float32 unless run under autocast."""


def scaled(observation: Tensor) -> Tensor:
    """Map observation uint8 0..255 to 0..1, in autocast's precision where that is on.

    Whole numbers up to 255 are exact in bfloat16, so casting first loses nothing and halves the memory traffic.
    """
    device = observation.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return observation.to(dtype).mul_(1 / 255)


def laid_out(observation: Tensor, training: bool) -> Tensor:
    """Give the same observations in the memory layout in which convolutions with few channels are quickest.

    Channels last takes a fifth off the forward and backward pass in float32. Without a backward pass it is slower, and
    so it is in bfloat16 on a CPU.
    """
    if training and not torch.is_autocast_enabled("cpu"):
        return observation.contiguous(memory_format=torch.channels_last)
    return observation
