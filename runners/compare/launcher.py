"""Runs the cells of a comparison as separate processes, several at once, until all are done or a signal arrives."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from rfwp.agents import host
from rfwp.runners.build import build_agent, build_sequence_system, spec_of
from rfwp.runners.compare.comparison import Cell, Comparison
from rfwp.runners.machine import resources
from rfwp.runners.machine.signals import StopSignals
from rfwp.runners.runfolder.evaluations import final_evaluation, headline
from rfwp.runners.runfolder.files import LockedFolder, tail
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.runfolder.metrics_file import newest_metrics
from rfwp.runners.settings.config import AgentRunConfig, RunConfig, SequenceRunConfig
from rfwp.runners.training.memory_estimate import check_agent_sizes, check_sequence_sizes

LOG_LINES = 6  # shown of a failed run
# Measured resident memory at the start: 390 MB with a toy task, 100 MB for an actor with 32 Atari environments.
MAIN_BYTES, ACTOR_BYTES = 400_000_000, 100_000_000


@dataclass
class Run:
    """A cell and its state."""

    cell: Cell
    out: Path  # folder of the comparison
    words: list[str]  # after `rfwp train`, to start it
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    metrics: dict[str, Any] = field(default_factory=dict)  # the newest
    score: float | None = None  # of its final evaluation

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.out / self.cell.name)

    @property
    def log(self) -> Path:
        return self.out / "logs" / f"{self.cell.name}.log"

    def look(self) -> None:
        """Read its progress from its folder."""
        self.metrics = newest_metrics(self.folder.metrics_file) or self.metrics
        evaluation = final_evaluation(self.folder)
        if evaluation is not None:
            self.score = headline(evaluation)

    @property
    def steps(self) -> int:
        return int(self.metrics.get("steps") or 0)


class Watcher(Protocol):
    """An observer of the launcher."""

    def update(self, runs: Sequence[Run]) -> None:
        """Show progress. Called four times a second."""

    def note(self, message: str) -> None:
        """Show a message to the user."""


def find_runs(comparison: Comparison, out: Path) -> list[Run]:
    """Return the runs of a comparison in a folder; those with a final evaluation are done."""
    runs = []
    for cell in comparison.cells:
        runs.append(Run(cell, out, comparison.words(cell)))
        runs[-1].look()
        runs[-1].state = "waiting" if runs[-1].score is None else "done"
    return runs


def largest_run(comparison: Comparison) -> int:
    """Return the bytes of main memory that the largest run needs. Raise UserError if a run does not fit."""
    unlike: dict[object, int] = {}
    for cell, config in comparison.configs():
        if cell.seed == 1:
            with cell.named_in_errors():
                key = _memory_key(config)
                unlike[key] = unlike.get(key) or _memory_of(config)
    return max(unlike.values())


def _memory_key(config: RunConfig) -> object:
    """Return what the memory of a run depends on.

    Environments that differ only in their actions need about the same, and checking each would be slow.
    """
    if isinstance(config, AgentRunConfig):
        return spec_of(config.env).observation, config.encoder, config.core, config.learner, config.actors
    return config


def _memory_of(config: RunConfig) -> int:
    if isinstance(config, SequenceRunConfig):
        on_gpu = resources.pick_device(config.device).type == "cuda"
        return MAIN_BYTES + (0 if on_gpu else check_sequence_sizes(config, build_sequence_system(config)))
    assert isinstance(config, AgentRunConfig), "there are two kinds of runs"
    cpu, processes = torch.device("cpu"), config.actors.num_processes(1)
    agent, actors = build_agent(config, cpu), processes + config.actors.keeps_spare(config.env)
    own = MAIN_BYTES + actors * ACTOR_BYTES
    if resources.pick_device(config.device).type == "cuda":  # each run checks its GPU itself
        return own
    return check_agent_sizes(config, agent, processes, cpu) + own


def gpus_to_share(device: str) -> list[str]:
    """Return the GPUs to share among runs with this device: all for "auto", else none."""
    return resources.gpus() if device == "auto" else []


def default_jobs(device: str, run_bytes: int) -> int:
    """Return the number of runs at once: one per GPU, or one per CPU core as far as memory allows."""
    if device.startswith("cuda"):
        return 1
    return len(gpus_to_share(device)) or max(1, min(host.cores(), resources.free_memory() // run_bytes))


class Launcher:
    """Keeps `jobs` runs going, each on its own CPU cores.

    If there are GPUs to share, each run sees one of them.
    """

    POLL_SECONDS = 0.25

    def __init__(self, runs: Sequence[Run], folder: LockedFolder, jobs: int, gpus: Sequence[str] = ()) -> None:
        """Start nothing yet. `folder` is that of the comparison."""
        self.runs = runs
        self.folder = folder
        self.jobs = jobs
        self._cores = resources.share_cores(jobs)
        self._gpus = gpus
        self._going: dict[int, tuple[Run, subprocess.Popen[bytes]]] = {}  # by share of the cores

    def run(self, watcher: Watcher, stop: StopSignals) -> None:
        """Run until every run is done or failed; after a signal, until every running one has saved."""
        try:
            while self._fill() or self._going:
                time.sleep(self.POLL_SECONDS)
                if stop.received is not None:
                    break
                self._collect(watcher)
                watcher.update(self.runs)
        finally:
            self._end(watcher)

    def _fill(self) -> bool:
        """Start waiting runs on free shares; return True if any started."""
        waiting = [run for run in self.runs if run.state == "waiting"]
        free = [share for share in range(len(self._cores)) if share not in self._going]
        for run, share in zip(waiting, free, strict=False):
            self._going[share] = run, self._start(run, share)
            run.state = "running"
        return bool(waiting and free)

    def _start(self, run: Run, share: int) -> subprocess.Popen[bytes]:
        words = ["--run", str(run.folder.path), *([] if run.folder.exists else run.words)]
        command = resources.own_command("train", *words)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[share % len(self._gpus)]
        run.log.parent.mkdir(exist_ok=True)
        with run.log.open("a", encoding="utf-8", errors="replace") as log:
            log.write(f"==== {datetime.now():%Y-%m-%d %H:%M:%S} rfwp train {' '.join(words)}\n")
            log.flush()
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # else Ctrl-C and our SIGTERM would both reach it, and two signals kill
                preexec_fn=resources.child_setup(self._cores[share]),
            )

    def _collect(self, watcher: Watcher) -> None:
        """Update the progress of the runs, and report those that ended. Raise UserError if the folder was deleted."""
        out = self.folder.find()
        for run in self.runs:
            run.out = out
        for share, (run, process) in list(self._going.items()):
            code = process.poll()
            run.look()
            if code is not None:
                del self._going[share]
                run.state = "done" if code == 0 and run.score is not None else "failed"
                watcher.note(_news(run, code))

    def _end(self, watcher: Watcher) -> None:
        """Tell the running runs to save and stop, and wait for them."""
        for _, process in self._going.values():
            process.send_signal(signal.SIGTERM)
        if self._going:
            watcher.note(f"stopping: waiting for {len(self._going)} runs to save")
        for run, process in self._going.values():
            process.wait()
            run.look()
            run.state = "waiting" if run.score is None else "done"


def _news(run: Run, code: int) -> str:
    """Return the message about a run that ended."""
    if run.state == "done":
        return f"{run.cell.name} is done: {run.score:,.2f}"
    how = f"it was killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    hint = "; if memory ran out, try fewer --jobs" if code == -signal.SIGKILL else ""
    lines = "".join(f"\n    {line}" for line in tail(run.log, LOG_LINES))
    return f"{run.cell.name} failed: {how}{hint}; the end of {run.log}:{lines}"
