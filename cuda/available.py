"""Decides whether the fused kernels can run a computation; if not, a plain PyTorch loop does."""

import os
import warnings
from functools import cache

import torch

from rfwp.cuda.launch import HEAD_SIZES
from rfwp.cuda.launchers import runs_on


def available(device_type: str, dtype: torch.dtype, head_size: int | None = None) -> bool:
    """Return True if kernels run on this device type, state data type and head size (None if any size will do).

    RFWP_KERNELS=off disables them. If a GPU cannot use them because something is missing, warns once and says what.
    """
    if os.environ.get("RFWP_KERNELS") == "off" or head_size not in (None, *HEAD_SIZES):
        return False
    if device_type == "cuda":
        return dtype == torch.float32 and _problem() is None
    return runs_on(device_type) and dtype in (torch.float32, torch.float64)


# Same as torch.compiler.assume_constant_result, but without importing the whole compiler, which takes seconds.
available._dynamo_marked_constant = True  # type: ignore[attr-defined]


@cache
def _problem() -> str | None:
    """Return what keeps CUDA kernels from running here, or None; warn about it once."""
    problem = _find_problem()
    if problem is not None:
        warnings.warn(f"fused kernels are not used, training will be slower: {problem}", stacklevel=2)
    return problem


def _find_problem() -> str | None:
    if torch.version.hip is not None:
        return "they run only on NVIDIA's GPUs"
    try:
        from rfwp.cuda import compiler, driver
    except ImportError as error:
        return f"{error}; pip install 'cuda-bindings>=13.0.3,<14'"
    try:
        nvrtc = compiler.nvrtc_version()
        supported = compiler.supported_architectures()
    except Exception as error:  # the exception for a missing library differs between releases
        return f"NVRTC cannot be loaded ({_first_line(error)}); pip install 'nvidia-cuda-nvrtc>=13,<14'"
    try:
        served = driver.driver_version()
    except Exception as error:  # as above
        return f"the GPU driver cannot be loaded ({_first_line(error)}); install NVIDIA's driver for CUDA {nvrtc[0]}"
    if served[0] < nvrtc[0]:
        return (
            f"the GPU driver supports CUDA {_dotted(served)}, but NVRTC is from CUDA {_dotted(nvrtc)}:"
            " install a newer driver, or nvidia-cuda-nvrtc-cu12 instead of nvidia-cuda-nvrtc"
        )
    capability = driver.compute_capability(torch.cuda.current_device())
    if compiler.pick_architecture(capability, supported) is None:
        return (
            f"this GPU's compute capability is {capability / 10}, but NVRTC {_dotted(nvrtc)} starts at"
            f" {min(supported) / 10}: install nvidia-cuda-nvrtc-cu12 instead of nvidia-cuda-nvrtc"
        )
    return None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
