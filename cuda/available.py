"""Whether the fused kernels can take a computation; where they cannot, the plain PyTorch loop does."""

import os
import warnings
from functools import cache

import torch

from rfwp.cuda.launch import HEAD_SIZES, runs_on


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def available(device_type: str, head_size: int | None = None) -> bool:
    """Whether kernels run on that type of device, for memories of that head size (None: where size does not matter).

    RFWP_KERNELS=off forbids them. A GPU that could run them, but for something missing, gets one warning that says
    what.
    """
    if os.environ.get("RFWP_KERNELS") == "off" or head_size not in (None, *HEAD_SIZES):
        return False
    if runs_on(device_type):
        return True
    if device_type != "cuda":
        return False
    problem = _problem()
    return problem is None


@cache
def _problem() -> str | None:
    """What keeps CUDA kernels from running here; warns of it, once."""
    problem = _find_problem()
    if problem is not None:
        warnings.warn(f"fused kernels are not used, training will be slower: {problem}", stacklevel=2)
    return problem


def _find_problem() -> str | None:
    try:
        from rfwp.cuda import compiler, driver
    except ImportError as error:
        return f"{error}; pip install 'cuda-bindings>=13,<14'"
    try:
        major, minor = compiler.nvrtc_version()
        supported = compiler.supported_architectures()
    except Exception as error:  # what a missing library raises differs between releases
        return f"NVRTC cannot be loaded ({error}); pip install nvidia-cuda-nvrtc"
    served = driver.driver_version()
    if served[0] < major:
        return (
            f"the GPU driver serves CUDA {served[0]}.{served[1]} and NVRTC is of {major}.{minor}: "
            f"install a newer driver, or nvidia-cuda-nvrtc=={served[0]}.*"
        )
    capability = driver.compute_capability(torch.cuda.current_device())
    if compiler.pick_architecture(capability, supported) is None:
        return (
            f"this GPU's compute capability is {capability / 10}; NVRTC {major}.{minor} starts at {min(supported) / 10}"
        )
    return None
