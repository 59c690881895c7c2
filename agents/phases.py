"""Time that a loop spends in each phase."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch.profiler import record_function

WAIT = "wait"  # the phase in which a thread waits for others
VALIDATE = "validate"  # the phase in which a model is scored between updates


class Phases:
    """Seconds spent in each named phase of one thread; the names also label a profile.

    These are host seconds: queued GPU work counts in the phase that waits for it.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            with record_function(name):
                yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def snapshot(self) -> dict[str, float]:
        """Return a copy of the seconds; safe while another thread adds to them."""
        return dict(self.seconds)


def busy_seconds(phases: Mapping[str, float]) -> float:
    """Return the seconds spent in all phases except WAIT and VALIDATE."""
    return sum(seconds for name, seconds in phases.items() if name not in (WAIT, VALIDATE))
