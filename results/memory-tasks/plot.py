"""Draws the curves of this folder and writes its tables.

    python plot.py                from runs.csv, which is kept here
    python plot.py FOLDER ...     first adds the runs below these folders to runs.csv

Needs matplotlib and rfwp.
"""

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import fmean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import yaml
from matplotlib.axes import Axes

from rfwp.envs.worlds import counting, delayed_cue, n_back, recall

HERE = Path(__file__).parent
CORES = (
    "feedforward",
    "lstm",
    "gru",
    "transformer",
    "linear_transformer",
    "delta_net",
    "gated_delta_net",
    "rdn",
    "delta_rnn",
    "delta_lstm",
    "delta_mlp",
    "delta_delta_net",
    "srwm",
)
KEYS = {"elu_sum_norm": "published", "softmax": "published", "l2": "unit length"}  # by feature map
NO_GRADIENT = "unit length, no gradient through memory"  # gradient_horizon 1
STEPS = 200_000
MARKS = np.arange(STEPS // 25, STEPS + 1, STEPS // 25)  # agent steps at which curves are kept
LEGEND = 2.2  # inches
SOLVED = 0.9  # of the way from chance to the best return
RUNS = (4 + 9 * 2) * 2 * 3  # of a task: cores without keys, fast weight cores with two kinds; two rates; three seeds
RUNS_WITHOUT_GRADIENT = 9 * 2 * 3


# Of each task with default settings, the return of random answers, which is the best without memory, and the best one.
RANGES = {task.Config().title: task.Config().score_range for task in (recall, delayed_cue, counting, n_back)}


@dataclass(frozen=True)
class Run:
    """One run. `curve` is the return of the last 100 episodes at MARKS."""

    task: str
    core: str
    keys: str  # "" if the core has none
    learning_rate: float
    seed: int
    mean: float  # return of the final evaluation
    solved_after: int | None  # agent steps until the last 100 episodes were SOLVED
    curve: tuple[float, ...]

    @property
    def share(self) -> float:
        """The final evaluation as the way from chance to the best return."""
        return RANGES[self.task].normalise(self.mean)


IDENTITY = [field.name for field in fields(Run)][:5]


def main(folders: list[Path]) -> None:
    runs = {identity(run): run for run in [*read_runs(), *(run for folder in folders for run in found(folder))]}
    ordered = sorted(runs.values(), key=rank)
    write_runs(ordered)
    counts = Counter((run.task, run.keys == NO_GRADIENT) for run in ordered)
    finished = [run for run in ordered if counts[run.task, False] == RUNS]
    chosen = at_better_rate([run for run in finished if run.keys != NO_GRADIENT])
    draw(chosen)
    both = [run for run in finished if counts[run.task, True] == RUNS_WITHOUT_GRADIENT]
    horizons = at_better_rate([run for run in both if run.keys in ("unit length", NO_GRADIENT)])
    tables = [make(runs) for runs in (chosen, horizons) if runs for make in (score_table, time_table)]
    (HERE / "tables.md").write_text("\n".join(tables), encoding="utf-8")


def identity(run: Run) -> tuple[str | float, ...]:
    return tuple(getattr(run, name) for name in IDENTITY)


def rank(run: Run) -> tuple[int, int, str, float, int]:
    return list(RANGES).index(run.task), CORES.index(run.core), run.keys, run.learning_rate, run.seed


def found(folder: Path) -> Iterator[Run]:
    """The runs below a folder that were evaluated at their end."""
    for path in folder.rglob("config.yaml"):
        for evaluation in path.parent.glob("eval/*-final.json"):
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
            core, lines = config["core"], map(json.loads, (path.parent / "metrics.jsonl").open(encoding="utf-8"))
            points = np.array([(line["steps"], line["return_mean"]) for line in lines if line["episodes"] >= 100])
            task = config["env"]["name"]
            solved = points[RANGES[task].normalise(points[:, 1]) >= SOLVED, 0]
            yield Run(
                task,
                core["name"],
                NO_GRADIENT if core.get("gradient_horizon") == 1 else KEYS.get(core.get("feature_map"), ""),
                config["learner"]["learning_rate"],
                config["seed"],
                round(json.loads(evaluation.read_text(encoding="utf-8"))["mean"], 4),
                int(solved[0]) if len(solved) else None,
                tuple(np.interp(MARKS, *points.T).round(3).tolist()),
            )


def read_runs() -> Iterator[Run]:
    path = HERE / "runs.csv"
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            for task, core, keys, rate, seed, mean, solved, *curve in list(csv.reader(file))[1:]:
                after = int(solved) if solved else None
                yield Run(task, core, keys, float(rate), int(seed), float(mean), after, tuple(map(float, curve)))


def write_runs(runs: list[Run]) -> None:
    header = [field.name for field in fields(Run)][:-1] + [f"return_{mark}" for mark in MARKS]
    rows = [[*astuple(run)[:-1], *run.curve] for run in runs]
    with (HERE / "runs.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def at_better_rate(runs: list[Run]) -> list[Run]:
    """The runs of each core and kind of keys at the rate with the higher mean share, over all tasks and seeds."""
    shares: dict[tuple[str, str], dict[float, list[float]]] = {}
    for run in runs:
        shares.setdefault((run.core, run.keys), {}).setdefault(run.learning_rate, []).append(run.share)
    better = {row: max(rates, key=lambda rate: fmean(rates[rate])) for row, rates in shares.items()}
    return [run for run in runs if run.learning_rate == better[run.core, run.keys]]


def draw(runs: list[Run]) -> None:
    """A column a task; published keys above, unit length below, and cores without keys in both.

    Every seed thin, the mean over seeds thick, chance and best dotted.
    """
    tasks = tasks_of(runs)
    figure, axes = plt.subplots(
        2, len(tasks), figsize=(LEGEND + 4 * len(tasks), 8), sharex=True, sharey="col", squeeze=False
    )
    palette = plt.get_cmap("tab20").colors
    colours = dict(zip(CORES, palette[::2] + palette[1::2], strict=False))
    for row, keys in zip(axes, ("published", "unit length"), strict=True):
        for axis, task in zip(row, tasks, strict=True):
            for core in CORES:
                seeds = [run.curve for run in runs if (run.task, run.core) == (task, core) and run.keys in ("", keys)]
                if seeds:
                    draw_core(axis, np.array(seeds), core, colours[core])
            for level, height in zip(("chance", "best"), RANGES[task], strict=False):
                axis.axhline(height, color="black", linestyle=":", linewidth=1)
                place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
                axis.annotate(level, (1, height), fontsize=8, **place)
            axis.set(title=f"{task}, keys: {keys}")
            axis.grid(alpha=0.25)
        row[0].set(ylabel="return, last 100 episodes")
    for axis in axes[-1]:
        axis.set(xlabel="thousand agent steps")
    figure.tight_layout(rect=(0, 0, 1 - LEGEND / figure.get_figwidth(), 1))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="center right", frameon=False)
    figure.savefig(HERE / "curves.png", dpi=110)


def draw_core(axis: Axes, seeds: np.ndarray, core: str, colour: tuple[float, float, float]) -> None:
    """The seeds, [seeds, marks], and their mean."""
    for curve in seeds:
        axis.plot(MARKS / 1e3, curve, color=colour, linewidth=0.5, alpha=0.45)
    dashed = "--" if core == "feedforward" else "-"
    axis.plot(MARKS / 1e3, seeds.mean(0), color=colour, linewidth=1.8, linestyle=dashed, label=core)


def tasks_of(runs: list[Run]) -> list[str]:
    return [task for task in RANGES if any(run.task == task for run in runs)]


def table(runs: list[Run], cell: Callable[[list[Run]], str], below: Sequence[str] = ()) -> str:
    """Markdown: a row for each core and kind of keys, with a cell for its runs on each task."""
    tasks = tasks_of(runs)
    lines = [f"| core | keys | rate | {' | '.join(tasks)} |", f"| --- | --- | --- |{' --- |' * len(tasks)}"]
    for core, keys, rate in dict.fromkeys((run.core, run.keys, run.learning_rate) for run in runs):
        mine = [run for run in runs if (run.core, run.keys) == (core, keys)]
        cells = [cell([run for run in mine if run.task == task]) for task in tasks]
        lines.append(f"| `{core}` | {keys} | {rate:g} | {' | '.join(cells)} |")
    return "".join(f"{line}\n" for line in (*lines, *below))


def score_table(runs: list[Run]) -> str:
    """The mean over seeds, and each seed; chance and best below."""

    def cell(seeds: list[Run]) -> str:
        return f"{fmean(run.mean for run in seeds):.2f} ({', '.join(f'{run.mean:.2f}' for run in seeds)})"

    names = ("chance, and the best without memory", "best possible")
    levels = [[f"{RANGES[task][place]:.2f}" for task in tasks_of(runs)] for place in range(2)]
    return table(runs, cell, [f"| {name} | | | {' | '.join(row)} |" for name, row in zip(names, levels, strict=True)])


def time_table(runs: list[Run]) -> str:
    """Thousand agent steps until a task was solved, each seed."""
    return table(
        runs,
        lambda seeds: ", ".join(
            "never" if run.solved_after is None else f"{run.solved_after / 1e3:.0f}" for run in seeds
        ),
    )


if __name__ == "__main__":
    main([Path(folder) for folder in sys.argv[1:]])
