"""What an encoder is: frames in, one feature vector a frame out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class EncoderConfig(ABC):
    """Settings of one encoder; each module of `models/encoders` holds a subclass named `Config`."""

    @abstractmethod
    def build(self, frame_shape: tuple[int, int, int]) -> "Encoder":
        """Make the encoder for frames of shape (C, H, W); ValueError where they are too small for it."""


class Encoder(nn.Module, ABC):
    """Turns each frame into a feature vector; knows nothing of time."""

    output_size: int

    @abstractmethod
    def forward(self, frame: Tensor) -> Tensor:
        """Encode frame: uint8 [N, C, H, W] -> float [N, output_size]; float32 unless run under autocast."""


def scaled(frame: Tensor) -> Tensor:
    """Map frame uint8 0..255 to 0..1, in autocast's precision where that is on.

    Whole numbers up to 255 are exact in bfloat16, so casting first loses nothing and halves the memory traffic.
    """
    device = frame.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return frame.to(dtype).mul_(1 / 255)


def laid_out(frame: Tensor, training: bool) -> Tensor:
    """Give the same frames in the memory layout in which convolutions with few channels are quickest.

    Channels last takes a fifth off the forward and backward pass in float32. Without a backward pass it is slower, and
    so it is in bfloat16 on a CPU.
    """
    if training and not torch.is_autocast_enabled("cpu"):
        return frame.contiguous(memory_format=torch.channels_last)
    return frame
