"""Shows evaluations on the terminal: their progress and their results."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.table import Table

from rfwp.agents import host
from rfwp.agents.device import prepare_cpu
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.evaluation import statistics
from rfwp.runners.evaluation.scoring import BATCHES, Evaluation, Score, evaluate
from rfwp.runners.machine.signals import cleaning_up
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder.evaluations import Policy
from rfwp.runners.settings.components import name_of, title_option
from rfwp.runners.settings.config import AgentRunConfig
from rfwp.runners.settings.layers import CIRCUMSTANCES, differences


def run_evaluation(
    agent: ActorCritic,
    config: AgentRunConfig,
    episodes: int,
    steps: int,
    console: Terminal,
    policy: Policy = "sampled",
    score: Score = "episode",
    seed: int = 0,
    drop_negative: bool = False,
) -> Evaluation:
    """Evaluate with all CPU cores and show progress; arguments as in `evaluate`."""
    prepare_cpu(host.operator_threads(host.cores()))  # the emulator's own threads take the rest
    total = f"{episodes} episodes" if score == "episode" else f"{BATCHES * episodes} lives"
    with cleaning_up(), console.status(f"playing {total} ...") as status:
        return evaluate(
            agent,
            config.env,
            episodes,
            policy,
            score,
            seed,
            steps,
            host.cores(),
            lambda finished: status.update(f"{finished} of {total} finished"),
            drop_negative,
        )


def print_evaluation(result: Evaluation, console: Terminal) -> None:
    """Print the scores and their protocol as a table."""
    facts = result.summary()
    unit = "full episodes" if result.score == "episode" else "single lives: not comparable with full episodes"
    table = Table(title=f"{result.title}: {len(result.episodes)} {unit}", title_justify="left", show_header=False)
    for name in ("mean", "median", "standard_deviation", "min", "max"):
        table.add_row(name.replace("_", " "), f"{facts[name]:,.2f}")
    if result.score == "life":
        means = ", ".join(f"{each:,.2f}" for each in result.batch_means)
        table.add_row(f"means of {BATCHES} batches", f"{means}: ± {facts['deviation_of_means']:,.2f}")
    if result.dropped:
        table.add_row("negative, dropped", f"{result.dropped:,} more lives")
    if result.wraps:
        table.add_row("wrong", wrapping(result.wraps))
    if result.normalised is not None and result.env.score_range:
        table.add_row("normalised", f"{100 * result.normalised:,.1f} %, with {result.env.score_range.meaning}")
    table.add_row("mean length", f"{facts['length_mean']:,.0f} agent steps")
    protocol = filter(None, [result.protocol, f"{result.policy} actions", "raw scores", f"seed {result.seed}"])
    table.add_row("protocol", ", ".join(protocol))
    if result.changed:
        table.add_row("not as in training", _listed(result.changed))
    table.add_row("trained for", f"{result.steps:,} agent steps ({result.frames:,} frames)")
    if result.score == "episode" and result.env.reference_scores:
        table.add_row("for comparison", reference_line(result.env.reference_scores))
    console.print(table)


def wrapping(wraps: int) -> str:
    """Return a warning that a score has wrapped round this often."""
    return f"the game's score wrapped round, {wraps:,} time{'s' if wraps > 1 else ''}: returns are too low"


def reference_line(scores: Mapping[str, float]) -> str:
    """Format reference scores and their titles in one line."""
    return "; ".join(f"{title} {score:,.1f}" for title, score in scores.items())


def _listed(changed: Mapping[str, Any]) -> str:
    """Return settings as in "length 50, protocol machado"."""
    return ", ".join(f"{name} {value}" for name, value in changed.items())


class Line(NamedTuple):
    """One agent's scores in a table of several."""

    run: str
    config: AgentRunConfig  # of its training
    episodes: Evaluation | None
    lives: Evaluation | None

    @property
    def core(self) -> str:
        """Name of its memory core."""
        return name_of(self.config.core)

    @property
    def either(self) -> Evaluation:
        """One of its evaluations."""
        found = self.episodes or self.lives
        assert found is not None, "an agent has at least one evaluation"
        return found


def print_scoreboard(lines: Sequence[Line], console: Terminal) -> None:
    """Print the scores of several agents in one table; each row names its protocol if they are mixed."""
    optional = {
        "protocol": len({line.either.protocol for line in lines}) > 1,
        "not as in training": any(line.either.changed for line in lines),
    }
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("run", overflow="fold")
    for heading in ("environment", "core", *(heading for heading, shown in optional.items() if shown)):
        table.add_column(heading)
    headings = {"episodes": ("full episodes", "median", "norm."), "lives": (f"lives, {BATCHES} means",)}
    kinds = [kind for kind in headings if any(getattr(line, kind) for line in lines)]
    for heading in ("steps", *(heading for kind in kinds for heading in headings[kind])):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        one = line.either
        cells = {"protocol": one.protocol or "none", "not as in training": _listed(one.changed)}
        words = [line.run, one.title, line.core, *(cells[heading] for heading, shown in optional.items() if shown)]
        scores = [cell for kind in kinds for cell in (_episode_cells if kind == "episodes" else _life_cells)(line)]
        table.add_row(*words, f"{one.steps:,}", *scores)
    console.print(table)
    _print_notes(lines, console)


def _episode_cells(line: Line) -> list[str]:
    assert line.episodes is not None, "all agents are scored alike"
    facts = line.episodes.summary()
    normalised = f"{100 * line.episodes.normalised:,.1f} %" if line.episodes.normalised is not None else "–"
    return [f"{facts['mean']:,.2f} ± {facts['standard_deviation']:,.2f}", f"{facts['median']:,.2f}", normalised]


def _life_cells(line: Line) -> list[str]:
    assert line.lives is not None, "all agents are scored alike"
    facts = line.lives.summary()
    dropped = f" ({line.lives.dropped} dropped)" if line.lives.dropped else ""
    return [f"{facts['mean']:,.2f} ± {facts['deviation_of_means']:,.2f}{dropped}"]


def _print_notes(lines: Sequence[Line], console: Terminal) -> None:
    """Print how the scores were made, reference scores, and aggregates over environments."""
    notes = [_circumstances(line.episodes) for line in lines if line.episodes]
    notes += [_circumstances(line.lives) for line in lines if line.lives]
    notes += [f"{line.run}: {wrapping(line.either.wraps)}." for line in lines if line.either.wraps]
    scored = [line.episodes for line in lines if line.episodes]
    references = {", ".join(filter(None, (each.title, each.protocol))): each.env.reference_scores for each in scored}
    notes += [f"{place}: {reference_line(scores)}." for place, scores in sorted(references.items()) if scores]
    ranges = dict.fromkeys(each.env.score_range.meaning for each in scored if each.env.score_range)
    notes += [f"Normalised scores (norm.) put {'; '.join(ranges)}."] if ranges else []
    notes += aggregate_lines(lines)
    for note in dict.fromkeys(notes):
        console.say(note)


def _circumstances(result: Evaluation) -> str:
    if result.score == "episode":
        what = f"Full episodes: mean ± deviation of {len(result.episodes)} episodes"
    else:
        size = len(result.episodes) // BATCHES
        what = f"Lives: mean ± deviation of the means of {BATCHES} batches of {size}; not comparable with full episodes"
    return f"{what}; {result.policy} actions, raw scores, seed {result.seed}."


def aggregate_lines(lines: Sequence[Line]) -> list[str]:
    """Return mean, median and interquartile mean of each core's normalised scores over the environments of a suite.

    Needs a single protocol, and runs of a core with the same agent steps and settings; a line says if others were
    left out.
    """
    by_suite: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.episodes and line.episodes.env.suite and line.episodes.normalised is not None:
            by_suite[line.episodes.env.suite].append(line)
    return [said for members in by_suite.values() for said in _aggregate_suite(members)]


def _aggregate_suite(lines: Sequence[Line]) -> list[str]:
    places = {(line.either.title, line.either.protocol) for line in lines}
    if len({protocol for _, protocol in places}) > 1 or len(places) < 2:
        return []
    title = title_option(lines[0].either.env)
    alike: dict[tuple[str, int, str], list[Line]] = defaultdict(list)
    for line in lines:
        changed = {name: value for name, value in line.either.changed.items() if f"env.{name}" != title}
        alike[line.core, line.either.steps, _listed(changed)].append(line)
    found = []
    for (core, steps, changes), members in alike.items():
        by_title: dict[str, list[float]] = defaultdict(list)
        for line in members:
            if line.episodes and line.episodes.normalised is not None:
                by_title[line.episodes.title].append(100 * line.episodes.normalised)
        if len(by_title) > 1 and not _unlike(members):
            strata = [np.array(scores) for scores in by_title.values()]
            values = ", ".join(
                f"{statistics.AGGREGATES[name][0]} {float(statistics.AGGREGATES[name][1](strata)):,.1f} %"
                for name in ("mean", "median", "iqm")
            )
            what = f"{core} after {steps:,} agent steps{f' with {changes}' if changes else ''}"
            found.append(f"{what}, normalised over {len(strata)} environments: {values}.")
    if len(found) < len(alike):
        found.append(
            "Scores of a core are aggregated over environments only for runs with the same agent steps and settings."
        )
    return found


def _unlike(lines: Sequence[Line]) -> bool:
    """Return True if runs differ in more than the title and CIRCUMSTANCES."""
    names = (name for line in lines for name in differences(lines[0].config, line.config))
    title = title_option(lines[0].config.env)
    return any(name != title and not name.startswith(CIRCUMSTANCES) for name in names)
