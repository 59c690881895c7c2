"""Draws the curves of this folder from the runs' own records: python plot.py RUN_FOLDER ... (needs matplotlib)."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import yaml

COLOURS = {"lstm": "tab:blue", "rdn": "tab:orange"}
USUAL_RATE = 3e-4


def main(folders: list[Path]) -> None:
    """One row a game; returns against agent steps and against wall-clock minutes."""
    runs = [(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")), read(folder)) for folder in folders]
    games = sorted({config["env"]["game"] for config, _ in runs})
    figure, axes = plt.subplots(len(games), 2, figsize=(10, 3.4 * len(games)), squeeze=False, constrained_layout=True)
    for row, game in zip(axes, games, strict=True):
        for config, lines in runs:
            if config["env"]["game"] == game:
                label = (
                    f"{config['core']['name']}, rate {config['learner']['learning_rate']:.0e}, seed {config['seed']}"
                )
                scores = [line["return_mean"] for line in lines]
                style = {
                    "label": label,
                    "color": COLOURS[config["core"]["name"]],
                    "linestyle": "-" if config["learner"]["learning_rate"] == USUAL_RATE else ":",
                }
                row[0].plot([line["agent_steps"] / 1e6 for line in lines], scores, **style)
                row[1].plot([line["wall_seconds"] / 60 for line in lines], scores, **style)
        row[0].set(title=game, ylabel="return, last 100 full games", xlabel="million agent steps")
        row[1].set(title=game, xlabel="minutes on 2 CPU cores")
        for axis in row:
            axis.grid(alpha=0.3)
            axis.legend(frameon=False)
    figure.savefig(Path(__file__).parent / "curves.png", dpi=120)


def read(folder: Path) -> list[dict]:
    """The lines of metrics.jsonl in which games have ended."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["return_mean"] is not None]


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
