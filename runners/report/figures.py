"""The figures of a report, as SVG text that the page can recolour."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, PercentFormatter
from scipy.ndimage import uniform_filter1d

from rfwp.runners.evaluation import statistics
from rfwp.runners.report.drawing import Drawing
from rfwp.runners.report.palette import INK, MUTED, Mark, marks
from rfwp.runners.report.study import Study, common_grid
from rfwp.runners.runfolder.records import Array, Run
from rfwp.runners.settings.kinds import AGENT, SEQUENCES

AGAINST = ("steps", "wall_seconds")  # x-axes of learning curves


def learning_curves(study: Study, against: Sequence[str] = AGAINST) -> str:
    """Draw scores against steps and time, one row per task; or against one of them, as a grid of tasks."""
    panels = [(task, name) for task in study.tasks for name in against]
    columns = len(against) if len(against) > 1 else 3
    rows = math.ceil(len(panels) / columns)
    with Drawing(rows * (2.9 if columns == 2 else 2.3) + 0.4) as drawing:
        look = marks(study.agents)
        points = _points(study)
        for axes, (task, name) in zip(drawing.grid(rows, columns, len(panels)), panels, strict=True):
            unit, scale = study.time_unit if name == "wall_seconds" else (f"{study.kind.step}s", 1.0)
            results = [result for agent in study.agents if (result := study.result(task, agent))]
            if results[0].subject.lower_is_better:
                axes.set_ylim(readable_range([y for result in results for _, y in _curves(result.runs, name)]))
            for result in results:
                _draw_curves(axes, result.runs, name, scale, look[result.agent], points)
            if study.kind is SEQUENCES:  # those of games would squash most curves
                _draw_references(axes, results[0].subject.reference_scores)
            axes.set(title=task, xlabel=unit, ylabel=results[0].subject.score_name, xlim=(0, None))
            _short_numbers(axes.xaxis, axes.yaxis)
        drawing.legend(look)
    return drawing.svg("learning curves")


def readable_range(curves: Sequence[Array]) -> tuple[float, float] | None:
    """Return limits that one diverging run does not stretch: up to twice the median of the last values."""
    last = [curve[-1] for curve in curves]
    return (0.9 * min(curve.min() for curve in curves), 2 * float(np.median(last))) if last else None


def _draw_references(axes: Axes, scores: Mapping[str, float]) -> None:
    """Draw scores to compare with as dashed lines, each with its name."""
    for name, score in scores.items():
        axes.axhline(score, color=MUTED, linewidth=0.8, dashes=(4, 3))
        axes.annotate(
            name,
            (1, score),
            xycoords=("axes fraction", "data"),
            xytext=(0, 1),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=7,
            color=MUTED,
        )


def _short_numbers(*scales: Axis) -> None:
    """Label axes with short numbers, such as 20k and 1.5M."""
    for scale in scales:
        scale.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    scales = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
    size, letter = next((scale for scale in scales if abs(value) >= scale[0]), scales[-1])
    return f"{value / size:g}{letter}".replace("-", "−")


def _curves(runs: Sequence[Run], against: str) -> list[tuple[Array, Array]]:
    """Return the curves of the runs that have one."""
    return [curve for curve in (run.curve(against) for run in runs) if curve[0].size]


def _draw_curves(axes: Axes, runs: Sequence[Run], against: str, scale: float, mark: Mark, points: int) -> None:
    """Draw every run as a thin line, and the mean and its interval over the range that all of them cover."""
    curves = [(x / scale, y) for x, y in _curves(runs, against)]
    grid = common_grid(curves) if len(curves) > 1 else None
    for x, y in curves:
        width, alpha = (1.6, 1.0) if len(curves) == 1 else (0.6, 0.45)
        axes.plot(*_thinned(x, y, points), color=mark.light, dashes=mark.dashes, linewidth=width, alpha=alpha)
    if grid is not None:
        x, values = grid
        average, low, high = statistics.mean_curve(values)
        axes.fill_between(x, low, high, color=mark.light, alpha=0.16, linewidth=0)
        axes.plot(x, average, color=mark.light, dashes=mark.dashes)
        _end(axes, x[-1], average[-1], mark)
    elif len(curves) == 1:
        _end(axes, curves[0][0][-1], curves[0][1][-1], mark)


def _points(study: Study) -> int:
    """Return the number of points per line: as many as the eye can resolve, fewer with many runs on the page."""
    return max(30, min(120, 12_000 // len(study.runs)))


def _thinned(x: Array, y: Array, most: int) -> tuple[Array, Array]:
    """Return at most `most` evenly spaced points of a curve."""
    keep = np.unique(np.linspace(0, x.size - 1, min(most, x.size)).astype(int))
    return x[keep], y[keep]


def _end(axes: Axes, x: float, y: float, mark: Mark) -> None:
    if y <= axes.get_ylim()[1]:
        axes.plot([x], [y], mark.marker, color=mark.light, markersize=5.5, clip_on=False)


def aggregates(study: Study, tasks: Sequence[str]) -> str:
    """Draw aggregates of normalised scores over environments: a row per agent, a column per statistic."""
    look = marks(study.agents)
    with Drawing(0.34 * len(study.agents) + 0.9) as drawing:
        for axes, (title, statistic) in zip(
            drawing.grid(1, 4, sharey=True), statistics.AGGREGATES.values(), strict=True
        ):
            for row, agent in enumerate(study.agents):
                strata = study.strata(agent, tasks, normalised=True)
                _interval(axes, row, statistics.estimate(statistic, strata), look[agent])
            _rows(axes, list(study.agents))
            axes.use_sticky_edges = False  # otherwise bars would end at the edge
            axes.margins(x=0.08)
            axes.set(title=title.capitalize())
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.locator_params(axis="x", nbins=4)
    return drawing.svg("aggregates of normalised scores")


def _interval(axes: Axes, row: float, estimate: statistics.Estimate, mark: Mark) -> None:
    """Draw a point, and its interval as a bar, in a row."""
    if np.isfinite(estimate.low):
        axes.barh(row, estimate.high - estimate.low, left=estimate.low, height=0.42, color=mark.light, alpha=0.28)
    axes.plot([estimate.value], [row], mark.marker, color=mark.light, markersize=6)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set(
        yticks=range(len(names)), yticklabels=[textwrap.fill(name, 30) for name in names], ylim=(len(names) - 0.5, -0.5)
    )
    axes.tick_params(axis="y", labelsize=9, labelcolor=INK)
    axes.grid(axis="y", visible=False)


def profiles(study: Study, tasks: Sequence[str]) -> str:
    """Draw performance profiles: the share of runs above each normalised score."""
    look, scores = marks(study.agents), {agent: study.strata(agent, tasks, True) for agent in study.agents}
    highest = max(float(np.max(np.concatenate(strata))) for strata in scores.values())
    thresholds = np.linspace(0, max(1.0, min(highest * 1.05, 8.0)), 121)
    with Drawing(3.3) as drawing:
        (axes,) = drawing.grid(1, 1)
        for agent, strata in scores.items():
            share, low, high = statistics.bootstrap(lambda s: statistics.performance_profile(s, thresholds), strata)
            axes.fill_between(thresholds, low, high, color=look[agent].light, alpha=0.16, linewidth=0, step="post")
            axes.step(thresholds, share, where="post", color=look[agent].light, dashes=look[agent].dashes)
        axes.set(xlabel="normalised score", ylabel="share of runs above it", ylim=(0, 1.03), xlim=(0, None))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        drawing.legend(look)
    return drawing.svg("performance profiles")


def improvement_chances(study: Study, tasks: Sequence[str], baseline: str) -> str:
    """Draw the probability that a run of an agent beats one of the baseline's, for agents with several runs."""
    others, look = [agent for agent in study.repeated if agent != baseline], marks(study.agents)
    theirs = study.strata(baseline, tasks, normalised=False)
    with Drawing(0.36 * len(others) + 0.8) as drawing:
        (axes,) = drawing.grid(1, 1)
        axes.axvline(0.5, color=MUTED, linewidth=0.9, dashes=(3, 2))
        for row, agent in enumerate(others):
            ours = study.strata(agent, tasks, normalised=False)
            _interval(axes, row, statistics.estimate(statistics.probability_of_improvement, ours, theirs), look[agent])
        _rows(axes, others)
        axes.set(xlabel=f"probability of a higher score than {baseline}", xlim=(-0.01, 1.01))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return drawing.svg(f"probability of improvement over {baseline}")


def relative_improvements(study: Study, baseline: str) -> str | None:
    """Draw relative improvement over the baseline, as bars; None unless two environments have both an agent and it."""
    found = {}
    for agent in study.agents:
        tasks = study.shared_tasks((agent, baseline), normalised=True) if agent != baseline else []
        if len(tasks) > 1:
            found[agent] = sorted(((_gain(study, agent, baseline, task), task) for task in tasks), reverse=True)
    if not found:
        return None
    look, columns = marks(study.agents), min(2 if max(map(len, study.tasks)) > 20 else 3, len(found))
    rows = math.ceil(len(found) / columns)
    titles = {agent: textwrap.fill(f"{agent} over {baseline}", 100 // columns - 10) for agent in found}
    lines = max(title.count("\n") for title in titles.values())
    with Drawing(rows * (0.22 * max(map(len, found.values())) + 0.18 * lines + 0.75)) as drawing:
        for axes, (agent, gains) in zip(drawing.grid(rows, columns, len(found)), found.items(), strict=True):
            _draw_bars(axes, gains, look[agent])
            axes.set(title=titles[agent])
    return drawing.svg(f"relative improvement over {baseline} by environment")


def _gain(study: Study, agent: str, baseline: str, task: str) -> float:
    ours, theirs = study.result(task, agent), study.result(task, baseline)
    assert ours is not None, "the task is shared"
    assert theirs is not None, "the task is shared"
    score_range = ours.subject.score_range
    assert score_range is not None, "shared tasks of normalised scores have one"
    return float(
        statistics.relative_improvement(ours.score.value, theirs.score.value, score_range.low, score_range.high)
    )


def _draw_bars(axes: Axes, gains: Sequence[tuple[float, str]], mark: Mark) -> None:
    values = [gain for gain, _ in gains]
    axes.barh(range(len(gains)), values, height=0.62, color=[mark.light if v >= 0 else MUTED for v in values])
    axes.axvline(0, color=MUTED, linewidth=0.8)
    _rows(axes, [task for _, task in gains])
    if max(map(abs, values)) > 5:  # one environment would squash all others
        axes.set_xscale("symlog", linthresh=1.0)
        ticks = [tick for tick in (-100, -10, -1, 0, 1, 10, 100) if min(*values, -0.1) <= tick <= max(*values, 0.1)]
        axes.set_xticks(ticks)
        axes.minorticks_off()
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


# Metrics in the figure of throughput, by kind of run.
THROUGHPUT = {
    AGENT: {
        "steps_per_second": "Agent steps per second",
        "policy_lag": "Policy lag, in updates",
        "importance_weight_clipped": "Importance weights clipped",
    },
    SEQUENCES: {
        "tokens_per_second": "Tokens per second",
        "loss": "Loss in training, in nats",
        "gradient_norm": "Gradient norm",
    },
}


def throughput(study: Study) -> str:
    """Draw throughput and what else matters to the kind of run over its steps."""
    titles = THROUGHPUT[study.kind]
    look, points = marks(study.agents), _points(study)
    with Drawing(2.7) as drawing:
        for axes, (name, title) in zip(drawing.grid(1, 3), titles.items(), strict=True):
            for run in study.runs:
                mark, known = look[study.agent_of(run)], np.isfinite(run.metrics[name])
                x, y = _thinned(run.metrics["steps"][known], _smoothed(run.metrics[name][known]), points)
                axes.plot(x, y, color=mark.light, dashes=mark.dashes, linewidth=1.0)
            axes.set(title=title, xlabel=f"{study.kind.step}s", xlim=(0, None), ylim=(0, None))
            _short_numbers(axes.xaxis, axes.yaxis)
            axes.locator_params(axis="x", nbins=4)
        drawing.legend(look)
    return drawing.svg("throughput")


def _smoothed(values: Array) -> Array:
    """Return a running mean over a fiftieth of the run."""
    return np.asarray(uniform_filter1d(values, max(1, values.size // 50), mode="nearest"))
