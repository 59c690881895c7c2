"""The encoder interface: observations in, one feature vector per observation out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class EncoderConfig(ABC):
    """Settings of one encoder; each module of `models/encoders` holds a subclass named `Config`."""

    @abstractmethod
    def build(self, observation_shape: tuple[int, int, int]) -> "Encoder":
        """Build the encoder for observations of shape (C, H, W). Raises ValueError if they are too small."""


class Encoder(nn.Module, ABC):
    """Maps each observation to a feature vector, independently of time."""

    output_size: int

    @abstractmethod
    def forward(self, observation: Tensor) -> Tensor:
        """Encode observations: uint8 [N, C, H, W] -> float [N, output_size], float32 except under autocast."""


def scaled(observation: Tensor) -> Tensor:
    """Scale a uint8 observation from 0..255 to 0..1, in autocast's data type if autocast is on.

    Whole numbers up to 255 are exact in bfloat16, so casting first loses nothing and halves the memory traffic.
    """
    device = observation.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return observation.to(dtype).mul_(1 / 255)


def laid_out(observation: Tensor, training: bool) -> Tensor:
    """Return the observations in the memory layout that is fastest for convolutions with few channels.

    In float32, channels last cuts the time of a forward and backward pass by a fifth. It is slower without a backward
    pass, and in bfloat16 on a CPU.
    """
    if training and not torch.is_autocast_enabled("cpu"):
        return observation.contiguous(memory_format=torch.channels_last)
    return observation
