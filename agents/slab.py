"""Shared memory between the main process and the actors; it holds the environments' latest step."""

import multiprocessing
from ctypes import c_uint8
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64  # bytes; a cache line


class Slab(NamedTuple):
    """Views into the shared memory. The main process writes `action`, the actors the rest; they take turns."""

    action: NDArray[np.int64]  # [E]
    observation: NDArray[np.uint8]  # [E, C, H, W]
    reward: NDArray[np.float32]  # [E]
    first: NDArray[np.bool_]  # [E]
    episode_over: NDArray[np.bool_]  # [E]
    episode_return: NDArray[np.float64]  # [E]
    episode_length: NDArray[np.int32]  # [E]   agent steps
    busy_seconds: NDArray[np.float64]  # [E]   spent stepping the environment; those of an actor share its time evenly

    def part(self, rows: slice) -> "Slab":
        """Return the views of some environments."""
        return Slab._make(field[rows] for field in self)


def allocate(num_envs: int, observation_shape: tuple[int, int, int]) -> Any:
    """Return anonymous shared memory for E environments, to pass to a spawned process as an argument.

    It has no name in the file system, so the kernel frees it when its last user ends, even after a crash.
    """
    return multiprocessing.get_context("spawn").RawArray(c_uint8, num_bytes(num_envs, observation_shape))


def num_bytes(num_envs: int, observation_shape: tuple[int, int, int]) -> int:
    """Return the bytes of shared memory that E environments need."""
    return _layout(num_envs, observation_shape)[0]


def view(memory: Any, num_envs: int, observation_shape: tuple[int, int, int]) -> Slab:
    """Return the fields in memory from `allocate`, as views. The sizes must be the same as there."""
    _, fields = _layout(num_envs, observation_shape)
    return Slab(*(np.ndarray(shape, dtype, memory, offset) for shape, dtype, offset in fields))


def _layout(
    num_envs: int, observation_shape: tuple[int, int, int]
) -> tuple[int, list[tuple[tuple[int, ...], np.dtype[Any], int]]]:
    """Return the total bytes, and (shape, dtype, offset) of each field of Slab."""
    kinds = (np.int64, np.uint8, np.float32, np.bool_, np.bool_, np.float64, np.int32, np.float64)
    shapes: list[tuple[int, ...]] = [(num_envs,)] * len(Slab._fields)
    shapes[Slab._fields.index("observation")] = (num_envs, *observation_shape)
    fields, offset = [], 0
    for shape, kind in zip(shapes, kinds, strict=True):
        dtype = np.dtype(kind)
        fields.append((shape, dtype, offset))
        size = int(np.prod(shape)) * dtype.itemsize
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    return offset, fields
