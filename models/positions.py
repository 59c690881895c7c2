"""Sinusoidal position encodings (Vaswani et al. 2017, section 3.5)."""

import torch
from torch import Tensor


def sinusoidal(position: Tensor, size: int) -> Tensor:
    """Encode positions [...] as vectors [..., size]: sines of size / 2 frequencies, then their cosines.

    The wavelengths form a geometric progression from 2π to 20,000π. `size` must be even.
    """
    exponents = torch.arange(0, size, 2, dtype=position.dtype, device=position.device) / size
    angles = position.unsqueeze(-1) * 10_000.0**-exponents
    return torch.cat([angles.sin(), angles.cos()], -1)
