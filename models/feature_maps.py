"""Feature maps of the queries and keys that address a fast weight matrix."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import elu, relu

from rfwp.checks import check_choice

FeatureMapName = Literal["elu_sum_norm", "softmax", "l2", "elu", "dpfp", "identity"]
FeedbackMapName = Literal["softmax", "l2"]
"""The maps of a layer's own last output, which the fused kernels compute."""


class FeatureMap(NamedTuple):
    """A function of the last axis, and the factor by which it lengthens that axis."""

    apply: Callable[[Tensor], Tensor]  # [..., size] -> [..., growth * size]
    growth: int


def elu_plus_one(z: Tensor) -> Tensor:
    """Return φ(z) = elu(z) + 1, which is positive (Katharopoulos et al. 2020, equation 7)."""
    return elu(z) + 1


def sum_normalised(features: Tensor) -> Tensor:
    """Return S_ε(z) = z / (Σz + 1e-5), whose sum is 1 (Schlag et al. 2021)."""
    return features / (features.sum(-1, keepdim=True) + 1e-5)


def elu_sum_norm(z: Tensor) -> Tensor:
    """Return S_ε(φ(z))."""
    return sum_normalised(elu_plus_one(z))


def softmax(z: Tensor) -> Tensor:
    """Return the softmax over the last axis."""
    return z.softmax(-1)


def l2(z: Tensor) -> Tensor:
    """Return z / √(‖z‖² + 1e-6), of length 1, so a value is read back as large as it was written (Yang et al. 2024)."""
    return z * (z.square().sum(-1, keepdim=True) + 1e-6).rsqrt()


def dpfp(z: Tensor) -> Tensor:
    """Return the sum-normalised deterministic parameter-free projection, ν = 1 (Schlag et al. 2021): d -> 2d."""
    rectified = relu(torch.cat([z, -z], -1))
    return sum_normalised(rectified * rectified.roll(-1, -1))


def identity(z: Tensor) -> Tensor:
    """Return z."""
    return z


_FEATURE_MAPS = {
    "elu_sum_norm": FeatureMap(elu_sum_norm, growth=1),
    "softmax": FeatureMap(softmax, growth=1),
    "l2": FeatureMap(l2, growth=1),
    "elu": FeatureMap(elu_plus_one, growth=1),
    "dpfp": FeatureMap(dpfp, growth=2),
    "identity": FeatureMap(identity, growth=1),
}


def feature_map(name: FeatureMapName) -> FeatureMap:
    """Return a feature map by name. Raises ValueError with the allowed names for an unknown one."""
    check_choice("feature_map", name, FeatureMapName)
    return _FEATURE_MAPS[name]
