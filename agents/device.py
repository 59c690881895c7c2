"""Devices and data types by name, and what copies between devices need."""

import ctypes
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rfwp.agents import host


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is a GPU if there is one. Raises ValueError for an unknown device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index is not None):
        raise ValueError(f"device: got {name!r}; allowed: auto, cpu, cuda, cuda:0, ...")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: got {name!r}; this machine has {torch.cuda.device_count()} CUDA device(s)")
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the encoder's data type; `auto` is bfloat16 where the hardware supports it, else float32."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    on_gpu = device.type == "cuda"
    fast = torch.cuda.get_device_capability(device) >= (8, 0) if on_gpu else host.computes_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def prepare_cpu(threads: int) -> None:
    """Prepare this process to compute on the CPU: operators run on `threads` threads, and freed memory is kept.

    Denormal numbers become zero. Gradients that vanish over a long sequence turn into such numbers, with which a
    processor is much slower. Threads inherit that setting, so call this before PyTorch starts its own.
    """
    host.keep_freed_memory()
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)


@contextmanager
def page_locked(memory: Any, device: torch.device) -> Iterator[None]:
    """Keep the pages of a ctypes array in place meanwhile, so that copies from it to a GPU do not block the host."""
    if device.type != "cuda":
        yield
        return
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    address, size = ctypes.addressof(memory), ctypes.sizeof(memory)
    with torch.cuda.device(device):
        status = int(runtime.cudaHostRegister(address, size, 0))
    if status != 0:
        warnings.warn(f"page-locked memory cannot be had (CUDA error {status}): training will be slower", stacklevel=2)
    try:
        yield
    finally:
        if status == 0:
            runtime.cudaHostUnregister(address)


def random_state(device: torch.device) -> Tensor:
    """Return the state of the device's global generator, which dropout draws from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Restore a state that `random_state` returned for the same type of device."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
