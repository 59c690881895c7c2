"""Where the time of a run goes."""

import time

import psutil

from rfwp.agents.collector import Collector
from rfwp.agents.learner import Learner
from rfwp.agents.sources import Source


class Meter:
    """Measures speed and load of a running system between two readings."""

    def __init__(self, learner: Learner, collector: Collector, source: Source) -> None:
        self._learner = learner
        self._collector = collector
        self._source = source
        self._process = psutil.Process()
        self._last = self._totals()

    def read(self) -> dict[str, float]:
        """`seconds` since the last reading, and the metrics of that time (names as in METRICS)."""
        totals = self._totals()
        wall, steps, emulator, acting, learning = (now - then for now, then in zip(totals, self._last, strict=True))
        self._last = totals
        pool = self._collector.pool
        return {
            "seconds": wall,
            "steps_per_second": steps / wall,
            "emulator_share": emulator / wall / sum(map(len, pool.groups)),
            "acting_share": acting / wall,
            "learning_share": learning / wall,
            "queue_fill": self._source.fill,
            "actor_restarts": pool.restarts,
            "memory_megabytes": self._process.memory_info().rss / 1e6,
        }

    def phases(self) -> dict[str, float]:
        """Seconds so far by phase, as `thread: phase`; those in the emulator are of all actor processes together."""
        spent = {"actors: emulator": self._collector.pool.busy_seconds}
        for thread, phases in {"collector": self._collector.phases, "learner": self._learner.phases}.items():
            spent |= {f"{thread}: {name}": seconds for name, seconds in phases.so_far().items()}
        return spent

    def _totals(self) -> tuple[float, ...]:
        return (
            time.perf_counter(),
            self._learner.agent_steps,
            self._collector.pool.busy_seconds,
            self._collector.phases.busy_seconds,
            self._learner.phases.busy_seconds,
        )
