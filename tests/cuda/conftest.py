"""The kernels on a machine without a GPU: the same source, built by g++, one CUDA thread a fiber. And on a GPU."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rfwp.cuda.available import available
from rfwp.cuda.compiler import KERNELS
from rfwp.cuda.driver import DriverLauncher
from rfwp.cuda.launch import Argument, Packed
from rfwp.cuda.launchers import running

ON_CPU = Path(__file__).parent / "on_cpu"


class CpuLauncher:
    """Runs kernels on the CPU, in an order of threads and blocks that `seed` draws."""

    device = "cpu"

    def __init__(self, library: Path) -> None:
        self._run = ctypes.CDLL(str(library)).run
        self._run.argtypes = [
            ctypes.c_char_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_uint
        ]  # fmt: skip
        self.seed = 0
        self.launched: list[str] = []

    def launch(
        self,
        source: str,
        kernel: str,
        num_blocks: int,
        num_threads: int,
        arguments: Sequence[Argument],
        shared_bytes: int = 0,
    ) -> None:
        self.launched.append(kernel)
        packed = Packed(arguments)
        status = self._run(kernel.encode(), num_blocks, num_threads, shared_bytes, packed.address, self.seed)
        assert status == 0, f"library.cpp has no {kernel}"


class GpuLauncher:
    """Runs kernels on the GPU, which has an order of its own, and knows which."""

    device = "cuda"

    def __init__(self) -> None:
        self._gpu = DriverLauncher()
        self.seed = 0
        self.launched: list[str] = []

    def launch(self, source: str, kernel: str, *arguments: Any, **keywords: Any) -> None:
        self.launched.append(kernel)
        self._gpu.launch(source, kernel, *arguments, **keywords)


def _compile(target: Path, source: Path, *flags: str, kernels: Path = KERNELS) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: install it to test the kernels on the CPU (apt install g++)")
    common = ["g++", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    command = [*common, *flags, "-I", str(source.parent), "-I", str(kernels), str(source), "-o", str(target)]
    subprocess.run(command, check=True, timeout=600)
    return target


@pytest.fixture(scope="session")
def compile_for_cpu() -> Callable[..., Path]:
    """Builds a test program or library with the kernels; skips the test where there is no g++."""
    return _compile


@pytest.fixture(scope="session")
def library(compile_for_cpu, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels as a shared library."""
    target = tmp_path_factory.mktemp("kernels") / "kernels.so"
    return compile_for_cpu(target, ON_CPU / "library.cpp", "-O1", "-shared", "-fPIC")


@pytest.fixture
def on_cpu(library: Path) -> Iterator[CpuLauncher]:
    """Lets the fused operators run on CPU tensors."""
    launcher = CpuLauncher(library)
    with running("cpu", launcher):
        yield launcher


@pytest.fixture
def on_gpu() -> Iterator[GpuLauncher]:
    """Lets a test see which kernels a GPU runs; skips it where there is no GPU that could."""
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU: run `make test-gpu` on a machine with one")
    if not available("cuda", torch.float32, 32):
        pytest.fail("there is a GPU, but kernels cannot run on it: the warning says why")
    launcher = GpuLauncher()
    with running("cuda", launcher):
        yield launcher


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest) -> CpuLauncher | GpuLauncher:
    """Runs a test on the CPU and, marked gpu, on a GPU."""
    return request.getfixturevalue(f"on_{request.param}")
