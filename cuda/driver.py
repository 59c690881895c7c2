"""Loads compiled kernels into the CUDA driver and starts them on PyTorch's current stream."""

import threading
from collections.abc import Sequence
from typing import Any

import torch
from cuda.bindings import driver
from torch import Tensor

from rfwp.cuda.compiler import cached_kernel, pick_architecture, supported_architectures
from rfwp.cuda.launch import Argument, Packed

STATIC_LIMIT = 48 << 10  # bytes of shared memory that a kernel may have without asking


class DriverLauncher:
    """A `Launcher` for CUDA devices; it loads a kernel at its first launch on each device.

    RuntimeError where a kernel cannot be started, and where the first launch is in the capture of a CUDA graph.
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
        device = next(each.device for each in arguments if isinstance(each, Tensor))
        with torch.cuda.device(device):
            # Copies that it makes may be freed as soon as the kernel is queued: PyTorch's allocator gives their memory
            # only to what comes later on the same stream.
            packed = Packed(arguments)
            self._bind(device)
            function = self._function(source, kernel, device.index, shared_bytes)
            stream = torch.cuda.current_stream().cuda_stream
            grid, block = (num_blocks, 1, 1), (num_threads, 1, 1)
            _check(kernel, driver.cuLaunchKernel(function, *grid, *block, shared_bytes, stream, packed.address, 0))

    def _bind(self, device: torch.device) -> None:
        """Have the device's context bound to this thread: the runtime does it at PyTorch's own first work there."""
        bound = self._thread.__dict__.setdefault("devices", set())
        if device not in bound:
            torch.zeros(1, device=device)
            bound.add(device)

    def _function(self, source: str, kernel: str, device: int, shared_bytes: int) -> Any:
        key = (kernel, device, shared_bytes)
        if key not in self._functions:
            if torch.cuda.is_current_stream_capturing():
                raise RuntimeError(f"{kernel}: it cannot be loaded into a CUDA graph's capture; run it once before")
            self._functions[key] = _load(source, kernel, device, shared_bytes)
        return self._functions[key]


def _load(source: str, kernel: str, device: int, shared_bytes: int) -> Any:
    """Load a kernel into the current context, which is that of the device."""
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
    """90 for compute capability 9.0."""
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def driver_version() -> tuple[int, int]:
    """The newest CUDA version that the installed driver serves."""
    version = _check("version", driver.cuDriverGetVersion())
    return version // 1000, version % 1000 // 10


def _check(what: str, result: tuple[Any, ...]) -> Any:
    """Raise RuntimeError for a call that failed, else give what it returned beside its status."""
    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"{what}: the CUDA driver answers {status.name}")
    return values[0] if values else None
