"""What a run records: names and meanings of the metrics, and the files that they go to."""

import contextlib
import errno
import hashlib
import json
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from torch.utils.tensorboard import SummaryWriter

from rfwp.agents.learner import Learner
from rfwp.agents.metrics import EpisodeStatistics, Metric
from rfwp.agents.objectives import vtrace
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.files import is_number, keep_lines, tail
from rfwp.runners.training.meter import Meter

# By name, in the order of a line. Means are over the time since the line before, unless their meaning says otherwise.
METRICS: dict[str, Metric] = {
    "agent_steps": Metric("", "agent steps learned from since the start of the run"),  # TensorBoard's own axis
    "frames": Metric("", "emulator frames of those steps"),
    "wall_seconds": Metric("time", "seconds that the run has been training, stops not counted"),
    "updates": Metric("time", "learner updates since the start of the run"),
    "learning_rate": Metric("optimiser", "of the next update"),
    **EpisodeStatistics.METRICS,
    **vtrace.Config.METRICS,
    **Learner.METRICS,
    **Meter.METRICS,
    "gpu_memory_megabytes": Metric("time", "memory of the GPU that PyTorch holds; null without one"),
}


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
        keep_lines(
            metrics_file, lambda line: (row := read_line(line)) is not None and row["agent_steps"] <= agent_steps
        )
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
                group = METRICS[name].group
                if value is not None and group:
                    self._writer.add_scalar(f"{group}/{name}", value, agent_steps)
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

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self.flush()
        self._file.close()
        self._close_tensorboard()
        threading.excepthook = self._excepthook


def read_line(line: str) -> dict[str, float] | None:
    """Read the numbers of one line of metrics.jsonl; None if it is damaged, or cut short."""
    if not line.endswith("\n"):
        return None
    try:
        values = json.loads(line)
        row = {name: float(value) for name, value in values.items() if is_number(value)}
    except (ValueError, AttributeError, OverflowError, RecursionError):
        return None
    return row if row.get("agent_steps", -1) >= 0 else None


def newest_metrics(metrics_file: Path) -> dict[str, float]:
    """Read the last whole line of metrics.jsonl; {} before the first."""
    rows = (read_line(f"{line}\n") for line in reversed(tail(metrics_file)))
    return next((row for row in rows if row is not None), {})
