"""Resources of the machine: devices, cores, memory and versions."""

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
    """Return the bytes that the container may use; None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limit = int((cgroup / name).read_text(encoding="utf-8"))
            return limit if limit < psutil.virtual_memory().total else None
    return None


def _memory_used(cgroup: Path) -> int:
    """Return the bytes that the container uses, without the cached files that it would reclaim first."""
    for used, statistics, given_up in (
        ("memory.current", "memory.stat", "inactive_file"),  # version 2
        ("memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError, KeyError):
            lines = dict(line.split() for line in (cgroup / statistics).read_text(encoding="utf-8").splitlines())
            return int((cgroup / used).read_text(encoding="utf-8")) - int(lines[given_up])
    return 0


def share_cores(processes: int) -> list[list[int]]:
    """Split the cores of this process evenly among `processes` processes, at least one each."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    mine = allowed[: host.cores()]
    starts = [number * len(mine) // processes for number in range(processes + 1)]
    return [mine[start : max(end, start + 1)] for start, end in itertools.pairwise(starts)]


def child_setup(own_cores: Sequence[int]) -> Callable[[], None]:
    """Return a function for a new process to call first: pin it to cores, and request SIGTERM when its parent ends."""
    ask_for_sigterm = host.signal_at_end_of_parent(signal.SIGTERM)

    def set_up() -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, own_cores)
        ask_for_sigterm()

    return set_up


def own_command(*words: str) -> list[str]:
    """Return the command line of `rfwp` with these words. -P: do not import from a folder rfwp in the current one."""
    return [sys.executable, "-P", "-m", "rfwp", *words]


def gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[: torch.cuda.device_count()] if named else list(map(str, range(torch.cuda.device_count())))


def free_memory(cgroup: Path = host.CGROUP) -> int:
    """Return the bytes of memory still available on the machine and in the container."""
    available, limit = int(psutil.virtual_memory().available), memory_limit(cgroup)
    return available if limit is None else max(0, min(available, limit - _memory_used(cgroup)))


def pick_device(name: str) -> torch.device:
    """Return the device of a name, as rfwp.agents.device.pick_device does. Raise UserError if it is missing here."""
    try:
        return devices.pick_device(name)
    except ValueError as error:
        raise UserError(str(error)) from None


def check_shared_memory(needed: int, sizes: str) -> None:
    """Raise UserError if the actors' slabs do not fit; `sizes` describes them."""
    free = shutil.disk_usage(SHARED_MEMORY).free if os.path.isdir(SHARED_MEMORY) else needed
    if free < needed:
        raise UserError(
            f"{sizes} need {megabytes(needed)} of shared memory, but {SHARED_MEMORY} has"
            f" {megabytes(free)} free; use fewer environments, or give it more (docker run --shm-size=1g)"
        )


def check_memory(needed: int, sizes: str, device: torch.device) -> None:
    """Raise UserError if `needed` bytes do not fit into the memory of the device; `sizes` describes them."""
    on_gpu = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else free_memory()
    if free < needed:
        raise UserError(
            f"{sizes} need {megabytes(needed)} of memory, but {device} has {megabytes(free)} free; use smaller ones"
        )


def gpu_memory(device: torch.device) -> int | None:
    """Return the bytes of a GPU that PyTorch holds, in use or cached; None for the CPU."""
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else None


def ask_gpu_busy(device: torch.device) -> subprocess.Popen[str] | None:
    """Ask nvidia-smi for a GPU's current utilisation, without waiting for the answer."""
    if device.type != "cuda":
        return None
    name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    command = ["nvidia-smi", f"--id={name}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError):
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8", errors="replace"
        )
    return None


def gpu_busy(question: subprocess.Popen[str] | None) -> float | None:
    """Return the answer to `ask_gpu_busy`, 0 to 1; None without a GPU, or if nvidia-smi cannot tell."""
    if question is None:
        return None
    try:
        return int(question.communicate(timeout=10)[0]) / 100
    except (ValueError, subprocess.TimeoutExpired):
        question.kill()
        question.wait()
        return None


def megabytes(size: float) -> str:
    """Format a number of bytes."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def versions() -> dict[str, str]:
    """Return the versions of Python and packages, the platform, the processor and the GPUs."""
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
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"
