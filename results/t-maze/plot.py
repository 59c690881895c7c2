"""Draws the curves of this folder and writes its tables.

    python plot.py                from runs.csv, which is kept here
    python plot.py FOLDER ...     first adds the runs below these folders to runs.csv

Needs matplotlib and rfwp.
"""

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import fmean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import yaml

HERE = Path(__file__).parent
CORES = ("lstm", "gru", "transformer", "delta_net", "rdn", "srwm")
WITHOUT_MEMORY, BEST = 0.5, 1.0
SOLVED = 0.95
POINTS = 25  # of a curve


@dataclass(frozen=True)
class Run:
    """One run. `curve` is the return of the last 100 episodes at POINTS equal parts of the steps."""

    length: int
    core: str
    seed: int
    learning_rate: float
    steps: int
    mean: float  # return of the final evaluation
    solved_after: int | None  # agent steps until the last 100 episodes had SOLVED
    curve: tuple[float, ...]


def main(folders: list[Path]) -> None:
    every = [*read_runs(), *(run for folder in folders for run in found(folder))]
    runs = {(run.length, CORES.index(run.core), run.learning_rate, run.seed): run for run in every}
    ordered = [runs[key] for key in sorted(runs)]
    write_runs(ordered)
    draw(ordered)
    (HERE / "tables.md").write_text(tables(ordered), encoding="utf-8")


def found(folder: Path) -> Iterator[Run]:
    """The runs below a folder that were evaluated at their end."""
    for path in folder.rglob("config.yaml"):
        for evaluation in path.parent.glob("eval/*-final.json"):
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
            lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").open(encoding="utf-8")]
            points = np.array([(line["steps"], line["return_mean"]) for line in lines if line["episodes"] >= 100])
            steps, solved = config["total_steps"], points[points[:, 1] >= SOLVED, 0]
            yield Run(
                config["env"]["length"],
                config["core"]["name"],
                config["seed"],
                config["learner"]["learning_rate"],
                steps,
                round(json.loads(evaluation.read_text(encoding="utf-8"))["mean"], 4),
                int(solved[0]) if len(solved) else None,
                tuple(np.interp(marks(steps), *points.T).round(3).tolist()),
            )


def marks(steps: int) -> np.ndarray:
    """Agent steps at which the curve of a run is kept."""
    return np.linspace(0, steps, POINTS + 1)[1:]


def read_runs() -> Iterator[Run]:
    path = HERE / "runs.csv"
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            for length, core, seed, rate, steps, mean, solved, *curve in list(csv.reader(file))[1:]:
                after = int(solved) if solved else None
                points = tuple(map(float, curve))
                yield Run(int(length), core, int(seed), float(rate), int(steps), float(mean), after, points)


def write_runs(runs: list[Run]) -> None:
    header = [field.name for field in fields(Run)][:-1] + [f"return_{part}" for part in range(1, POINTS + 1)]
    rows = [[*astuple(run)[:-1], *run.curve] for run in runs]
    with (HERE / "runs.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def draw(runs: list[Run]) -> None:
    """A panel for each length: every core at the better of its rates there; each seed thin, the mean thick."""
    lengths = sorted({run.length for run in runs})
    figure, axes = plt.subplots(1, len(lengths), figsize=(4.3 * len(lengths), 4), sharey=True, squeeze=False)
    for axis, length in zip(axes[0], lengths, strict=True):
        for index, core in enumerate(CORES):
            rates = {run.learning_rate for run in runs if (run.length, run.core) == (length, core)}
            if rates:
                mine = max((group(runs, length, core, rate) for rate in rates), key=mean_return)
                steps, curves = marks(mine[0].steps) / 1e3, np.array([run.curve for run in mine])
                axis.plot(steps, curves.T, color=f"C{index}", linewidth=0.5, alpha=0.5)
                axis.plot(steps, curves.mean(0), color=f"C{index}", linewidth=1.8, label=core)
        for level in (WITHOUT_MEMORY, BEST):
            axis.axhline(level, color="black", linestyle=":", linewidth=1)
        axis.set(title=f"{length} steps to remember", xlabel="thousand agent steps", ylim=(-0.5, 1.05))
        axis.grid(alpha=0.25)
    axes[0, 0].set(ylabel="return, last 100 episodes")
    axes[0, 0].legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE / "curves.png", dpi=110)


def group(runs: list[Run], length: int, core: str, rate: float) -> list[Run]:
    """The seeds of a cell."""
    return [run for run in runs if (run.length, run.core, run.learning_rate) == (length, core, rate)]


def mean_return(seeds: list[Run]) -> float:
    return fmean(run.mean for run in seeds)


def tables(runs: list[Run]) -> str:
    """Markdown: the final return, mean and each seed, then thousand agent steps until a corridor was solved."""
    lengths = sorted({run.length for run in runs})
    scores, times = ([f"| core | rate |{''.join(f' {length} |' for length in lengths)}"] for _ in range(2))
    for table in (scores, times):
        table.append(f"| --- | --- |{' --- |' * len(lengths)}")
    for core, rate in dict.fromkeys(
        (run.core, run.learning_rate) for core in CORES for run in runs if run.core == core
    ):
        cells = [group(runs, length, core, rate) for length in lengths]
        row = f"| `{core}` | {rate:g} |"
        scores.append(row + "".join(f" {score(seeds)} |" for seeds in cells))
        times.append(row + "".join(f" {', '.join(map(time, seeds))} |" for seeds in cells))
    return "\n\n".join("\n".join(table) for table in (scores, times)) + "\n"


def score(seeds: list[Run]) -> str:
    return f"{mean_return(seeds):.2f} ({', '.join(f'{run.mean:.2f}' for run in seeds)})" if seeds else ""


def time(run: Run) -> str:
    return "never" if run.solved_after is None else f"{run.solved_after / 1e3:.0f}"


if __name__ == "__main__":
    main([Path(folder) for folder in sys.argv[1:]])
