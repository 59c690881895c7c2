"""Where the time of a training run goes."""

import time
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import psutil

from rfwp.agents.actor_learner import ActorLearner
from rfwp.agents.metrics import Metric
from rfwp.agents.phases import busy_seconds


class _Totals(NamedTuple):
    """Seconds and agent steps since the start."""

    wall: float
    steps: float
    learning: float
    collecting: float  # wall clock of the collector, up to the newest trajectory that reached the learner
    acting: float
    emulator: float


class Meter:
    """Measures speed and load of a running system between two readings."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        "steps_per_second": Metric("time", "agent steps learned from per second"),
        "emulator_share": Metric("time", "share of the actor processes' time spent in the emulator"),
        "acting_share": Metric(
            "time", "share of the collector's time spent on policy and copies; on a GPU, waits for it included"
        ),
        "learning_share": Metric(
            "time", "share of the learner's time spent on updates; on a GPU, on launching them only"
        ),
        "queue_fill": Metric("time", "share of the queue that is full; 1: acting waits for the learner"),
        "actor_restarts": Metric("time", "actor processes replaced since the process started"),
        "memory_megabytes": Metric("time", "resident memory of the main process"),
    }

    def __init__(self, system: ActorLearner) -> None:
        self._system = system
        self._process = psutil.Process()
        self._last = self._totals()

    def read(self) -> tuple[float, dict[str, float | None]]:
        """Return the seconds since the last reading and the values of METRICS over them."""
        now = self._totals()
        spent = _Totals(*(after - before for after, before in zip(now, self._last, strict=True)))
        self._last = now
        return spent.wall, {
            "steps_per_second": spent.steps / spent.wall,
            "emulator_share": _share(spent.emulator / self._system.num_processes, spent.collecting),
            "acting_share": _share(spent.acting, spent.collecting),
            "learning_share": spent.learning / spent.wall,
            "queue_fill": self._system.queue_fill,
            "actor_restarts": self._system.statistics.restarts,
            "memory_megabytes": self._process.memory_info().rss / 1e6,
        }

    def phases(self) -> dict[str, float]:
        """Return the seconds so far by `thread: phase`; emulator seconds are summed over all actor processes."""
        collected = self._system.statistics
        spent = {"actors: emulator": collected.emulator_seconds}
        for thread, phases in {"collector": collected.phases, "learner": self._system.learner.phases.seconds}.items():
            spent |= {f"{thread}: {name}": seconds for name, seconds in phases.items()}
        return spent

    def _totals(self) -> _Totals:
        learner, collected = self._system.learner, self._system.statistics
        return _Totals(
            wall=time.perf_counter(),
            steps=learner.steps,
            learning=busy_seconds(learner.phases.seconds),
            collecting=collected.seconds,
            acting=busy_seconds(collected.phases),
            emulator=collected.emulator_seconds,
        )


def _share(part: float, whole: float) -> float | None:
    """Return part / whole; None if no trajectory has arrived since the last reading."""
    return part / whole if whole else None
