"""Where the time of a training run goes."""

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import psutil

from rfwp.agents.actor_learner import ActorLearner
from rfwp.agents.metrics import Metric
from rfwp.agents.phases import VALIDATE, busy_seconds
from rfwp.agents.system import System


class Meter:
    """Measures speed and load of a running system between two readings."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        "steps_per_second": Metric("time", "steps, in the unit of total_steps, per second"),
        "learning_share": Metric(
            "time", "share of the learner's time spent on updates; on a GPU, on launching them only"
        ),
        "memory_megabytes": Metric("time", "resident memory of the main process"),
    }

    def __init__(self, system: System[Any]) -> None:
        self._system = system
        self._process = psutil.Process()
        self._last = self._totals()

    def read(self) -> tuple[float, dict[str, float | None]]:
        """Return the seconds since the last reading and the values of METRICS over them."""
        now = self._totals()
        spent = {name: total - self._last[name] for name, total in now.items()}
        self._last = now
        return spent["wall"], self._metrics(spent)

    def _totals(self) -> dict[str, float]:
        """Return the seconds and steps since the start."""
        learner = self._system.learner
        return {
            "wall": time.perf_counter(),
            "steps": learner.steps,
            "learning": busy_seconds(learner.phases.seconds),
        }

    def _metrics(self, spent: Mapping[str, float]) -> dict[str, float | None]:
        return {
            "steps_per_second": spent["steps"] / spent["wall"],
            "learning_share": spent["learning"] / spent["wall"],
            "memory_megabytes": self._process.memory_info().rss / 1e6,
        }


class ActorMeter(Meter):
    """Measures the acting side of an actor-learner system as well."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        **Meter.METRICS,
        "emulator_share": Metric("time", "share of the actor processes' time spent in the emulator"),
        "acting_share": Metric(
            "time", "share of the collector's time spent on policy and copies; on a GPU, waits for it included"
        ),
        "queue_fill": Metric("time", "share of the queue that is full; 1: acting waits for the learner"),
        "actor_restarts": Metric("time", "actor processes replaced since the process started"),
    }

    def __init__(self, system: ActorLearner) -> None:
        self._actors = system
        super().__init__(system)

    def phases(self) -> dict[str, float]:
        """Return the seconds so far by `thread: phase`; emulator seconds are summed over all actor processes."""
        collected = self._actors.statistics
        spent = {"actors: emulator": collected.emulator_seconds}
        for thread, phases in {"collector": collected.phases, "learner": self._actors.learner.phases.seconds}.items():
            spent |= {f"{thread}: {name}": seconds for name, seconds in phases.items()}
        return spent

    def _totals(self) -> dict[str, float]:
        collected = self._actors.statistics
        return {
            **super()._totals(),
            # Wall clock of the collector, up to the newest trajectory that reached the learner.
            "collecting": collected.seconds,
            "acting": busy_seconds(collected.phases),
            "emulator": collected.emulator_seconds,
        }

    def _metrics(self, spent: Mapping[str, float]) -> dict[str, float | None]:
        return {
            **super()._metrics(spent),
            "emulator_share": _share(spent["emulator"] / self._actors.num_processes, spent["collecting"]),
            "acting_share": _share(spent["acting"], spent["collecting"]),
            "queue_fill": self._actors.queue_fill,
            "actor_restarts": self._actors.statistics.restarts,
        }


class TokenMeter(Meter):
    """Measures the tokens of supervised training as well."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        **Meter.METRICS,
        "tokens_per_second": Metric("time", "tokens per second, without padding, while not validating"),
    }

    def __init__(self, system: System[Any], tokens: Callable[[], int]) -> None:
        """`tokens` returns the tokens learned from so far."""
        self._tokens = tokens
        super().__init__(system)

    def _totals(self) -> dict[str, float]:
        validating = self._system.learner.phases.seconds.get(VALIDATE, 0.0)
        return {**super()._totals(), "tokens": self._tokens(), "validating": validating}

    def _metrics(self, spent: Mapping[str, float]) -> dict[str, float | None]:
        return {**super()._metrics(spent), "tokens_per_second": spent["tokens"] / (spent["wall"] - spent["validating"])}


def _share(part: float, whole: float) -> float | None:
    """Return part / whole; None if no trajectory has arrived since the last reading."""
    return part / whole if whole else None
