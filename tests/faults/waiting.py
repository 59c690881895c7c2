"""Waiting for what another process does, and reading what it leaves."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from rfwp.runners.machine.signals import ECHO

HANGS = 300.0  # seconds that nothing takes, however busy the machine


def wait_for(condition: Callable[[], object], seconds: float = HANGS) -> None:
    """Wait until the condition holds; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def interrupt_twice(process: subprocess.Popen[str], handled: str) -> None:
    """Press Ctrl-C twice: again once a line with `handled` has shown that the first has been, and it is no echo."""
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert any(handled in line for line in process.stdout)
    time.sleep(ECHO)
    process.send_signal(signal.SIGINT)


def whole_lines(path: Path) -> list[str]:
    """Return the lines of a text file, without the last one while that is being written."""
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def shared_memory() -> set[str]:
    """Return the names in shared memory, of every process on the machine."""
    return set(os.listdir("/dev/shm"))


def wait_until_freed(before: set[str]) -> None:
    """Wait until all names that are in shared memory now, and were not in `before`, have gone.

    Names of other tests that run at the same time go, too, when those end.
    """
    left = shared_memory() - before
    wait_for(lambda: not left & shared_memory())
