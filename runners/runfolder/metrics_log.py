"""The metrics of a run: their names and meanings, and the files that they are written to."""

import contextlib
import errno
import hashlib
import json
import math
import os
import threading
from collections.abc import Mapping
from typing import Self

from torch.utils.tensorboard import SummaryWriter

from rfwp.agents.learner import Learner
from rfwp.agents.metrics import EpisodeStatistics, Metric
from rfwp.agents.objectives import cross_entropy, vtrace
from rfwp.runners.runfolder.files import keep_lines
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.runfolder.metrics_file import read_line
from rfwp.runners.settings.kinds import AGENT, SEQUENCES, Kind
from rfwp.runners.training.meter import ActorMeter, TokenMeter

_FIRST = {
    "steps": Metric("", "steps since the start of the run, in the unit of total_steps"),  # TensorBoard's own axis
    "wall_seconds": Metric("time", "seconds that the run has trained, pauses between processes excluded"),
    "learning_rate": Metric("optimiser", "of the next update"),
}
_LAST = {"gpu_memory_megabytes": Metric("time", "GPU memory that PyTorch holds; null without a GPU")}

# The metrics of each kind of run, by name. Means are over the time since the previous line unless stated otherwise.
METRICS: dict[Kind, dict[str, Metric]] = {
    AGENT: {
        **_FIRST,
        "frames": Metric("", "emulator frames of those steps"),
        "updates": Metric("time", "learner updates since the start of the run"),
        **EpisodeStatistics.METRICS,
        **vtrace.Config.METRICS,
        **Learner.METRICS,
        **ActorMeter.METRICS,
        **_LAST,
    },
    SEQUENCES: {
        **_FIRST,
        "epoch": Metric(
            "time", "passes through the training split since the start of the run; null if its sequences are always new"
        ),
        "tokens": Metric("time", "tokens learned from since the start of the run, without padding"),
        **cross_entropy.Config.METRICS,
        "valid_loss": Metric("validation", "mean negative log-likelihood of the targets of the validation split, nats"),
        "valid_answers": Metric("validation", "share of its answers that are predicted"),
        "valid_sequences": Metric("validation", "share of its sequences in which every target is predicted"),
        **Learner.METRICS,
        **TokenMeter.METRICS,
        **_LAST,
    },
}


class MetricsLog:
    """Appends to metrics.jsonl and TensorBoard. A context manager."""

    def __init__(self, folder: RunFolder, kind: Kind, steps: int) -> None:
        """Continue after `steps`; drop later lines of an earlier process, so that no step is recorded twice."""
        metrics_file = folder.metrics_file
        keep_lines(metrics_file, lambda line: (row := read_line(line)) is not None and row["steps"] <= steps)
        self._file = metrics_file.open("ab+", buffering=0)
        self._file.seek(0)
        self._written = hashlib.file_digest(self._file, "sha256")
        self._waiting = b""  # lines not written yet
        self._folder = folder
        self._metrics = METRICS[kind]
        self._excepthook, threading.excepthook = threading.excepthook, self._in_thread
        self._writer: SummaryWriter | None = None
        self._open_tensorboard(steps)

    def write(self, metrics: Mapping[str, float | None]) -> None:
        """Write one line; values that are not finite become null.

        Raises:
            OSError: the disk is full. The line is kept in memory and written before the next one.
        """
        finite = {
            name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()
        }
        self._waiting += json.dumps(finite).encode() + b"\n"
        self.flush()
        self._write_tensorboard(finite, int(metrics["steps"] or 0))

    def flush(self) -> None:
        """Write the waiting lines. Raise OSError, leaving no part of them in the file, if the disk is full."""
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
        """Flush metrics.jsonl to disk; return its size and checksum, as `check_metrics` takes them."""
        os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END), self._written.hexdigest()

    def _open_tensorboard(self, steps: int) -> None:
        self._folder.follow()
        self._writer = SummaryWriter(str(self._folder.tensorboard), purge_step=steps + 1)

    def _write_tensorboard(self, metrics: Mapping[str, float | None], steps: int) -> None:
        """Write to TensorBoard. A writer that failed once keeps failing, so the next line opens a new file."""
        if self._writer is None:
            self._open_tensorboard(steps - 1)
        assert self._writer is not None
        try:
            for name, value in metrics.items():
                group = self._metrics[name].group
                if value is not None and group:
                    self._writer.add_scalar(f"{group}/{name}", value, steps)
        except OSError:
            self._close_tensorboard()
            raise

    def _in_thread(self, failure: threading.ExceptHookArgs) -> None:
        """Silence TensorBoard's thread on a full disk: the next `write` raises the same error anyway."""
        if not issubclass(failure.exc_type, OSError):
            self._excepthook(failure)

    def _close_tensorboard(self) -> None:
        writer, self._writer = self._writer, None
        with contextlib.suppress(OSError):  # already reported
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
