"""Warnings for the reader of a report: few seeds, unfinished runs, unequal settings."""

from collections import Counter
from collections.abc import Iterator

from rfwp.runners.report.study import Study, differing, show_all
from rfwp.runners.runfolder.records import Run
from rfwp.runners.settings.layers import CIRCUMSTANCES

ENOUGH_SEEDS = 5
FEW_SEEDS = 3


def warnings(study: Study) -> list[str]:
    """Return one sentence for each reason to doubt, the most important first."""
    return [
        *_about_seeds(study),
        *_about_chances(study),
        *_about_envs(study),
        *_about_lengths(study),
        *_about_scores(study),
        *_about_settings(study),
        *_about_tasks(study),
        *(f"{study.name_of(run)}: {note}." for run in study.runs for note in run.notes),
    ]


def _about_seeds(study: Study) -> Iterator[str]:
    counts = Counter(len(result.runs) for result in study.results)
    fewest = min(counts)
    if fewest == 1:
        yield f"{_some(study, 1)} 1 seed only: no interval can be given, and a difference may be luck."
    if 1 < fewest < FEW_SEEDS or (fewest == 1 and 2 in counts):
        yield f"{_some(study, 2)} 2 seeds: intervals mean little."
    elif FEW_SEEDS <= fewest < ENOUGH_SEEDS:
        yield f"{_some(study, fewest)} {fewest} seeds: intervals are wide and themselves uncertain."
    if len(counts) > 1:
        yield (
            f"Agents have between {fewest} and {max(counts)} seeds: aggregates weight an environment by its number of"
            " runs, and the widths of intervals differ for that reason alone."
        )
    for result in study.results:
        repeated = [seed for seed, n in Counter(run.settings["seed"] for run in result.runs).items() if n > 1]
        for seed in repeated:
            yield f"{result.agent} on {result.task} has seed {seed} more than once: those runs may not be independent."


def _some(study: Study, seeds: int) -> str:
    """Return the start of a sentence: the agents with this number of seeds."""
    concerned = [f"{result.agent} on {result.task}" for result in study.results if len(result.runs) == seeds]
    if len(concerned) == len(study.results):
        return "Every agent has"
    listed = ", ".join(concerned[:3]) + (f" and {len(concerned) - 3} more" if len(concerned) > 3 else "")
    return f"{listed} {'has' if len(concerned) == 1 else 'have'}"


def _about_chances(study: Study) -> Iterator[str]:
    single = [agent for agent in study.agents if agent not in study.repeated]
    if study.comparable and len(study.agents) > 1 and single:
        yield (
            f"Probabilities of improvement leave out {', '.join(single)}: with a single run on a task, the"
            " probability would look certain."
        )


def _about_envs(study: Study) -> Iterator[str]:
    for env in study.mixed_envs:
        differences = ", ".join(f"{name} ({show_all(values)})" for name, values in study.variants[env].items())
        yield (
            f"Runs on {env.capitalize()} differ in {differences}: their scores are not comparable, so each variant"
            " is a separate task, and comparisons over environments are left out."
        )


def _about_lengths(study: Study) -> Iterator[str]:
    unfinished = [run for run in study.runs if not run.finished]
    for run in unfinished[:10]:
        state = "is still running" if run.under_way else "is unfinished"
        yield f"{study.name_of(run)} {state}: {run.steps:,} of {run.total_steps:,} {study.kind.step}s."
    if len(unfinished) > 10:
        yield f"{len(unfinished) - 10} more runs are unfinished; see the table of runs."
    for task in study.tasks:
        steps = sorted(run.steps for run in study.runs if study.task_of(run) == task)
        if steps[-1] > 1.01 * steps[0]:  # runs overshoot their last step by up to a batch
            yield (
                f"Runs on {task} were trained for {steps[0]:,} to {steps[-1]:,} {study.kind.step}s:"
                " final scores compare unequal training."
            )


def _about_scores(study: Study) -> Iterator[str]:
    for result in study.results:
        where = f"{result.agent} on {result.task}"
        if not result.finals:
            yield f"{where}: {study.words.no_score} yet, so there is no score."
            continue
        if len(result.finals) < len(result.runs):
            missing = len(result.runs) - len(result.finals)
            yield f"{where}: {study.words.no_score} in {missing} of {len(result.runs)} runs; the mean leaves them out."
        trained = sum(final.source == "training" for final in result.finals)
        if trained:
            yield (
                f"{where}: {trained} of {len(result.runs)} runs have no {study.words.evaluation};"
                f" {study.words.in_training} (†) is used instead."
            )
    for run in study.runs:
        final = run.final(study.policy)
        if final and final.source == "evaluation" and final.steps < run.steps:
            yield f"{study.name_of(run)}: evaluated at {final.steps:,} of its {run.steps:,} {study.kind.step}s."


def _about_settings(study: Study) -> Iterator[str]:
    """Warn of settings other than the core's that differ on a task, and of core settings that differ between tasks."""
    for task in study.tasks:
        runs = [run for run in study.runs if study.task_of(run) == task]
        for name, values in differing(runs).items():
            if not name.startswith((*CIRCUMSTANCES, "core.")):
                yield f"Agents on {task} differ in more than the core: {name} is {show_all(values)}."
    for agent in study.agents:
        for name, values in differing([run for run in study.runs if study.agent_of(run) == agent]).items():
            if name.startswith("core."):
                yield f"{agent} does not have the same memory on all tasks: {name} is {show_all(values)}."
    machines = {_machine(run) for run in study.runs}
    if len(machines) > 1:
        yield f"Runs come from {len(machines)} kinds of machine: curves against time are not comparable."


def _machine(run: Run) -> tuple[str | None, str | None]:
    return run.origin.get("platform"), run.origin.get("gpu")


def _about_tasks(study: Study) -> Iterator[str]:
    everywhere = study.shared_tasks(study.agents, normalised=False)
    missing = [result for result in study.results if result.task not in everywhere]
    if len(study.agents) > 1 and missing:
        tasks = sorted({result.task for result in missing})
        yield f"Not every agent has scores on {', '.join(tasks)}: comparisons over environments leave them out."
    others = [task for task in study.shared_tasks(study.agents, normalised=True) if task not in study.aggregated_tasks]
    if study.aggregated_tasks and others:
        yield f"Aggregates cover one suite of environments and leave out {', '.join(others)}."
