"""The machine that a run finds itself on: its devices, cores, memory and versions."""

import contextlib
import itertools
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import psutil
import torch

from rfwp.agents import device as devices
from rfwp.agents import host
from rfwp.runners.machine.errors import UserError

SHARED_MEMORY = "/dev/shm"
_PACKAGES = ("rfwp", "torch", "numpy", "gymnasium", "ale-py", "opencv-python-headless", "safetensors")


def memory_limit(cgroup: Path = host.CGROUP) -> int | None:
    """Bytes that the container may use; None where there is no limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limit = int((cgroup / name).read_text())
            return limit if limit < psutil.virtual_memory().total else None
    return None


def _memory_used(cgroup: Path) -> int:
    """Bytes that the container uses, without the cached files that it would give up first."""
    for used, statistics, given_up in (
        ("memory.current", "memory.stat", "inactive_file"),  # version 2
        ("memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError, KeyError):
            lines = dict(line.split() for line in (cgroup / statistics).read_text().splitlines())
            return int((cgroup / used).read_text()) - int(lines[given_up])
    return 0


def share_cores(processes: int) -> list[list[int]]:
    """The cores that this process may use, shared out among so many processes: evenly, and one at least for each."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    mine = allowed[: host.cores()]
    starts = [number * len(mine) // processes for number in range(processes + 1)]
    return [mine[start : max(end, start + 1)] for start, end in itertools.pairwise(starts)]


def child_setup(own_cores: Sequence[int]) -> Callable[[], None]:
    """What a new process runs first to stay on these cores, and to get SIGTERM when its parent has ended, however."""
    ask_for_sigterm = host.signal_at_end_of_parent(signal.SIGTERM)

    def set_up() -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, own_cores)
        ask_for_sigterm()

    return set_up


def own_command(*words: str) -> list[str]:
    """`rfwp` with these words, by this Python; -P: not from a folder called rfwp that lies where it is started."""
    return [sys.executable, "-P", "-m", "rfwp", *words]


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[: torch.cuda.device_count()] if named else list(map(str, range(torch.cuda.device_count())))


def free_memory(cgroup: Path = host.CGROUP) -> int:
    """Bytes of memory that programs can still have, on the machine and in the container."""
    available, limit = int(psutil.virtual_memory().available), memory_limit(cgroup)
    return available if limit is None else max(0, min(available, limit - _memory_used(cgroup)))


def pick_device(name: str) -> torch.device:
    """As rfwp.agents.device.pick_device, for a name from the command line; UserError if this machine has none such."""
    try:
        return devices.pick_device(name)
    except ValueError as error:
        raise UserError(str(error)) from None


def check_shared_memory(needed: int, sizes: str) -> None:
    """UserError if the actors' slabs do not fit; `sizes` says what they are made of."""
    free = shutil.disk_usage(SHARED_MEMORY).free if os.path.isdir(SHARED_MEMORY) else needed
    if free < needed:
        raise UserError(
            f"{sizes} need {megabytes(needed)} of shared memory, but {SHARED_MEMORY} has"
            f" {megabytes(free)} free; use fewer environments, or give it more (docker run --shm-size=1g)"
        )


def check_memory(needed: int, sizes: str, device: torch.device) -> None:
    """UserError if the unrolls do not fit into the memory of the device."""
    on_gpu = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else free_memory()
    if free < needed:
        raise UserError(
            f"{sizes} need {megabytes(needed)} of memory, but {device} has {megabytes(free)} free; use smaller ones"
        )


def gpu_memory(device: torch.device) -> int | None:
    """Bytes of a GPU that PyTorch holds, in use or kept for reuse; None for the CPU."""
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else None


def ask_gpu_busy(device: torch.device) -> subprocess.Popen[str] | None:
    """Asks nvidia-smi for the share of this moment in which a GPU does something, without waiting for the answer."""
    if device.type != "cuda":
        return None
    name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    command = ["nvidia-smi", f"--id={name}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError):
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return None


def gpu_busy(question: subprocess.Popen[str] | None) -> float | None:
    """The answer to `ask_gpu_busy`, 0 to 1; None without a GPU, or where nvidia-smi cannot tell."""
    if question is None:
        return None
    try:
        return int(question.communicate(timeout=10)[0]) / 100
    except (ValueError, subprocess.TimeoutExpired):
        question.kill()
        question.wait()
        return None


def megabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def versions() -> dict[str, str]:
    """What a result depends on: Python, packages, platform, processor."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    found["platform"] = f"{sys.platform} {platform.machine()}, {host.cores()} cores, {_processor()}"
    if torch.cuda.is_available():
        found["gpu"] = ", ".join(map(torch.cuda.get_device_name, range(torch.cuda.device_count())))
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"
