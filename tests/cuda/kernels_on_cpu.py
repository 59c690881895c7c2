"""The kernels on a machine without a GPU: the same source, built by g++, one CUDA thread a fiber."""

import ctypes
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from gxx import build

from rfwp.cuda.compiler import KERNELS
from rfwp.cuda.launch import Argument, Packed

ON_CPU = Path(__file__).parent / "on_cpu"
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")


class CpuLauncher:
    """Runs kernels on the CPU, in an order of threads and blocks that `seed` draws."""

    device = "cpu"

    def __init__(self, library: Path) -> None:
        self._run = ctypes.PyDLL(str(library)).run  # holds the GIL: only one thread may run fibers
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


@pytest.fixture(scope="session")
def compile_for_cpu(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build a test program or library with the kernels. Skip the test if g++ is missing.

    What was built is kept in pytest's cache, if that is on, until the sources change.
    """
    cached = hasattr(pytestconfig, "cache")
    folder = pytestconfig.cache.mkdir("on_cpu") if cached else tmp_path_factory.mktemp("on_cpu")

    def compile_(source: Path, *flags: str, kernels: Path = KERNELS) -> Path:
        if shutil.which("g++") is None:
            pytest.skip("g++ is not installed: install it to test the kernels on the CPU (apt install g++)")
        places = (source.parent, kernels)
        files = [path for place in places for path in sorted(place.iterdir())]
        return build(folder, source, [*WARNINGS, *(f"-I{place}" for place in places), *flags], files)

    return compile_


@pytest.fixture(scope="session")
def library(compile_for_cpu) -> Path:
    """The kernels as a shared library."""
    return compile_for_cpu(ON_CPU / "library.cpp", "-O1", "-shared", "-fPIC")
