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
    allowed = f"int64 [{num_envs}, {len(sizes)}] of {_ranges(sizes)}"
    if not isinstance(action, np.ndarray):
        raise ValueError(f"action: got {type(action).__name__}; allowed: {allowed}")
    if action.shape != (num_envs, len(sizes)) or action.dtype not in (np.int64, np.int32):
        raise ValueError(f"action: got {action.dtype} {list(action.shape)}; allowed: {allowed}")
    if (invalid := _out_of_range(action, sizes)).any():
        raise ValueError(f"action: got {action[invalid][0].tolist()}; allowed: {allowed}")


def check_field(field: Field, value: NDArray[Any]) -> None:
    """Raise ValueError unless `value` [E, ...] is finite and as the field says: its shape, its type and its range."""
    if value.shape[1:] != field.shape or value.dtype != field.dtype:
        got, declared = f"{value.dtype} {list(value.shape[1:])}", f"{field.dtype} {list(field.shape)}"
        raise ValueError(f"observation: {field.name} is {got}; declared: {declared}")
    if field.kind == "vector" and not (finite := np.isfinite(value)).all():
        raise ValueError(f"observation: {field.name} has {value[~finite][0]}; allowed: finite numbers")
    if field.kind == "categories" and (invalid := _out_of_range(value, field.sizes)).any():
        raise ValueError(f"observation: {field.name} is {value[invalid][0].tolist()}; declared: {_ranges(field.sizes)}")


def _out_of_range(choices: NDArray[np.integer], sizes: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which rows of choices [E, K] have a column k that is not from 0 to sizes[k] - 1, [E]."""
    return np.asarray(((choices < 0) | (choices >= sizes)).any(axis=1))


def _ranges(sizes: tuple[int, ...]) -> str:
    return ", ".join(f"0 to {size - 1}" for size in sizes)
