"""Loads compiled kernels into the CUDA driver and starts them on PyTorch's current stream."""

from collections.abc import Sequence
from typing import Any

import torch
from cuda.bindings import driver
from torch import Tensor

from rfwp.cuda.compiler import cached_kernel, pick_architecture, supported_architectures
from rfwp.cuda.launch import Argument, Packed

STATIC_LIMIT = 48 << 10  # bytes of shared memory that a kernel may have without asking


class DriverLauncher:
    """A `Launcher` for CUDA devices. A kernel is loaded at its first launch, which must not be in a graph's capture."""

    def __init__(self) -> None:
        self._functions: dict[tuple[str, int, int], Any] = {}

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
            packed = Packed(arguments)
            function = self._function(source, kernel, device.index, shared_bytes)
            stream = torch.cuda.current_stream().cuda_stream
            grid, block = (num_blocks, 1, 1), (num_threads, 1, 1)
            _check(driver.cuLaunchKernel(function, *grid, *block, shared_bytes, stream, packed.address, 0))

    def _function(self, source: str, kernel: str, device: int, shared_bytes: int) -> Any:
        key = (kernel, device, shared_bytes)
        if key not in self._functions:
            architecture = pick_architecture(compute_capability(device), supported_architectures())
            if architecture is None:
                raise RuntimeError(f"fused kernels: the installed NVRTC no longer compiles for GPU {device}")
            compiled = cached_kernel(source, kernel, architecture)
            library = _check(driver.cuLibraryLoadData(compiled.image, [], [], 0, [], [], 0))
            handle = _check(driver.cuLibraryGetKernel(library, compiled.symbol.encode()))
            function = _check(driver.cuKernelGetFunction(handle))
            if shared_bytes > STATIC_LIMIT:
                limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                _check(driver.cuFuncSetAttribute(function, limit, shared_bytes))
            self._functions[key] = function
        return self._functions[key]


def compute_capability(device: int) -> int:
    """90 for compute capability 9.0."""
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def driver_version() -> tuple[int, int]:
    """The newest CUDA version that the installed driver serves."""
    version = _check(driver.cuDriverGetVersion())
    return version // 1000, version % 1000 // 10


def _check(result: tuple[Any, ...]) -> Any:
    """Raise RuntimeError for a call that failed, else give what it returned beside its status."""
    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"CUDA driver: {status.name}")
    return values[0] if values else None
