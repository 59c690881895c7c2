"""What a run records: names and meanings of the metrics, and the files that they go to."""

import contextlib
import errno
import hashlib
import json
import math
import os
import threading
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
from rfwp.runners.errors import UserError
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
    "acting_share": (
        "time",
        "share of the collector's time that policy and copies take; on a GPU, with the wait for it",
    ),
    "learning_share": ("time", "share of the learner's time that updates take; on a GPU, only what launches them"),
    "queue_fill": ("time", "share of the queue that is full; 1: acting waits for the learner"),
    "actor_restarts": ("time", "actor processes replaced since the process started"),
    "memory_megabytes": ("time", "resident memory of the main process"),
    "gpu_memory_megabytes": ("time", "memory of the GPU that PyTorch holds; null without one"),
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


def check_metrics(metrics_file: Path, size: int, sha256: str) -> None:
    """UserError unless the file begins with what `MetricsLog.position` told of; one that was moved away is fine."""
    if not sha256 or not metrics_file.exists():
        return
    try:
        with metrics_file.open("rb") as file:
            damaged = hashlib.sha256(file.read(size)).hexdigest() != sha256
    except OSError as error:
        raise UserError(f"metrics: {metrics_file} cannot be read: {error.strerror}") from None
    if damaged:
        raise UserError(
            f"metrics: {metrics_file} is damaged: its first {size:,} bytes are not those that the checkpoint was"
            " written after; restore it, or move it away to go on without it"
        )


class MetricsLog:
    """Appends to metrics.jsonl and TensorBoard. A context manager."""

    def __init__(self, metrics_file: Path, tensorboard: Path, agent_steps: int) -> None:
        """Goes on after `agent_steps`: what an earlier process wrote beyond that is dropped: no step is told twice."""
        keep_lines(metrics_file, lambda line: _agent_steps(line) <= agent_steps)
        self._file = metrics_file.open("ab", buffering=0)
        self._written = hashlib.sha256(metrics_file.read_bytes())
        self._waiting = b""  # lines that have not reached the file yet
        self._tensorboard = tensorboard
        self._excepthook, threading.excepthook = threading.excepthook, self._in_thread
        self._writer: SummaryWriter | None = None
        self._open_tensorboard(agent_steps)

    def write(self, metrics: Mapping[str, float | None]) -> None:
        """One line; what is not finite becomes null.

        Raises:
            OSError: the disk is full. The line is kept in memory, and written before the next one.
        """
        finite = {
            name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()
        }
        self._waiting += json.dumps(finite).encode() + b"\n"
        self.flush()
        self._write_tensorboard(finite, int(metrics["agent_steps"] or 0))

    def flush(self) -> None:
        """Writes the lines that wait; OSError if they do not fit, and then no part of them is left in the file."""
        if not self._waiting:
            return
        size = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(self._waiting) != len(self._waiting):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        except OSError:
            self._file.truncate(size)
            raise
        self._written.update(self._waiting)
        self._waiting = b""

    def position(self) -> tuple[int, str]:
        """Bytes of metrics.jsonl, which are on the disk then, and their checksum: as `check_metrics` takes them."""
        os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END), self._written.hexdigest()

    def _open_tensorboard(self, agent_steps: int) -> None:
        self._writer = SummaryWriter(str(self._tensorboard), purge_step=agent_steps + 1)

    def _write_tensorboard(self, metrics: Mapping[str, float | None], agent_steps: int) -> None:
        """A writer that failed once fails for ever: after that the next line opens a new file."""
        if self._writer is None:
            self._open_tensorboard(agent_steps - 1)
        assert self._writer is not None
        try:
            for name, value in metrics.items():
                if value is not None and METRICS[name][0]:
                    self._writer.add_scalar(f"{METRICS[name][0]}/{name}", value, agent_steps)
        except OSError:
            self._close_tensorboard()
            raise

    def _in_thread(self, failure: threading.ExceptHookArgs) -> None:
        """TensorBoard's own thread prints a traceback of a full disk, and then has the next `write` raise it, too."""
        if not issubclass(failure.exc_type, OSError):
            self._excepthook(failure)

    def _close_tensorboard(self) -> None:
        writer, self._writer = self._writer, None
        with contextlib.suppress(OSError):  # of lines that were reported already
            if writer is not None:
                writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self.flush()
        self._file.close()
        self._close_tensorboard()
        threading.excepthook = self._excepthook


def _agent_steps(line: str) -> float:
    """The steps of a line; infinite for a line that a crash cut short."""
    if not line.endswith("\n"):
        return math.inf
    try:
        return float(json.loads(line)["agent_steps"])
    except (ValueError, KeyError, TypeError):
        return math.inf
