"""The numbers of a report as tables."""

import math
from collections.abc import Sequence

import numpy as np

from rfwp.runners.evaluation import statistics
from rfwp.runners.evaluation.statistics import AGGREGATES, Estimate
from rfwp.runners.report.formats import Cell, Table
from rfwp.runners.report.study import Result, Study, differing, show
from rfwp.runners.runfolder.records import Run
from rfwp.runners.settings.components import title_option
from rfwp.runners.settings.kinds import AGENT, SEQUENCES

NAMED_ELSEWHERE = ("core.name", "seed")  # in other columns of the table of runs, like the title
OPTIONAL = ("answers, %", "normalised, %", "MMER")  # columns that only some kinds of tasks have
BESIDE = ("random", "human")  # reference scores that get a column in the table by environment


def scores(study: Study) -> Table:
    """Tabulate final scores: a row for every agent on every task."""
    columns = ["task", "agent", "seeds", f"{study.kind.step}s", "score", "95 % low", "95 % high", *OPTIONAL, "from"]
    return _without_empty(study, Table(columns, [_score_row(study, result) for result in study.results]))


def _score_row(study: Study, result: Result) -> list[Cell]:
    steps = max((final.steps for final in result.finals), default=None)
    score, low, high = (_known(number) for number in result.score)
    optional = (result.answers, _known(100 * result.normalised), result.mmer)
    return [result.task, result.agent, len(result.finals), steps, score, low, high, *optional, source(study, result)]


def source(study: Study, result: Result) -> str:
    """Say briefly what a result averages."""
    if not result.finals:
        return study.words.no_score
    counts = sorted({final.size for final in result.finals if final.size is not None})
    count = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1]))) if counts else ""
    what = f"{count} {result.finals[-1].what}".strip()
    if not result.from_training:
        return what
    everywhere = all(final.source == "training" for final in result.finals)
    return f"† {'' if everywhere else 'partly '}training, {what}"


def _known(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def by_title(study: Study) -> Table:
    """Tabulate scores as papers do: a row per task, a column per agent, and reference scores if there are any."""
    beside = [title for title in BESIDE if any(title in run.subject.reference_scores for run in study.runs)]
    rows: list[list[Cell]] = []
    for task in study.tasks:
        found = [study.result(task, agent) for agent in study.agents]
        known = next(result.subject.reference_scores for result in found if result)
        rows.append([task, *map(score_text, found), *map(known.get, beside)])
    return Table(["task", *study.agents, *beside], rows)


def score_text(result: Result | None) -> str | None:
    """Format the mean with its interval; None without scores."""
    if result is None or not result.finals:
        return None
    size = abs(result.score.value)
    decimals = ".2f" if size < 10 else ".1f" if size < 1000 else ".0f"
    score, low, high = (f"{number:,{decimals}}" for number in result.score)
    interval = f" [{low}, {high}]" if math.isfinite(result.score.low) else ""
    return f"{score}{interval}{'†' if result.from_training else ''}"


def references(study: Study) -> Table:
    """Tabulate the reference scores of the tasks; no rows if there are none or protocols are mixed."""
    compared = [run for run in study.runs if run.subject.reference_scores and len(study.protocols) <= 1]
    known = {run.title: run.subject.reference_scores for run in sorted(compared, key=lambda run: run.title)}
    titles = list(dict.fromkeys(title for scores in known.values() for title in scores))
    rows: list[list[Cell]] = [[task, *map(scores.get, titles)] for task, scores in known.items()]
    return Table(["task", *titles], rows)


def aggregates(study: Study, tasks: Sequence[str]) -> Table:
    """Tabulate aggregates of normalised scores over environments, with intervals: a row per agent."""
    rows: list[list[Cell]] = []
    for agent in study.agents:
        strata = study.strata(agent, tasks, normalised=True)
        row: list[Cell] = [agent, len(tasks), sum(map(len, strata))]
        rows.append([*row, *(_percent(statistics.estimate(statistic, strata)) for _, statistic in AGGREGATES.values())])
    return Table(["agent", "environments", "runs", *(title for title, _ in AGGREGATES.values())], rows)


def chances(study: Study, tasks: Sequence[str]) -> Table:
    """Tabulate the probability that a run of the row's agent beats one of the column's; agents with several runs."""
    strata = {agent: study.strata(agent, tasks, normalised=False) for agent in study.repeated}

    def chance(one: str, other: str) -> Cell:
        if one == other:
            return None
        return _percent(statistics.estimate(statistics.probability_of_improvement, strata[one], strata[other]))

    rows: list[list[Cell]] = [[agent, *(chance(agent, other) for other in strata)] for agent in strata]
    return Table(["", *(f"over {agent}" for agent in strata)], rows)


def _percent(estimate: Estimate) -> str:
    value, low, high = (100 * each for each in estimate)
    return f"{value:.0f} %" + (f" [{low:.0f}, {high:.0f}]" if math.isfinite(low) else "")


def runs(study: Study) -> Table:
    """Tabulate the runs: a row per run, with its final score."""
    columns = ["run", "task", "agent", "seed", f"{study.kind.step}s", study.time_unit[0], "score", *OPTIONAL, "from"]
    return _without_empty(study, Table(columns, [_run_row(study, run) for run in study.runs]))


def _without_empty(study: Study, table: Table) -> Table:
    """Return a table without the optional columns that say nothing about these runs."""
    shown = dict(
        zip(OPTIONAL, (study.has_answers, bool(study.normalisation(study.tasks)), study.has_mmer), strict=True)
    )
    kept = [place for place, name in enumerate(table.columns) if shown.get(name, True)]
    return Table([table.columns[place] for place in kept], [[row[place] for place in kept] for row in table.rows])


def _run_row(study: Study, run: Run) -> list[Cell]:
    final = run.final(study.policy)
    state = "" if run.finished else f", {'running' if run.under_way else 'unfinished'}"
    source = f"{'† ' if final.source == 'training' else ''}{final.source}" if final else study.words.no_score
    seconds = run.metrics["wall_seconds"]
    return [
        study.name_of(run),
        study.task_of(run),
        study.agent_of(run),
        int(run.settings["seed"]),
        run.steps,
        _known(float(np.nanmax(seconds)) / study.time_unit[1]) if np.isfinite(seconds).any() else None,
        final.score if final else None,
        final.answers if final else None,
        _known(100 * run.normalised(final.score)) if final else None,
        run.mmer,
        source + state,
    ]


# Columns of the table of throughput, by kind of run: medians and maxima of metrics.
MEDIANS = {
    AGENT: {
        "steps_per_second": "agent steps / s",
        "policy_lag": "policy lag",
        "importance_weight_clipped": "weights clipped",
        "emulator_share": "emulator share",
        "learning_share": "learning share",
    },
    SEQUENCES: {
        "tokens_per_second": "tokens / s",
        "steps_per_second": "updates / s",
        "learning_share": "learning share",
    },
}
MAXIMA = {
    AGENT: {"actor_restarts": "actor restarts", "memory_megabytes": "memory, MB"},
    SEQUENCES: {"epoch": "epochs", "memory_megabytes": "memory, MB"},
}


def throughput(study: Study) -> Table:
    """Tabulate the throughput of each run: medians over its metrics."""
    medians, maxima = MEDIANS[study.kind], MAXIMA[study.kind]
    rows: list[list[Cell]] = [
        [study.name_of(run), *(_median(run, name) for name in medians), *(_highest(run, name) for name in maxima)]
        for run in study.runs
    ]
    return Table(["run", *medians.values(), *maxima.values()], rows)


def _median(run: Run, name: str) -> float | None:
    known = run.metric(name)
    return float(np.median(known)) if known.size else None


def _highest(run: Run, name: str) -> int | None:
    known = run.metric(name)
    return int(known.max()) if known.size else None


def settings(study: Study) -> Table:
    """Tabulate the settings that differ between runs, and which runs have which values."""
    rows: list[list[Cell]] = []
    named_elsewhere = {*NAMED_ELSEWHERE, *(title_option(run.subject) for run in study.runs)}
    for name in differing(study.runs):
        if name in named_elsewhere:
            continue
        by_value: dict[str, list[Run]] = {}
        for run in study.runs:
            if name in run.settings:
                by_value.setdefault(show(run.settings[name]), []).append(run)
        rows += [[name, value, _listed(study, runs)] for value, runs in sorted(by_value.items())]
    origins = {name for run in study.runs for name in run.origin}
    for name in sorted(origins):
        values = sorted({run.origin.get(name, "unknown") for run in study.runs})
        if len(values) > 1:
            having = {v: [run for run in study.runs if run.origin.get(name, "unknown") == v] for v in values}
            rows += [[name, value, _listed(study, runs)] for value, runs in having.items()]
    return Table(["setting", "value", "runs that have it"], rows)


def _listed(study: Study, runs: Sequence[Run], most: int = 4) -> str:
    names = [study.name_of(run) for run in runs]
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"


ALWAYS = {"scores": scores, "by_title": by_title, "runs": runs, "throughput": throughput, "settings": settings}
