"""Reads the records of runs from their folders. Skips, counts and reports what cannot be read."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rfwp.agents.metrics import RECENT_EPISODES
from rfwp.envs.vector_env import EnvConfig
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.evaluations import read_evaluation
from rfwp.runners.runfolder.files import in_use
from rfwp.runners.runfolder.folder import RunFolder, find_run_folders
from rfwp.runners.runfolder.metrics_log import METRICS, read_line
from rfwp.runners.settings.config import flatten
from rfwp.runners.settings.kinds import AGENT
from rfwp.runners.settings.layers import build_component

Array = NDArray[np.float64]

NEEDED = {"env.name": str, "core.name": str, "total_steps": int, "seed": int}  # required in a config


class Final(NamedTuple):
    """The score that a run is judged by."""

    score: float  # mean raw return
    source: str  # "evaluation", or "training": the last 100 episodes of training
    episodes: int  # full episodes averaged
    steps: int  # at the evaluation


@dataclass(frozen=True)
class Run:
    """One run: its settings, its metrics, its evaluations."""

    folder: Path
    env: EnvConfig  # built from the settings
    settings: dict[str, Any]  # as on the command line: "core.name", "learner.learning_rate", ...
    origin: dict[str, str]  # versions of code, packages and machine
    metrics: dict[str, Array]  # [lines] each, by the names of METRICS; NaN where nothing was recorded
    evaluations: list[dict[str, Any]]
    videos: list[Path]
    under_way: bool  # a process is training it
    notes: list[str] = field(default_factory=list)  # what could not be read

    @property
    def env_name(self) -> str:
        """Name of its environment."""
        return str(self.settings["env.name"])

    @property
    def task(self) -> str:
        """Title of its environment."""
        return self.env.title

    @property
    def protocol(self) -> str | None:
        """Protocol of its environment; None if it has none."""
        return self.env.protocol

    @property
    def core(self) -> str:
        """Name of the memory core."""
        return str(self.settings["core.name"])

    @property
    def steps(self) -> int:
        """Agent steps learned from so far."""
        return int(self.metrics["steps"][-1]) if self.metrics["steps"].size else 0

    @property
    def total_steps(self) -> int:
        """Agent steps that the run is configured for."""
        return int(self.settings["total_steps"])

    @property
    def finished(self) -> bool:
        """True if it has done all its steps."""
        return self.steps >= self.total_steps

    def curve(self, against: str) -> tuple[Array, Array]:
        """Return a metric, such as "steps", and the mean return of the last episodes at those points."""
        known = np.isfinite(self.metrics[against]) & np.isfinite(self.metrics["return_mean"])
        return self.metrics[against][known], self.metrics["return_mean"][known]

    def normalised(self, score: float) -> float:
        """Normalise a raw score by the score range of the environment; NaN without one."""
        return self.env.score_range.normalise(score) if self.env.score_range else math.nan

    def final(self, policy: str) -> Final | None:
        """Return the newest evaluation of full episodes by this policy, or the end of training; None if no episode."""
        fitting = [
            facts
            for facts in self.evaluations
            if (facts["env"], facts["protocol"], facts["score"], facts["policy"])
            == (self.task, self.protocol, "episode", policy)
        ]
        if fitting:
            newest = max(fitting, key=lambda facts: (facts["steps"], facts["episodes"], -facts["seed"]))
            return Final(newest["mean"], "evaluation", newest["episodes"], newest["steps"])
        steps, returns = self.curve("steps")
        if not returns.size:
            return None
        episodes = int(np.nanmax(self.metrics["episodes"], initial=0))
        return Final(float(returns[-1]), "training", min(episodes, RECENT_EPISODES), int(steps[-1]))


def read_runs(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Read all runs in some folders, each once; also return what was left out. Raise UserError if none can be read."""
    runs, left_out = [], []
    for folder in find_run_folders(folders, "report"):
        try:
            runs.append(read_run(folder))
        except UserError as error:
            left_out.append(f"{folder.path} was left out: {error}")
    if not runs:
        raise UserError(f"report: no run can be read; {left_out[0]}")
    copies = _copies(runs)
    left_out += [f"{copy} was left out: it is a copy of {original}" for copy, original in copies.items()]
    return [run for run in runs if run.folder not in copies], left_out


def _copies(runs: Iterable[Run]) -> dict[Path, Path]:
    """Return runs that copy another's settings and metrics, with that other, which has no fewer evaluations."""
    originals: dict[tuple[str, bytes], Path] = {}
    copies = {}
    for run in sorted(runs, key=lambda run: -len(run.evaluations)):
        record = b"".join(column.tobytes() for column in run.metrics.values())
        original = originals.setdefault((repr(run.settings), record), run.folder) if record else run.folder
        if original != run.folder:
            copies[run.folder] = original
    return copies


def read_run(folder: RunFolder) -> Run:
    """Read one run. Raise UserError if its config.yaml cannot be read."""
    values = folder.read_values()
    settings = flatten(values)
    for name, kind in NEEDED.items():
        if not isinstance(settings.get(name), kind):
            raise UserError(f"{folder.config_file} is not the config of a run: it has no {name}")
    env = _build_env(values["env"], folder.config_file)
    notes: list[str] = []
    metrics = _read_metrics(folder.metrics_file, notes)
    evaluations = _read_evaluations(folder.evaluations, notes)
    videos = [path for kind in ("*.mp4", "*.gif") for path in sorted(folder.videos.glob(kind))]
    under_way = in_use(folder.path)
    return Run(folder.path, env, settings, folder.read_origin(), metrics, evaluations, videos, under_way, notes)


def _build_env(values: Any, path: Path) -> EnvConfig:
    """Build the config of an environment from a config.yaml. Raise a UserError that names the file."""
    try:
        env: EnvConfig = build_component("env", values)
    except UserError as error:
        raise UserError(f"{path} is not the config of a run: {error}") from None
    return env


def _read_metrics(path: Path, notes: list[str]) -> dict[str, Array]:
    """Return the columns of metrics.jsonl, sorted by steps."""
    try:
        lines = path.read_text(errors="replace").splitlines(keepends=True)
    except OSError:
        notes.append("has no readable metrics.jsonl")
        lines = []
    if lines and not lines[-1].endswith("\n"):
        lines.pop()  # a line still being written, or cut off by a kill
    rows = [row for line in lines if line.strip() and (row := read_line(line)) is not None]
    unreadable = sum(1 for line in lines if line.strip()) - len(rows)
    if unreadable:
        notes.append(f"{unreadable} of {len(lines)} lines of metrics.jsonl cannot be read and were skipped")
    rows.sort(key=lambda row: row["steps"])
    return {name: np.array([row.get(name, math.nan) for row in rows], np.float64) for name in METRICS[AGENT]}


def _read_evaluations(folder: Path, notes: list[str]) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob("*.json")):
        if (facts := read_evaluation(path)) is not None:
            found.append(facts)
        else:
            notes.append(f"{path.name} in eval/ is not a readable evaluation and was skipped")
    return found
