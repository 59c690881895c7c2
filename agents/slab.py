"""Shared memory between the main process and the actors; it holds the environments' latest step."""

import math
import multiprocessing
from ctypes import c_uint8
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rfwp.envs.spaces import Observation
from rfwp.envs.vector_env import EnvSpec

ALIGNMENT = 64  # bytes; a cache line


class Slab(NamedTuple):
    """Views into the shared memory. The main process writes `action`, the actors the rest; they take turns."""

    action: NDArray[np.int64]  # [E, K]
    observation: Observation  # one array per field, [E, ...]
    reward: NDArray[np.float32]  # [E]
    first: NDArray[np.bool_]  # [E]
    truncated: NDArray[np.bool_]  # [E]
    episode_over: NDArray[np.bool_]  # [E]
    episode_return: NDArray[np.float64]  # [E]
    episode_length: NDArray[np.int32]  # [E]   agent steps
    busy_seconds: NDArray[np.float64]  # [E]   spent stepping the environment; those of an actor share its time evenly

    def part(self, rows: slice) -> "Slab":
        """Return the views of some environments."""
        action, observation, *rest = self
        fields = tuple(field[rows] for field in observation)
        return Slab._make([action[rows], fields, *(field[rows] for field in rest)])


def allocate(num_envs: int, spec: EnvSpec) -> Any:
    """Return anonymous shared memory for E environments, to pass to a spawned process as an argument.

    It has no name in the file system, so the kernel frees it when its last user ends, even after a crash.
    """
    return multiprocessing.get_context("spawn").RawArray(c_uint8, num_bytes(num_envs, spec))


def num_bytes(num_envs: int, spec: EnvSpec) -> int:
    """Return the bytes of shared memory that E environments need."""
    return _layout(num_envs, spec)[0]


def view(memory: Any, num_envs: int, spec: EnvSpec) -> Slab:
    """Return the fields in memory from `allocate`, as views. The sizes must be the same as there."""
    _, places = _layout(num_envs, spec)
    action, *arrays = (np.ndarray(shape, dtype, memory, offset) for shape, dtype, offset in places)
    fields = len(spec.observation)
    return Slab._make([action, tuple(arrays[:fields]), *arrays[fields:]])


def _layout(num_envs: int, spec: EnvSpec) -> tuple[int, list[tuple[tuple[int, ...], np.dtype[Any], int]]]:
    """Return the total bytes, and (shape, dtype, offset) of each array of Slab in turn."""
    numbers = (np.float32, np.bool_, np.bool_, np.bool_, np.float64, np.int32, np.float64)  # one per environment
    arrays: list[tuple[tuple[int, ...], np.dtype[Any]]] = [
        ((len(spec.action_names),), np.dtype(np.int64)),
        *((field.shape, field.dtype) for field in spec.observation),
        *(((), np.dtype(kind)) for kind in numbers),
    ]
    places, offset = [], 0
    for shape, dtype in arrays:
        places.append(((num_envs, *shape), dtype, offset))
        size = num_envs * math.prod(shape) * dtype.itemsize
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    return offset, places
