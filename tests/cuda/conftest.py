"""Fixtures that run the kernels on the CPU, and on a GPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from kernels_on_cpu import CpuLauncher, compile_for_cpu, library

from rfwp.cuda.available import available
from rfwp.cuda.driver import DriverLauncher
from rfwp.cuda.launchers import running

__all__ = ["compile_for_cpu", "library"]


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
