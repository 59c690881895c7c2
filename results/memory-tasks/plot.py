"""Draws the curves of this folder and writes its table.

    python plot.py                from curves.csv and scores.csv, which are kept here
    python plot.py FOLDER ...     from the runs of `rfwp compare --out FOLDER`; writes these two files first

Needs matplotlib and rfwp.
"""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import yaml
from matplotlib.axes import Axes
from numpy.typing import NDArray

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
MAPS = {"published keys": ("elu_sum_norm", "softmax"), "keys of unit length": ("l2",)}
POINTS = 40  # of each curve that are kept


class Bounds(NamedTuple):
    """Returns of a task with default settings, by its definition."""

    chance: float  # of random answers, which is also the best without memory
    best: float


_recall, _delayed_cue, _n_back, _counting = recall.Config(), delayed_cue.Config(), n_back.Config(), counting.Config()
BOUNDS = {
    "recall": Bounds(_recall.num_queries / _recall.num_values, _recall.num_queries),
    "delayed_cue": Bounds(1 / _delayed_cue.num_cues, 1),
    "n_back": Bounds((_n_back.num_steps - _n_back.distance) / 2, _n_back.num_steps - _n_back.distance),
    "counting": Bounds(1 / (_counting.max_count + 1), 1),
}


class Run(NamedTuple):
    """One run of a comparison."""

    task: str
    core: str
    feature_map: str  # "" if the core has none
    seed: int


Curve = NDArray[np.float64]  # [points, 2] agent steps, return of the last 100 episodes


def main(folders: list[Path]) -> None:
    if folders:
        condense(folders)
    curves, scores = read_curves(), read_scores()
    draw(curves)
    (HERE / "table.md").write_text(table(scores))


def condense(folders: list[Path]) -> None:
    """Writes curves.csv and scores.csv from the runs' own records."""
    runs = sorted((found for folder in folders for found in find_runs(folder)), key=lambda found: rank(found[0]))
    points = [(*run, *point) for run, path in runs for point in thinned(path / "metrics.jsonl")]
    write_csv("curves.csv", (*Run._fields, "agent_steps", "return_mean"), points)
    finals = [(*run, *final_score(path)) for run, path in runs]
    write_csv("scores.csv", (*Run._fields, "agent_steps", "episodes", "mean"), finals)


def rank(run: Run) -> tuple[int, int, bool, int]:
    """Sorts by task, core, published feature maps first, seed."""
    return list(BOUNDS).index(run.task), CORES.index(run.core), run.feature_map == "l2", run.seed


def find_runs(folder: Path) -> Iterator[tuple[Run, Path]]:
    """The runs that were evaluated at their end."""
    for path in folder.glob("*/config.yaml"):
        config = yaml.safe_load(path.read_text())
        if any(path.parent.glob("eval/*-final.json")):
            core = config["core"]
            yield Run(config["env"]["name"], core["name"], core.get("feature_map", ""), config["seed"]), path.parent


def thinned(path: Path) -> list[tuple[int, float]]:
    """Agent steps and return of some lines of metrics.jsonl in which episodes have ended, the last among them."""
    lines = [line for line in map(json.loads, path.read_text().splitlines()) if line["return_mean"] is not None]
    kept = np.unique(np.linspace(0, len(lines) - 1, POINTS).round().astype(int))
    return [(lines[place]["steps"], round(lines[place]["return_mean"], 4)) for place in kept]


def final_score(path: Path) -> tuple[int, int, float]:
    """Agent steps, episodes and mean return of the evaluation at the end."""
    (file,) = path.glob("eval/*-final.json")
    result = json.loads(file.read_text())
    return result["steps"], result["episodes"], round(result["mean"], 4)


def write_csv(name: str, header: tuple[str, ...], rows: list[tuple[str | float, ...]]) -> None:
    with (HERE / name).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def read_curves() -> dict[Run, Curve]:
    found: dict[Run, list[tuple[float, float]]] = {}
    for row in read_csv("curves.csv"):
        point = float(row["agent_steps"]), float(row["return_mean"])
        found.setdefault(run_of(row), []).append(point)
    return {run: np.array(points) for run, points in found.items()}


def read_scores() -> dict[Run, float]:
    return {run_of(row): float(row["mean"]) for row in read_csv("scores.csv")}


def run_of(row: dict[str, str]) -> Run:
    return Run(row["task"], row["core"], row["feature_map"], int(row["seed"]))


def read_csv(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(newline="") as file:
        return list(csv.DictReader(file))


def draw(curves: dict[Run, Curve]) -> None:
    """A column a task; published feature maps above, unit length below, and cores without a feature map in both.

    Every seed thin, the mean over seeds thick, chance and best dotted.
    """
    figure, axes = plt.subplots(2, len(BOUNDS), figsize=(17, 8), sharex=True, sharey="col", constrained_layout=True)
    colours = dict(zip(CORES, plt.get_cmap("tab20").colors[::2] + plt.get_cmap("tab20").colors[1::2], strict=False))
    for row, name in zip(axes, ("published keys", "keys of unit length"), strict=True):
        for axis, (task, bounds) in zip(row, BOUNDS.items(), strict=True):
            for core in CORES:
                seeds = [
                    curve
                    for run, curve in curves.items()
                    if (run.task, run.core) == (task, core) and run.feature_map in ("", *MAPS[name])
                ]
                if seeds:
                    draw_core(axis, seeds, core, colours[core])
            for level, height in bounds._asdict().items():
                axis.axhline(height, color="black", linestyle=":", linewidth=1)
                place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
                axis.annotate(level, (1, height), fontsize=8, **place)
            axis.set(title=f"{task}, {name}")
            axis.grid(alpha=0.25)
        row[0].set(ylabel="return, last 100 episodes")
    for axis in axes[-1]:
        axis.set(xlabel="thousand agent steps")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.savefig(HERE / "curves.png", dpi=110)


def draw_core(axis: Axes, seeds: list[Curve], core: str, colour: tuple[float, float, float]) -> None:
    """The mean where all seeds have a value, and the seeds."""
    for curve in seeds:
        axis.plot(curve[:, 0] / 1e3, curve[:, 1], color=colour, linewidth=0.5, alpha=0.45)
    steps = np.linspace(max(curve[0, 0] for curve in seeds), min(curve[-1, 0] for curve in seeds), 100)
    mean = np.mean([np.interp(steps, curve[:, 0], curve[:, 1]) for curve in seeds], axis=0)
    dashed = "--" if core == "feedforward" else "-"
    axis.plot(steps / 1e3, mean, color=colour, linewidth=1.8, linestyle=dashed, label=core)


def table(scores: dict[Run, float]) -> str:
    """Markdown: by core, keys and task the mean over seeds, and each seed; chance and best below."""
    head = ["| core | keys |", *(f" {task} |" for task in BOUNDS), "\n| --- | --- |", " --- |" * len(BOUNDS), "\n"]
    rows = []
    for core in CORES:
        maps = dict.fromkeys(run.feature_map for run in scores if run.core == core)
        for feature_map in maps:
            seeds = (
                [score for run, score in scores.items() if run[:3] == (task, core, feature_map)] for task in BOUNDS
            )
            rows.append(f"| `{core}` | {feature_map} | {' | '.join(map(score_cell, seeds))} |\n")
    levels: list[tuple[str, Callable[[Bounds], float]]] = [
        ("chance, and the best without memory", lambda bounds: bounds.chance),
        ("best possible", lambda bounds: bounds.best),
    ]
    for name, level in levels:
        rows.append(f"| {name} | | " + " | ".join(f"{level(bounds):.2f}" for bounds in BOUNDS.values()) + " |\n")
    return "".join([*head, *rows])


def score_cell(seeds: list[float]) -> str:
    return f"{fmean(seeds):.2f} ({', '.join(f'{score:.2f}' for score in seeds)})" if seeds else "–"


if __name__ == "__main__":
    main([Path(folder) for folder in sys.argv[1:]])
