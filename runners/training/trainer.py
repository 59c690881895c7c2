"""Trains: runs a system to its end or a stop, and shows, records and saves its progress."""

import math
import sys
from functools import partial
from typing import Any, NamedTuple

from rfwp.agents.averages import Averages
from rfwp.agents.learner import Diverged, Stuck
from rfwp.checks import check
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.checkpoint import Checkpoint
from rfwp.runners.runfolder.files import is_number, write_bytes_whole
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.runfolder.manifest import MANIFEST, Manifest
from rfwp.runners.runfolder.metrics_log import MetricsLog
from rfwp.runners.runfolder.tensors import as_safetensors, batch_tensors
from rfwp.runners.training.best_effort import BestEffort
from rfwp.runners.training.dashboard import Display
from rfwp.runners.training.memory_estimate import is_out_of_memory
from rfwp.runners.training.meter import Meter
from rfwp.runners.training.profiler import Profiler
from rfwp.runners.training.saving import Saver
from rfwp.runners.training.timer import Timer
from rfwp.runners.training.training import AnyTraining


class Trainer:
    """Runs the system of a training and writes metrics and checkpoints into an existing run folder."""

    def __init__(self, training: AnyTraining, folder: RunFolder, display: Display, profiled_updates: int = 0) -> None:
        """Write nothing yet. `profiled_updates` updates are profiled soon after the start."""
        self.training = training
        self.system = training.system
        self.config = training.config
        self.folder = folder
        self.display = display
        self.saved = False  # at the end of the run
        self._averages = Averages()
        self._wall_seconds = 0.0
        self._logged_steps = 0
        self._reported: set[str] = set()  # damaged checkpoints that were reported already
        self._profiler = Profiler(folder.profile, profiled_updates, display.note)
        self._write_metrics = BestEffort("metrics cannot be written", display.note)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint of this run. Raise UserError if it does not fit."""
        checkpoint.load_weights(self.training.model)
        state = checkpoint.load_trainer()
        try:
            self.load_state_dict(state)
            steps, seconds = self.system.learner.steps, self._wall_seconds
            check(steps == checkpoint.manifest.steps, "steps", steps, f"{checkpoint.manifest.steps}, as in {MANIFEST}")
            check(0 <= seconds < math.inf, "wall_seconds", seconds, "seconds")
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise UserError(f"checkpoint: {checkpoint.folder} does not hold the state of this run: {error!r}") from None

    def run(self) -> None:
        """Train until total_steps or until the system is stopped, then save a checkpoint.

        Raises:
            ActorFailure: actors keep failing. A checkpoint is saved first.
            Diverged: the weights are useless and not saved; the newest checkpoint is from before.
            Stuck: gradients are no longer finite. The weights and the batch are saved.
        """
        self._logged_steps = self.system.learner.steps
        with MetricsLog(self.folder, self.training.kind, self._logged_steps) as log, self.system:
            saver = Saver(partial(self._save, log), 60 * self.config.checkpoint.minutes, self.display.note)
            try:
                self._train(log, saver)
            except Stuck as error:
                dumped = self._dump(error.batch)
                message = f"{error}; the saved weights are from before them, and the newest batch {dumped}"
                raise Stuck(message, error.batch) from None
            finally:
                if not isinstance(sys.exception(), Diverged):
                    self._save_at_the_end(saver)

    def _train(self, log: MetricsLog, saver: Saver) -> None:
        meter, line = self.training.meter(), Timer(self.config.log_seconds)
        for update in self.system:
            self._averages.add(update.metrics)
            self._profiler.step()
            scored = self.training.note(update, self.display.note)
            if line.due() or scored:
                self._write_line(log, meter)
            saver.save_if_due(now=scored)
            self.display.advance(self.system.learner.steps)
        self._write_line(log, meter)
        self._profiler.finish()

    def _write_line(self, log: MetricsLog, meter: Meter) -> None:
        learner = self.system.learner
        steps = learner.steps
        if steps == self._logged_steps:  # no step is recorded twice
            return
        self._logged_steps = steps
        seconds, speed = meter.read()
        self._wall_seconds += seconds
        gpu_bytes = resources.gpu_memory(self.system.device)
        line: dict[str, float | None] = {
            "steps": steps,
            "wall_seconds": self._wall_seconds,
            "learning_rate": learner.learning_rate,
            **self.training.metrics(),
            **self._averages.take(),
            **speed,
            "gpu_memory_megabytes": None if gpu_bytes is None else gpu_bytes / 1e6,
        }
        self._write_metrics.attempt(partial(log.write, line))
        self.display.update(line)

    def _save(self, log: MetricsLog) -> None:
        self.folder.follow()
        try:
            self.training.check_model()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):  # saving matters more than the check
                raise
        size, sha256 = log.position()
        score = self.training.score
        manifest = Manifest(
            steps=self.system.learner.steps,
            score=score if is_number(score) else None,
            metrics_bytes=size,
            metrics_sha256=sha256,
        )
        self.folder.checkpoints.save(self.training.model, self.state_dict(), manifest)
        for problem in self.folder.checkpoints.prune(self.config.checkpoint.keep):
            if problem not in self._reported:
                self._reported.add(problem)
                self.display.note(f"{problem}; it was left in place")

    def _save_at_the_end(self, saver: Saver) -> None:
        if self.system.learner.steps == 0:  # the weights are those of any new start
            return
        self.saved = saver.save_at_the_end(self.system)
        if not self.saved:
            since, now = max(self.folder.checkpoints.steps(), default=0), self.system.learner.steps
            self.display.note(f"not saved: training from {self.training.kind.step} {since:,} to {now:,} is lost")

    def _dump(self, batch: NamedTuple) -> str:
        """Write a batch to disk; say where it is or why that failed."""
        try:
            path = self.folder.path / f"bad-batch-{self.system.learner.steps:012d}.safetensors"
            write_bytes_whole(path, as_safetensors(batch_tensors(batch)))
            return f"is in {path}"
        except OSError as error:
            return f"cannot be written: {error.strerror or error}"

    def state_dict(self) -> dict[str, Any]:
        """Return the state beside the weights that a checkpoint holds: tensors and plain values only."""
        own = {"training": self.training.state_dict(), "wall_seconds": self._wall_seconds}
        return {**self.system.state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state returned by `state_dict`."""
        self.system.load_state_dict(state)
        self.training.load_state_dict(state["training"])
        self._wall_seconds = float(state["wall_seconds"])
