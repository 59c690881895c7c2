"""A disk cache of arrays that take long to make. What comes from the cache is memory-mapped, so opening it is cheap."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rfwp.cache import cache_folder

Arrays = Mapping[str, NDArray[Any]]


def cached(key: object, names: tuple[str, ...], make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays of these names: from the disk cache, or from `make`, whose result is then stored.

    The folder's name is a hash of the key's repr, so the key must hold everything that the arrays depend on. If the
    cache cannot be written, nothing is stored.
    """
    digest = hashlib.sha256(repr(key).encode()).hexdigest()
    try:
        return _load(cache_folder("data") / digest, names)
    except (OSError, ValueError):  # missing or damaged
        arrays = make()
    with suppress(OSError):  # a full or read-only disk only costs time at the next start
        _store(cache_folder("data") / digest, arrays)
    return arrays


def _load(folder: Path, names: tuple[str, ...]) -> Arrays:
    """Map the arrays into memory. Raises OSError if one is missing, ValueError if one is damaged."""
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}


def _store(folder: Path, arrays: Arrays) -> None:
    """Write the arrays atomically, so that several processes may start at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        for name, array in arrays.items():
            with (temporary / f"{name}.npy").open("wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():  # damaged, or stored by another process in the meantime
            shutil.rmtree(folder)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
