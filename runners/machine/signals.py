"""Ctrl-C, SIGTERM and SIGHUP: the first requests a clean stop, a later one ends the process at once."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Self

# Seconds in which another signal is taken for an echo of the first: `timeout` and others pass on a signal to a process
# that has already had it.
ECHO = 1.0


def _ending() -> list[signal.Signals]:
    """Return the signals that end this process. `nohup` has SIGHUP, of a closed terminal, ignored."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]


class StopSignals:
    """While entered, records SIGINT, SIGTERM and SIGHUP in `received` instead of interrupting an update."""

    def __init__(self, on_stop: Callable[[], None] = lambda: None) -> None:
        """Call `on_stop` once, at the first signal; it must be quick."""
        self.received: int | None = None
        self._on_stop = on_stop
        self._first = 0.0  # when it came
        self._previous: dict[int, object] = {}

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as a shell reports it; 0 without one."""
        return 0 if self.received is None else 128 + self.received

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if time.monotonic() - self._first < ECHO:
                return
            if os.isatty(1):
                os.write(1, b"\033[?25h\n")  # the dashboard hides the cursor
            os._exit(128 + number)  # actors end with their connections
        self.received, self._first = number, time.monotonic()
        self._on_stop()

    def __enter__(self) -> Self:
        for number in _ending():
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


@contextlib.contextmanager
def cleaning_up() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise an exception while entered, as Ctrl-C does, so that cleanup code runs."""
    numbers = [number for number in _ending() if number != signal.SIGINT]
    previous = {number: signal.signal(number, lambda number, frame: sys.exit(128 + number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
