"""The machine that training runs on: CPU cores, memory allocator, signals from the kernel. Imports no torch."""

import ctypes
import math
import os
import platform
import signal
import sys
from collections.abc import Callable
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # inside a container, the container's own group
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_PR_SET_PDEATHSIG = 1  # sys/prctl.h


def cores() -> int:
    """Return the CPU cores that this process may use, by its affinity and its container's limit; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_limit()
    return allowed if limit is None else max(1, min(allowed, math.ceil(limit)))


def cpu_limit(cgroup: Path = CGROUP) -> float | None:
    """Return the CPU cores that the container may use, as set by `docker run --cpus`; None without a limit."""
    try:
        if (cgroup / "cpu.max").exists():  # version 2
            quota, period = (cgroup / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
            )
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or the word "max"
        return None


def computes_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16; False where the kernel does not list its flags."""
    try:
        return " avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def operator_threads(cores: int) -> int:
    """Return the number of threads for PyTorch's operators: half the cores. The environments need the others."""
    return max(1, cores // 2)


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for reuse instead of returning it to the kernel.

    By default every large activation is mapped, page-faulted and unmapped again in each update, which is several times
    slower on a small machine. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)
    # Only the main arena can hold blocks of that size; the arenas of threads are cut into heaps of 64 MB.
    libc.mallopt(_M_ARENA_MAX, 1)


def signal_at_end_of_parent(number: signal.Signals) -> Callable[[], None]:
    """Return a function that asks the kernel to send this process `number` once its parent is gone. Linux only.

    The C library is looked up here, so the returned function may run between fork and exec, where little else is safe.
    """
    if sys.platform != "linux":
        return lambda: None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)

    return ask
