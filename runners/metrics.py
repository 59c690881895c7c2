"""What a run records: names and meanings of the metrics, and the files that they go to."""

import json
import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from rfwp.agents.collector import Game
from rfwp.agents.learner import LearnerMetrics
from rfwp.runners.files import keep_lines

RECENT_GAMES = 100

# name: (group in TensorBoard, meaning). Means are over the time since the line before, unless they say otherwise.
METRICS = {
    "agent_steps": ("", "agent steps learned from since the start of the run"),
    "frames": ("", "emulator frames of those steps"),
    "wall_seconds": ("time", "seconds that the run has been training, stops not counted"),
    "updates": ("time", "learner updates since the start of the run"),
    "games": ("games", "full games ended since the start of the run"),
    "return_mean": ("games", f"mean raw return of the last {RECENT_GAMES} full games"),
    "return_max": ("games", "highest raw return among those"),
    "length_mean": ("games", "mean length of those, in agent steps"),
    "total_loss": ("loss", "the weighted sum of the three losses, per agent step"),
    "policy_loss": ("loss", "policy-gradient loss per agent step"),
    "baseline_loss": ("loss", "half the squared error of the value, per agent step"),
    "entropy": ("loss", "entropy of the policy, nats"),
    "value_mean": ("value", "mean predicted value"),
    "value_explained_variance": ("value", "1 - Var(vs - V) / Var(vs): 1 is perfect, 0 no better than a constant"),
    "gradient_norm": ("optimiser", "global gradient norm of the summed loss, before the clip"),
    "update_skipped": ("optimiser", "share of updates skipped because the gradient was not finite"),
    "learning_rate": ("optimiser", "of the next update"),
    "importance_weight_mean": ("off_policy", "mean of target over behaviour probability"),
    "importance_weight_clipped": ("off_policy", "share of steps whose importance weight is above 1 and clipped"),
    "policy_lag": ("off_policy", "age of the policy that acted, in learner updates"),
    "steps_per_second": ("time", "agent steps learned from per second"),
    "emulator_share": ("time", "share of the actor processes' time that the emulator takes"),
    "acting_share": ("time", "share of the collector's time that policy and copies take"),
    "learning_share": ("time", "share of the learner's time that updates take"),
    "queue_fill": ("time", "share of the queue that is full; 1: acting waits for the learner"),
    "actor_restarts": ("time", "actor processes replaced since the process started"),
    "memory_megabytes": ("time", "resident memory of the main process"),
}


class GameStatistics:
    """Scores of full games: how many there were, and the most recent ones."""

    def __init__(self) -> None:
        self.count = 0
        self.recent: deque[Game] = deque(maxlen=RECENT_GAMES)

    def add(self, game: Game) -> None:
        self.count += 1
        self.recent.append(game)

    @property
    def return_mean(self) -> float | None:
        """Mean raw return of the recent games; None before the first has ended."""
        return fmean(game.score for game in self.recent) if self.recent else None

    def metrics(self) -> dict[str, float | None]:
        """The metrics of group `games`."""
        scores = [game.score for game in self.recent]
        return {
            "games": self.count,
            "return_mean": self.return_mean,
            "return_max": max(scores, default=None),
            "length_mean": fmean(game.length for game in self.recent) if self.recent else None,
        }

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "recent": [tuple(game) for game in self.recent]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = int(state["count"])
        self.recent = deque((Game(*game) for game in state["recent"]), maxlen=RECENT_GAMES)


class LearnerAverages:
    """Averages of the learner's metrics since they were last taken, kept on its device: nothing waits for them."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, metrics: LearnerMetrics) -> None:
        values = torch.stack([value.to(metrics.total_loss.device) for value in metrics])
        self._sum = values if self._sum is None else self._sum + values
        self._count += 1

    def take(self) -> dict[str, float | None]:
        """The averages, None for each where there was no update; begins anew."""
        values = [None] * len(LearnerMetrics._fields) if self._sum is None else (self._sum / self._count).tolist()
        self._sum, self._count = None, 0
        return dict(zip(LearnerMetrics._fields, values, strict=True))


class MetricsLog:
    """Appends to metrics.jsonl and TensorBoard. A context manager."""

    def __init__(self, metrics_file: Path, tensorboard: Path, agent_steps: int) -> None:
        """Goes on after `agent_steps`: what an earlier process wrote beyond that is dropped: no step is told twice."""
        keep_lines(metrics_file, lambda line: _agent_steps(line) <= agent_steps)
        self._file = metrics_file.open("a", buffering=1)
        self._writer = SummaryWriter(str(tensorboard), purge_step=agent_steps + 1)

    def write(self, metrics: Mapping[str, float | None]) -> None:
        """One line; what is not finite becomes null."""
        finite = {
            name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()
        }
        self._file.write(json.dumps(finite) + "\n")
        for name, value in finite.items():
            if value is not None and METRICS[name][0]:
                tag, step = f"{METRICS[name][0]}/{name}", int(metrics["agent_steps"] or 0)
                self._writer.add_scalar(tag, value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._writer.close()


def _agent_steps(line: str) -> float:
    """The steps of a line; infinite for a line that a crash cut short."""
    if not line.endswith("\n"):
        return math.inf
    try:
        return float(json.loads(line)["agent_steps"])
    except (ValueError, KeyError, TypeError):
        return math.inf
