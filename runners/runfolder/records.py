"""Reads the records of runs from their folders. Skips, counts and reports what cannot be read."""

import hashlib
import math
from abc import ABC, abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rfwp.agents.metrics import RECENT_EPISODES
from rfwp.envs.sequence_task import Measure, SequenceTask
from rfwp.envs.subject import Subject
from rfwp.runners.machine.errors import UserError, reason
from rfwp.runners.runfolder.evaluations import headline, is_of_other_weights, read_evaluation
from rfwp.runners.runfolder.files import in_use, is_number
from rfwp.runners.runfolder.folder import RunFolder, find_run_folders
from rfwp.runners.runfolder.metrics_file import read_line
from rfwp.runners.settings.kinds import AGENT, SEQUENCES, Kind, kind_of
from rfwp.runners.settings.layers import build_component, flatten

Array = NDArray[np.float64]

# The metrics that reports show: a run of weeks has a million lines, and all metrics of them would fill the memory.
READ = {
    AGENT: (
        *("steps", "wall_seconds", "episodes", "return_total", "return_mean", "steps_per_second", "policy_lag"),
        *("importance_weight_clipped", "emulator_share", "learning_share", "actor_restarts", "memory_megabytes"),
    ),
    SEQUENCES: (
        *("steps", "wall_seconds", "epoch", "loss", "gradient_norm", "valid_loss", "valid_answers", "valid_sequences"),
        *("steps_per_second", "tokens_per_second", "learning_share", "memory_megabytes"),
    ),
}
NEEDED = {"core.name": str, "total_steps": int, "seed": int}  # required in a config


class Final(NamedTuple):
    """The score that a run is judged by."""

    score: float  # mean raw return, or the measure of a supervised task
    source: str  # "evaluation", or "training"
    size: int | None  # episodes or targets averaged; None: not recorded
    what: str  # what these are
    steps: int  # of training, at the evaluation
    answers: float | None = None  # percent of the answers right, of a task that has some


@dataclass(frozen=True)
class Run(ABC):
    """One run: its settings, its metrics, its evaluations."""

    kind: ClassVar[Kind]

    folder: Path
    subject: Subject  # built from the settings
    settings: dict[str, Any]  # as on the command line: "core.name", "learner.learning_rate", ...
    origin: dict[str, str]  # versions of code, packages and machine
    metrics: dict[str, Array]  # [lines] each, by the names of READ; NaN where nothing was recorded
    evaluations: list[dict[str, Any]]
    videos: list[Path]
    under_way: bool  # a process is training it
    notes: list[str] = field(default_factory=list)  # what could not be read

    @property
    def title(self) -> str:
        """Title of its environment or task."""
        return self.subject.title

    @property
    def family(self) -> str:
        """Groups runs whose other settings of the subject should agree: by suite, or by title."""
        return self.subject.suite if self.subject.title_setting and self.subject.suite else self.title

    @property
    def protocol(self) -> str | None:
        """Protocol of its environment; None if it has none."""
        return self.subject.protocol

    @property
    def core(self) -> str:
        """Name of the memory core."""
        return str(self.settings["core.name"])

    @property
    def steps(self) -> int:
        """Steps done so far."""
        return int(self.metrics["steps"][-1]) if self.metrics["steps"].size else 0

    @property
    def total_steps(self) -> int:
        """Steps that the run is configured for."""
        return int(self.settings["total_steps"])

    @property
    def finished(self) -> bool:
        """True if it has done all its steps."""
        return self.steps >= self.total_steps

    @property
    def mmer(self) -> float | None:
        """The MMER (see Subject) of its training; None if the subject or the run has none."""
        return None

    @property
    @abstractmethod
    def scores(self) -> Array:
        """The score at each line of metrics; NaN where it is not known."""

    def curve(self, against: str) -> tuple[Array, Array]:
        """Return a metric, such as "steps", and the scores at those points."""
        scores = self.scores
        known = np.isfinite(self.metrics[against]) & np.isfinite(scores)
        return self.metrics[against][known], scores[known]

    def metric(self, name: str) -> Array:
        """Return the known values of a metric."""
        values = self.metrics[name]
        return values[np.isfinite(values)]

    def normalised(self, score: float) -> float:
        """Normalise a raw score by the score range of the subject; NaN without one."""
        return self.subject.score_range.normalise(score) if self.subject.score_range else math.nan

    @abstractmethod
    def final(self, policy: str) -> Final | None:
        """Return the score that the run is judged by; None if there is none yet. `policy` is that of agents."""


@dataclass(frozen=True)
class AgentRun(Run):
    """A run of an agent, scored by its mean return."""

    kind = AGENT

    @property
    def scores(self) -> Array:
        return self.metrics["return_mean"]

    @property
    def mmer(self) -> float | None:
        stretch = self.subject.mmer_steps
        columns = np.stack([self.metrics[name] for name in ("steps", "episodes", "return_total")])
        steps, *totals = np.pad(columns[:, np.isfinite(columns).all(axis=0)], ((0, 0), (1, 0)))  # all start at 0
        if stretch is None or steps[-1] < stretch:
            return None
        ends = np.arange(0, steps[-1] + 1, stretch)
        episodes, returns = (np.diff(np.interp(ends, steps, total)) for total in totals)
        ended = episodes > 0
        return float((returns[ended] / episodes[ended]).max()) if ended.any() else None

    def final(self, policy: str) -> Final | None:
        """Return the newest evaluation of full episodes by this policy, or the end of training; None if no episode."""
        fitting = [
            facts
            for facts in self.evaluations
            if not facts.get("changed")  # settings of the environment
            and (facts.get("env"), facts.get("protocol"), facts.get("score"), facts.get("policy"))
            == (self.title, self.protocol, "episode", policy)
        ]
        if fitting:
            newest = max(fitting, key=lambda facts: (facts["steps"], facts["episodes"], -facts["seed"]))
            return Final(newest["mean"], "evaluation", newest["episodes"], f"episodes, {policy}", newest["steps"])
        steps, returns = self.curve("steps")
        if not returns.size:
            return None
        episodes = min(int(np.nanmax(self.metrics["episodes"], initial=0)), RECENT_EPISODES)
        return Final(float(returns[-1]), "training", episodes, "episodes", int(steps[-1]))


@dataclass(frozen=True)
class SequenceRun(Run):
    """A run of a sequence model, scored by the measure of its task, in percent if that is an accuracy."""

    kind = SEQUENCES

    @property
    def measure(self) -> Measure:
        """The measure of its task."""
        assert isinstance(self.subject, SequenceTask), "read_run builds it so"
        return self.subject.measure

    @property
    def scores(self) -> Array:
        match self.measure:
            case "perplexity":
                return np.exp(self.metrics["valid_loss"])
            case "bits":
                return self.metrics["valid_loss"] / math.log(2)
            case measure:
                return 100 * self.metrics[f"valid_{measure}"]

    def final(self, policy: str) -> Final | None:
        """Return the final evaluation, of the best checkpoint on the test split, or the last validation."""
        done = [facts for facts in self.evaluations if is_number(facts.get("trained"))]
        newest: dict[str, Any] = max(done, key=lambda facts: int(facts["trained"]), default={"value": None})
        if (score := headline(newest)) is not None:
            share: Any = newest.get("answers")
            answers = 100 * share if is_number(share) else None
            targets, updates = newest["targets"], newest["trained"]
            return Final(score, "evaluation", targets, "targets of the test split", updates, answers)
        steps, scores = self.curve("steps")
        if not scores.size:
            return None
        return Final(float(scores[-1]), "training", None, "validation split", int(steps[-1]))


def read_runs(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Read all runs in some folders, each once; also return what was left out. Raise UserError if none can be read."""
    found, left_out = find_run_folders(folders, "report")
    runs = []
    for folder in found:
        try:
            runs.append(read_run(folder))
        except (UserError, OSError) as error:
            left_out.append(f"{folder.path} was left out: {reason(error)}")
    if not runs:
        raise UserError(f"report: no run can be read; {left_out[0]}")
    ((kind, _),) = Counter(run.kind for run in runs).most_common(1)
    for run in (run for run in runs if run.kind is not kind):
        left_out.append(f"{run.folder} was left out: it is on {run.title}, which has another kind of score")
    runs = [run for run in runs if run.kind is kind]
    copies = _copies(runs)
    left_out += [f"{copy} was left out: it is a copy of {original}" for copy, original in copies.items()]
    return [run for run in runs if run.folder not in copies], left_out


def _copies(runs: Iterable[Run]) -> dict[Path, Path]:
    """Return runs that copy another's settings and metrics, with that other, which has no fewer evaluations."""
    originals: dict[tuple[str, bytes], Path] = {}
    copies = {}
    for run in sorted(runs, key=lambda run: -len(run.evaluations)):
        record = hashlib.sha256()
        for column in run.metrics.values():
            record.update(np.ascontiguousarray(column).data)
        original = originals.setdefault((repr(run.settings), record.digest()), run.folder) if run.steps else run.folder
        if original != run.folder:
            copies[run.folder] = original
    return copies


def read_run(folder: RunFolder) -> Run:
    """Read one run. Raise UserError if its config.yaml cannot be read."""
    values = folder.read_values()
    settings, owner = flatten(values), SequenceRun if kind_of(values) is SEQUENCES else AgentRun
    for name, kind in {f"{owner.kind.subject}.name": str, **NEEDED}.items():
        if not isinstance(settings.get(name), kind):
            raise UserError(f"{folder.config_file} is not the config of a run: it has no {name}")
    try:
        subject = build_component(owner.kind.subject, values[owner.kind.subject])
    except UserError as error:
        raise UserError(f"{folder.config_file} is not the config of a run: {error}") from None
    notes: list[str] = []
    metrics = _read_metrics(folder.metrics_file, owner.kind, notes)
    evaluations = _read_evaluations(folder, notes)
    videos = [path for kind in ("*.mp4", "*.gif") for path in sorted(folder.videos.glob(kind)) if path.is_file()]
    under_way = in_use(folder.path)
    return owner(folder.path, subject, settings, folder.read_origin(), metrics, evaluations, videos, under_way, notes)


def _read_metrics(path: Path, kind: Kind, notes: list[str]) -> dict[str, Array]:
    """Return the columns of metrics.jsonl, sorted by steps."""
    names, numbers, unreadable = READ[kind], array("d"), 0
    try:
        with path.open("rb") as file:
            for line in file:
                values = read_line(line)
                if values is not None:
                    numbers.extend(value if is_number(value := values.get(name)) else math.nan for name in names)
                elif line.endswith(b"\n"):  # else it is still being written, or was cut off by a kill
                    unreadable += bool(line.strip())
    except OSError:
        notes.append("has no readable metrics.jsonl")
    rows = np.frombuffer(numbers).reshape(-1, len(names))
    if unreadable:
        notes.append(f"{unreadable} of {unreadable + len(rows)} lines of metrics.jsonl cannot be read and were skipped")
    found = dict(zip(names, rows.T, strict=True))
    steps = found["steps"]
    if (np.diff(steps) < 0).any():
        order = np.argsort(steps, kind="stable")
        found = {name: column[order] for name, column in found.items()}
    return found


def _read_evaluations(folder: RunFolder, notes: list[str]) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.evaluations.glob("*.json")):
        facts = read_evaluation(path)
        if facts is None:
            notes.append(f"{path.name} in eval/ is not a readable evaluation and was skipped")
        elif is_of_other_weights(folder, facts):
            notes.append(f"{path.name} in eval/ is of other weights than its checkpoint and was skipped")
        else:
            found.append(facts)
            if is_number(wraps := facts.get("wraps", 0)) and wraps > 0:
                notes.append(f"{path.name} in eval/ has wrong returns: the game's score wrapped round")
    return found
