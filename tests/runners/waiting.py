"""Waiting for what another process does, and reading what it writes."""

import time
from collections.abc import Callable
from pathlib import Path


def wait_for(condition: Callable[[], object], seconds: float = 300.0) -> None:
    """Waits until the condition holds; AssertionError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def whole_lines(path: Path) -> list[str]:
    """The lines of a text file; without the last one while that is being written."""
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
