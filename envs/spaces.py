"""What observations and actions consist of. Loads no torch, because actors do not need it."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Observation = tuple[NDArray[Any], ...]  # one array per field, each [E, *field.shape]


class Field(NamedTuple):
    """One part of an observation, such as a picture or a row of numbers.

    The kind sets the type of its numbers, and how an agent reads them:

    image: uint8, channels first.
    vector: float32.
    categories: int64, one or more choices out of a few each.
    """

    name: str
    kind: Literal["image", "vector", "categories"]
    shape: tuple[int, ...]  # of one environment: [C, H, W], [N] or [K]
    sizes: tuple[int, ...] = ()  # [K] number of values of each category, which run from 0; () for other kinds

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its numbers."""
        return np.dtype({"image": np.uint8, "vector": np.float32, "categories": np.int64}[self.kind])


def described(field: Field) -> str:
    """Return a few words about a field, such as "position (vector of 3)"."""
    match field.kind:
        case "image":
            return f"{field.name} (image of {' x '.join(map(str, field.shape))})"
        case "vector":
            return f"{field.name} (vector of {field.shape[0]})"
        case "categories":
            return f"{field.name} (categories of {', '.join(map(str, field.sizes))})"


def check_actions(action: NDArray[np.int64], num_envs: int, sizes: tuple[int, ...]) -> None:
    """Raise ValueError unless `action` is a signed integer array [num_envs, K] whose column k is below sizes[k]."""
    ranges = ", ".join(f"0 to {size - 1}" for size in sizes)
    allowed = f"int64 [{num_envs}, {len(sizes)}] of {ranges}"
    if not isinstance(action, np.ndarray):
        raise ValueError(f"action: got {type(action).__name__}; allowed: {allowed}")
    if action.shape != (num_envs, len(sizes)) or action.dtype not in (np.int64, np.int32):
        raise ValueError(f"action: got {action.dtype} {list(action.shape)}; allowed: {allowed}")
    invalid = ((action < 0) | (action >= sizes)).any(axis=1)
    if invalid.any():
        raise ValueError(f"action: got {action[invalid][0].tolist()}; allowed: {allowed}")
