"""Saves a run at intervals and at its end."""

import math
import sys
import time
from collections.abc import Callable
from typing import Any

from rfwp.agents.system import System
from rfwp.runners.training.best_effort import BestEffort
from rfwp.runners.training.timer import Timer


class Saver:
    """Saves a run at intervals. Reports a failing disk and tries again."""

    RETRY_SECONDS = 20.0  # after a checkpoint that could not be written
    LAST_SECONDS = 4.0  # to save after a stop or a failure: SIGKILL often follows SIGTERM soon

    def __init__(self, save: Callable[[], None], seconds: float, report: Callable[[str], None]) -> None:
        """Call `save`, which writes one checkpoint, every `seconds` seconds."""
        self._save = save
        self._interval = Timer(seconds)
        self._disk = BestEffort("checkpoints cannot be written", report)

    def save_if_due(self, now: bool = False) -> None:
        """Save if the interval has passed; with `now`, in any case."""
        due = self._interval.due() or now
        if due and not self._disk.attempt(self._save):
            self._interval.again_in(self.RETRY_SECONDS)

    def save_at_the_end(self, system: System[Any]) -> bool:
        """Return True if a checkpoint was written.

        Retry while the disk is full: without limit after a complete run, for LAST_SECONDS after a failure or a stop.
        A full disk raises nothing, so the exception or signal that ended the run is still reported.
        """
        failed, deadline = sys.exception() is not None, math.inf
        while not self._disk.attempt(self._save):
            if failed or system.stopped:
                deadline = min(deadline, time.monotonic() + self.LAST_SECONDS)
            if time.monotonic() >= deadline:
                return False
            time.sleep(self.LAST_SECONDS / 8)
        return True
