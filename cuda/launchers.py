"""The launcher of each device type."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rfwp.cuda.launch import Launcher

_launchers: dict[str, Launcher] = {}


def launcher(device: torch.device) -> Launcher:
    """Return the launcher for a device. Raises NotImplementedError if there is none."""
    if device.type == "cuda" and "cuda" not in _launchers:
        from rfwp.cuda.driver import DriverLauncher  # imports packages that only GPU machines have

        _launchers["cuda"] = DriverLauncher()
    try:
        return _launchers[device.type]
    except KeyError:
        raise NotImplementedError(f"fused kernels: got tensors on {device}; they run on CUDA devices") from None


@contextmanager
def running(device_type: str, launcher: Launcher) -> Iterator[None]:
    """Use `launcher` for a device type within the context. Tests use this to run kernels on the CPU."""
    before = _launchers.get(device_type)
    _launchers[device_type] = launcher
    try:
        yield
    finally:
        del _launchers[device_type]
        if before is not None:
            _launchers[device_type] = before


def runs_on(device_type: str) -> bool:
    """Return True if a launcher for this device type has been set up."""
    return device_type in _launchers
