"""Examines the machine for `rfwp doctor`: facts, self-tests, problems and advice."""

import os
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from rfwp.agents import host
from rfwp.agents.actor_pool import ActorPool, ActorsConfig
from rfwp.cuda.available import available
from rfwp.envs.worlds import atari
from rfwp.models.core import Core
from rfwp.models.cores import rdn
from rfwp.runners.machine import resources

SELF_TEST_SECONDS = 2.0
ENOUGH_FILES = 1024
ENOUGH_SHARED_MEMORY = 64 * 10**6  # bytes; 48 environments need 2 MB, a container has 64 MB by default
ENOUGH_MEMORY = 2 * 10**9
ENOUGH_DISK = 10**9
TOLERANCE = 1e-3  # between kernel and loop, in float32


@dataclass(frozen=True)
class Problem:
    """A problem and advice on it."""

    severity: Literal["error", "warning"]  # an error keeps rfwp from training
    what: str
    advice: str


@dataclass
class Report:
    """The findings."""

    facts: dict[str, str | int | float | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """1 if there is an error, else 0."""
        return int(any(problem.severity == "error" for problem in self.problems))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def warn_if_less(self, value: float | None, enough: float, what: str, advice: str) -> None:
        """Add a warning if there is a value and it is below `enough`."""
        if value is not None and value < enough:
            self.problems.append(Problem("warning", what, advice))


def examine() -> Report:
    """Examine everything; the self-tests take a few seconds."""
    report = Report(facts=dict(resources.versions()))
    _examine_limits(report)
    _examine_gpu(report)
    _self_test(report, "emulator self-test", _play, "reinstall ale-py, and check the limits listed here")
    _self_test(
        report, "kernel self-test", _compare_kernels, "set RFWP_KERNELS=off to train without them, and report it"
    )
    return report


def _examine_limits(report: Report) -> None:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    shared = shutil.disk_usage(resources.SHARED_MEMORY).free if os.path.isdir(resources.SHARED_MEMORY) else None
    memory, disk = resources.free_memory(), shutil.disk_usage(os.getcwd()).free
    limit = resources.memory_limit()
    report.facts |= {
        "cores that may be used": host.cores(),
        "cores of the machine": os.cpu_count(),
        "CPU limit of the container": host.cpu_limit(),
        "load in the last minute": round(os.getloadavg()[0], 1),
        "memory free": resources.megabytes(memory),
        "memory limit of the container": resources.megabytes(limit) if limit else None,
        "shared memory free": resources.megabytes(shared) if shared is not None else None,
        "disk free here": resources.megabytes(disk),
        "open files allowed": files,
    }
    report.warn_if_less(files, ENOUGH_FILES, f"only {files} files may be open", f"run `ulimit -n {ENOUGH_FILES}` first")
    report.warn_if_less(
        shared,
        ENOUGH_SHARED_MEMORY,
        f"{resources.SHARED_MEMORY} has little space",
        "give the container more (docker run --shm-size=1g)",
    )
    report.warn_if_less(
        memory, ENOUGH_MEMORY, f"only {resources.megabytes(memory)} of memory is free", "use fewer environments"
    )
    report.warn_if_less(
        disk, ENOUGH_DISK, f"only {resources.megabytes(disk)} of disk is free", "make space for checkpoints"
    )
    report.warn_if_less(host.cores(), 2, "there is one CPU core", "expect acting and learning to take turns")
    if os.getloadavg()[0] > 2 * host.cores():
        report.problems.append(Problem("warning", "the machine is busy with other work", "expect slow training"))


def _examine_gpu(report: Report) -> None:
    has_gpu = torch.cuda.is_available()
    report.facts["CUDA of PyTorch"] = torch.version.cuda
    fused = has_gpu and available("cuda", torch.float32)
    report.facts["kernels in use"] = "fused" if fused else "none: PyTorch loops"
    if has_gpu:
        free, total = torch.cuda.mem_get_info()
        report.facts["GPU memory free"] = f"{resources.megabytes(free)} of {resources.megabytes(total)}"
        if not fused:
            report.problems.append(
                Problem("warning", "the fused kernels cannot be used", "see the warning above, and RFWP_KERNELS")
            )
    elif torch.version.cuda is None and shutil.which("nvidia-smi"):
        report.problems.append(
            Problem(
                "warning", "there is an NVIDIA driver, but PyTorch is built without CUDA", "install PyTorch for CUDA"
            )
        )


def _self_test(report: Report, name: str, test: Callable[[], str], advice: str) -> None:
    try:
        report.facts[name] = test()
    except Exception as error:  # any failure is a finding
        report.facts[name] = "failed"
        cause = str(error).partition("\n")[0]
        report.problems.append(Problem("error", f"the {name} failed: {cause}", advice))


def _play() -> str:
    """Play Pong in two actor processes."""
    envs, steps = 8, 0
    with ActorPool(ActorsConfig(envs=envs, processes=2, groups=1), atari.Config("pong"), 2, seed=(0,)) as pool:
        pool.wait(0)
        started = time.monotonic()
        while (seconds := time.monotonic() - started) < SELF_TEST_SECONDS:
            pool.act(0, np.zeros((envs, 1), np.int64))
            pool.wait(0)
            steps += envs
    return f"passed: {steps / seconds:,.0f} agent steps/s of Pong in 2 processes"


def _compare_kernels() -> str:
    """Run one core on the device, with `forward` and with the loop that defines it, and compare."""
    device = resources.pick_device("auto")
    torch.manual_seed(0)
    core = rdn.Config().build(16).to(device)
    inputs, first = torch.randn(20, 4, 16, device=device), torch.rand(20, 4, device=device) < 0.1
    with torch.no_grad():
        ours, _ = core(inputs, core.initial_state(4), first)
        expected, _ = Core.forward(core, inputs, core.initial_state(4), first)
    difference = float((ours - expected).abs().max())
    if not difference < TOLERANCE:
        raise RuntimeError(f"the Recurrent Delta Net differs by {difference:.1e} from the loop that defines it")
    return f"passed on {device}: largest difference {difference:.0e}"
