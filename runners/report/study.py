"""Runs grouped by task and by agent; an agent is a core with its settings."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from rfwp.envs.subject import Subject
from rfwp.runners.evaluation.statistics import Estimate, Strata, estimate, mean, repeated
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.output import one_line
from rfwp.runners.report.words import WORDS, Words
from rfwp.runners.runfolder.folder import short_names
from rfwp.runners.runfolder.records import Array, Final, Run
from rfwp.runners.settings.components import title_option
from rfwp.runners.settings.kinds import Kind
from rfwp.runners.settings.layers import CIRCUMSTANCES

TIMES = {"hours": 3600.0, "minutes": 60.0, "seconds": 1.0}
USUAL_BASELINES = ("lstm", "gru", "feedforward")


class Result(NamedTuple):
    """The result of one agent on one task."""

    task: str
    agent: str
    runs: list[Run]
    finals: list[Final]  # of the runs that have a score
    score: Estimate  # mean over runs; NaN if none has a score

    @property
    def from_training(self) -> bool:
        """True if a score is from training, because its run has no evaluation."""
        return any(final.source == "training" for final in self.finals)

    @property
    def answers(self) -> float | None:
        """Mean percentage of answers right; None without answers."""
        known = [final.answers for final in self.finals if final.answers is not None]
        return fmean(known) if known else None

    @property
    def mmer(self) -> float | None:
        """Mean over runs of their MMER; None without any."""
        known = [mmer for run in self.runs if (mmer := run.mmer) is not None]
        return fmean(known) if known else None

    @property
    def subject(self) -> Subject:
        """Environment or task of the first run; the others do not differ in anything that matters."""
        return self.runs[0].subject

    @property
    def normalised(self) -> float:
        """Mean score, normalised by the score range of its subject; NaN without a score range."""
        return self.runs[0].normalised(self.score.value)


@dataclass(frozen=True)
class Study:
    """All runs of a report, of one kind. A task is a supervised task, or an environment with certain settings."""

    runs: list[Run]
    policy: str  # of the evaluations that count

    @property
    def kind(self) -> Kind:
        """The kind of all runs."""
        return self.runs[0].kind

    @cached_property
    def words(self) -> Words:
        """What to say about runs of this kind."""
        return Words(*(phrase.format(policy=self.policy) for phrase in WORDS[self.kind]))

    @cached_property
    def names(self) -> dict[Path, str]:
        """The name of the run in each folder."""
        folders = [run.folder for run in self.runs]
        return dict(zip(folders, map(one_line, short_names(folders)), strict=True))

    def name_of(self, run: Run) -> str:
        """Return the name of a run."""
        return self.names[run.folder]

    @cached_property
    def protocols(self) -> list[str]:
        """The protocols of all runs."""
        return sorted({run.protocol for run in self.runs if run.protocol})

    def normalisation(self, tasks: Sequence[str]) -> str:
        """Return a phrase that says what 0 and 100 % mean in the normalised scores of some tasks; "" without any."""
        ranges = [result.subject.score_range for result in self.results if result.task in tasks]
        return "; ".join(dict.fromkeys(each.meaning for each in ranges if each))

    @property
    def has_mmer(self) -> bool:
        """True if any task has an MMER."""
        return any(result.mmer is not None for result in self.results)

    @property
    def has_answers(self) -> bool:
        """True if any task has several answers in a sequence, so that their score differs from that of sequences."""
        finals = [final for result in self.results for final in result.finals]
        return any(final.answers not in (None, final.score) for final in finals)

    @cached_property
    def time_unit(self) -> tuple[str, float]:
        """The largest unit of which the longest run took at least three, with its length in seconds."""
        longest = max(np.nanmax(run.metrics["wall_seconds"], initial=0) for run in self.runs)
        return next(unit for unit in TIMES.items() if longest >= 3 * unit[1] or unit[1] == 1)

    @cached_property
    def variants(self) -> dict[str, dict[str, list[Any]]]:
        """The settings of the subject, other than the title, in which the runs of each family differ."""
        by_family: dict[str, list[Run]] = defaultdict(list)
        for run in self.runs:
            by_family[run.family].append(run)
        return {
            family: {
                name: values
                for name, values in differing(runs).items()
                if name.startswith(f"{self.kind.subject}.") and name != title_option(runs[0].subject)
            }
            for family, runs in by_family.items()
        }

    @cached_property
    def mixed_envs(self) -> list[str]:
        """Environments with several titles whose runs differ in other settings of the environment."""
        return sorted({run.family for run in self.runs if run.family != run.title and self.variants[run.family]})

    @property
    def comparable(self) -> bool:
        """True if scores of different environments may be averaged."""
        return not self.mixed_envs

    def task_of(self, run: Run) -> str:
        """Return the task of a run: the title and the settings in which tasks of its environment differ."""
        return _distinguished(run.title, run, self.variants[run.family])

    @cached_property
    def tasks(self) -> list[str]:
        """All tasks, by name."""
        return sorted({self.task_of(run) for run in self.runs})

    @cached_property
    def agents(self) -> dict[str, str]:
        """All agents with their cores, usual baselines first."""
        cores = {self.agent_of(run): run.core for run in self.runs}
        rank = {core: place for place, core in enumerate(("feedforward", "lstm", "gru"))}
        return dict(sorted(cores.items(), key=lambda item: (rank.get(item[1], len(rank)), item[0])))

    @cached_property
    def _distinctions(self) -> dict[str, list[str]]:
        """The settings in which runs of each core on one task differ; they distinguish its agents."""
        by_place: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for run in self.runs:
            by_place[run.core, self.task_of(run)].append(run)
        names: dict[str, set[str]] = defaultdict(set)
        for (core, _), runs in by_place.items():
            names[core] |= {name for name in differing(runs) if not name.startswith(CIRCUMSTANCES)}
        return {core: sorted(found) for core, found in names.items()}

    def agent_of(self, run: Run) -> str:
        """Return the agent of a run: the core and the settings in which its agents differ."""
        return _distinguished(run.core, run, self._distinctions[run.core])

    @cached_property
    def results(self) -> list[Result]:
        """One result for each agent on each task that it has runs on."""
        grouped: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for run in self.runs:
            grouped[self.task_of(run), self.agent_of(run)].append(run)
        order = [(task, agent) for task in self.tasks for agent in self.agents if (task, agent) in grouped]
        return [self._result(task, agent, grouped[task, agent]) for task, agent in order]

    def _result(self, task: str, agent: str, runs: list[Run]) -> Result:
        runs = sorted(runs, key=lambda run: int(run.settings["seed"]))
        finals = [final for run in runs if (final := run.final(self.policy))]
        scores = np.array([final.score for final in finals], np.float64)
        score = estimate(mean, [scores]) if finals else Estimate(np.nan, np.nan, np.nan)
        return Result(task, agent, runs, finals, score)

    def result(self, task: str, agent: str) -> Result | None:
        """Return the result of an agent on a task, if it has runs there."""
        return next((each for each in self.results if (each.task, each.agent) == (task, agent)), None)

    def shared_tasks(self, agents: Iterable[str], normalised: bool) -> list[str]:
        """Return the tasks on which all these agents have scores; if `normalised`, only those with a score range."""
        wanted = set(agents)
        scored: dict[str, set[str]] = defaultdict(set)
        for result in self.results:
            if result.finals and (not normalised or result.subject.score_range):
                scored[result.task].add(result.agent)
        return [task for task in self.tasks if wanted <= scored[task]]

    @cached_property
    def aggregated_tasks(self) -> list[str]:
        """Tasks whose normalised scores are averaged: those that all agents share, of the suite with most of them."""
        by_suite: dict[str, list[str]] = defaultdict(list)
        suites = {result.task: result.subject.suite for result in self.results}
        for task in self.shared_tasks(self.agents, normalised=True) if self.comparable else ():
            if suite := suites[task]:
                by_suite[suite].append(task)
        return max(by_suite.values(), key=len, default=[])

    @cached_property
    def repeated(self) -> list[str]:
        """The agents with several runs on every task that all agents have scores on."""
        tasks = self.shared_tasks(self.agents, normalised=False)
        return [agent for agent in self.agents if repeated(self.strata(agent, tasks, normalised=False))]

    def strata(self, agent: str, tasks: Sequence[str], normalised: bool) -> Strata:
        """Return the scores [runs] of an agent on each task: normalised by its score range, or raw, higher is better.

        Raw scores of which a lower one is better have their sign changed.
        """
        found = []
        for task in tasks:
            result = self.result(task, agent)
            assert result is not None, "tasks come from shared_tasks"
            scores = [final.score for final in result.finals]
            scores = [result.runs[0].normalised(score) for score in scores] if normalised else scores
            sign = -1 if result.subject.lower_is_better and not normalised else 1
            found.append(sign * np.array(scores, np.float64))
        return found

    def baseline(self, wanted: str | None) -> str:
        """Return the agent that others are compared with. Raise UserError for an unknown name."""
        if wanted is None:
            usual = [agent for core in USUAL_BASELINES for agent in self.agents if self.agents[agent] == core]
            return (usual or list(self.agents))[0]
        matching = [agent for agent, core in self.agents.items() if wanted in (agent, core)]
        if not matching:
            raise UserError(f"baseline: got {wanted!r}; allowed: {', '.join(self.agents)}")
        return matching[0]


def _distinguished(name: str, run: Run, settings: Iterable[str]) -> str:
    """Append the values of some settings of a run to a name."""
    values = [f"{setting.rpartition('.')[2]} {show(run.settings.get(setting))}" for setting in settings]
    return f"{name} ({', '.join(values)})" if values else name


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the settings that differ among the runs that have them, with their values in the order of the runs."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {name: [run.settings[name] for run in runs if name in run.settings] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def show_all(values: Iterable[Any]) -> str:
    """Format the distinct values of a setting."""
    return ", ".join(sorted({show(value) for value in values}))


def show(value: Any) -> str:
    """Format the value of a setting."""
    if isinstance(value, bool) or value is None:
        return {None: "none", True: "on", False: "off"}[value]
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else one_line(str(value))
    )


def common_grid(curves: Sequence[tuple[Array, Array]], points: int = 100) -> tuple[Array, Array] | None:
    """Return a grid [points] over the range that all curves cover, and their values on it [curves, points]."""
    if not curves or any(x.size < 2 for x, _ in curves):
        return None
    start, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if not start < end:
        return None
    grid = np.linspace(start, end, points)
    return grid, np.stack([np.interp(grid, x, y) for x, y in curves])
