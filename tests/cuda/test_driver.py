"""The code that starts kernels on a GPU, up to the driver: the driver here runs them on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rfwp.cuda.driver import DriverLauncher

# What PyTorch would say on a machine with one GPU. Tensors stay on the CPU, where the driver of this test wants them.
BELIEVE_IN_A_GPU = """
import torch
from contextlib import nullcontext
from types import SimpleNamespace
torch.cuda.device = lambda device: nullcontext()
torch.cuda.current_stream = lambda: SimpleNamespace(cuda_stream=0x51)
torch.cuda.get_device_capability = lambda device: (9, 0)
torch.cuda.is_current_stream_capturing = lambda: capturing
capturing = False

from rfwp.cuda.driver import DriverLauncher, driver_version
from rfwp.cuda.launchers import running
launcher = DriverLauncher()
"""

RUN_A_CORE = """
from rfwp.models.core import Core
from rfwp.models.cores.rdn import Config

torch.manual_seed(0)
core = Config(hidden_size=64, num_heads=1, num_layers=1).build(5)
given = torch.randn(4, 3, 5), core.initial_state(3), torch.rand(4, 3) < 0.3

def results(forward):
    y, after = forward(core, *given)
    return [y, *after, *torch.autograd.grad(y.square().sum(), tuple(core.parameters()))]

with running("cpu", launcher):
    actual, again = results(lambda core, *given: core(*given)), results(lambda core, *given: core(*given))
assert all(map(torch.equal, actual, again))
for given_, wanted in zip(actual, results(Core.forward), strict=True):
    torch.testing.assert_close(given_, wanted, rtol=1e-4, atol=1e-5)
print(driver_version())
"""

# One process for what concerns launches alone; a line of its own on both streams between one part and the next.
LAUNCHES = """
import sys
from rfwp.cuda.delta import delta

def next_part():
    print("part", flush=True)
    print("part", file=sys.stderr, flush=True)

def refused(threads):
    try:
        launcher.launch("gated.cuh", "gru_backward<float>", 1, threads, (torch.ones(1),))
    except RuntimeError as error:
        print(error)

capturing = True
refused(threads=32)
capturing = False

next_part()
refused(threads=2048)

next_part()
arguments = [torch.randn(16, 2, 3, 2).permute(2, 1, 3, 0), torch.randn(16, 2, 3).permute(2, 1, 0), torch.rand(2, 3).t()]
state, reset = torch.randn(16, 2, 16).transpose(0, 1), torch.zeros(3, 2, dtype=torch.bool)
with running("cpu", launcher):
    strided = delta(*arguments, None, state, reset)
    packed = delta(*(each.contiguous() for each in arguments), None, state.contiguous(), reset)
assert all(map(torch.equal, strided, packed))
"""


@pytest.fixture(scope="session")
def driver(compile_for_cpu, library, tmp_path_factory) -> Path:
    """The folder of a libcuda.so.1, which finds the kernels in the library."""
    folder = tmp_path_factory.mktemp("driver")
    source = Path(__file__).parent / "on_cpu" / "driver.cpp"
    (folder / "libcuda.so.1").symlink_to(compile_for_cpu(source, "-O1", "-shared", "-fPIC", str(library)))
    return folder


@pytest.fixture(scope="session")
def run(driver, tmp_path_factory):
    """Runs a program on a machine with that driver -> what it printed, and what the driver was asked, part by part."""

    def run(program: str) -> tuple[list[str], list[list[str]]]:
        cache = tmp_path_factory.mktemp("cache")
        environment = os.environ | {"LD_LIBRARY_PATH": str(driver), "XDG_CACHE_HOME": str(cache)}
        command = [sys.executable, "-c", BELIEVE_IN_A_GPU + program]
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert ran.returncode == 0, ran.stderr
        calls = [line for line in ran.stderr.splitlines() if line.split()[0] in ("part", "load", "allow", "launch")]
        return ran.stdout.split("part\n"), [part.splitlines() for part in "\n".join(calls).split("part")]

    return run


@pytest.fixture(scope="session")
def launches(run):
    """What was printed and asked in a capture, by a launch that fails, and for arguments that are not contiguous."""
    printed, asked = run(LAUNCHES)
    return dict(zip(("capture", "failure", "strides"), zip(printed, asked, strict=True), strict=True))


@pytest.mark.slow
def test_a_core_computes_what_its_loop_does(run) -> None:
    (printed,), (asked,) = run(RUN_A_CORE)
    forward, backward = "rdn_forward<float, float, 64, Softmax>", "rdn_backward<float, 64, Softmax>"
    shared = 3 * 64 * 68 * 4  # more than a kernel has without asking
    first = [
        line
        for kernel in (forward, backward)
        for line in ("load cubin", f"allow {kernel} {shared}", f"launch {kernel} 3 64 {shared} 0x51")
    ]
    assert asked == [*first, first[2], first[5]]  # loaded once, launched twice, on the current stream
    assert printed == "(13, 1)\n"


@pytest.mark.slow
def test_what_is_not_contiguous_is_copied_for_as_long_as_the_launch_takes(launches) -> None:
    _, asked = launches["strides"]
    launch = "launch delta_forward<float, float, 16, true, false> 2 16 0 0x51"
    assert [line for line in asked if line] == ["load cubin", launch, launch]


@pytest.mark.slow
def test_a_launch_that_fails_says_which_and_why(launches) -> None:
    printed, _ = launches["failure"]
    assert printed == "gru_backward<float>: the CUDA driver returned CUDA_ERROR_INVALID_VALUE\n"


@pytest.mark.slow
def test_a_kernel_is_not_loaded_in_the_middle_of_a_capture(launches) -> None:
    printed, asked = launches["capture"]
    assert "run it once before" in printed
    assert asked == []


def test_tensors_on_several_devices_are_refused_before_a_launch():
    arguments = (torch.ones(1), None, torch.ones(1, device="meta"), 3)
    with pytest.raises(ValueError, match="^rdn_forward: got tensors on cpu, meta; allowed: one device$"):
        DriverLauncher().launch("rdn.cuh", "rdn_forward", 1, 1, arguments)
