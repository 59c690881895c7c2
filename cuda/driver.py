"""Loads compiled kernels into the CUDA driver and launches them on PyTorch's current stream."""

import threading
from collections.abc import Sequence
from typing import Any

import torch
from cuda.bindings import driver

from rfwp.cuda.compiler import cached_kernel, pick_architecture, supported_architectures
from rfwp.cuda.launch import Argument, Packed, device_of

STATIC_LIMIT = 48 << 10  # bytes of shared memory that a kernel may use without opting in


class DriverLauncher:
    """A `Launcher` for CUDA devices. It loads a kernel at its first launch on each device.

    Raises RuntimeError if a kernel cannot be launched, or if its first launch is inside a CUDA graph capture.
    """

    def __init__(self) -> None:
        self._functions: dict[tuple[str, int, int], Any] = {}  # by kernel, device and bytes of shared memory
        self._thread = threading.local()

    def launch(
        self,
        source: str,
        kernel: str,
        num_blocks: int,
        num_threads: int,
        arguments: Sequence[Argument],
        shared_bytes: int = 0,
    ) -> None:
        if num_blocks == 0:
            return
        device = device_of(kernel, arguments)
        with torch.cuda.device(device):
            # Its copies may be freed as soon as the kernel is queued: PyTorch's allocator reuses their memory only for
            # later work on the same stream.
            packed = Packed(arguments)
            self._bind(device)
            function = self._function(source, kernel, device.index, shared_bytes)
            stream = torch.cuda.current_stream().cuda_stream
            grid, block = (num_blocks, 1, 1), (num_threads, 1, 1)
            _check(kernel, driver.cuLaunchKernel(function, *grid, *block, shared_bytes, stream, packed.address, 0))

    def _bind(self, device: torch.device) -> None:
        """Bind the device's context to this thread: the CUDA runtime does so at PyTorch's first work on the device."""
        bound = self._thread.__dict__.setdefault("devices", set())
        if device not in bound:
            torch.zeros(1, device=device)
            bound.add(device)

    def _function(self, source: str, kernel: str, device: int, shared_bytes: int) -> Any:
        key = (kernel, device, shared_bytes)
        if key not in self._functions:
            if torch.cuda.is_current_stream_capturing():
                raise RuntimeError(f"{kernel}: cannot be loaded during a CUDA graph capture; run it once before")
            self._functions[key] = _load(source, kernel, device, shared_bytes)
        return self._functions[key]


def _load(source: str, kernel: str, device: int, shared_bytes: int) -> Any:
    """Load a kernel into the current context, which must be that of the device."""
    architecture = pick_architecture(compute_capability(device), supported_architectures())
    if architecture is None:
        raise RuntimeError(f"{kernel}: the installed NVRTC no longer compiles for GPU {device}")
    compiled = cached_kernel(source, kernel, architecture)
    library = _check(kernel, driver.cuLibraryLoadData(compiled.image, [], [], 0, [], [], 0))
    handle = _check(kernel, driver.cuLibraryGetKernel(library, compiled.symbol.encode()))
    function = _check(kernel, driver.cuKernelGetFunction(handle))
    if shared_bytes > STATIC_LIMIT:
        limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _check(kernel, driver.cuFuncSetAttribute(function, limit, shared_bytes))
    return function


def compute_capability(device: int) -> int:
    """Return the compute capability of a GPU, as 90 for 9.0."""
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def driver_version() -> tuple[int, int]:
    """Return the newest CUDA version that the installed driver supports."""
    version = _check("version", driver.cuDriverGetVersion())
    return version // 1000, version % 1000 // 10


def _check(what: str, result: tuple[Any, ...]) -> Any:
    """Return the value of a call without its status; raise RuntimeError if it failed."""
    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"{what}: the CUDA driver returned {status.name}")
    return values[0] if values else None
