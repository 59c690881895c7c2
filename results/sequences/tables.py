"""Print the tables of README.md from the runs of `rfwp compare`, and write scores.csv.

python results/sequences/tables.py FOLDER
"""

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean, median

import yaml

CORES = ("lstm", "transformer", "linear_transformer", "delta_net", "rdn")
SCORES = {"sequences": "sequences right, %", "answers": "answers right, %", "perplexity": "perplexity", "bits": "bits"}


def main(folder: Path) -> None:
    runs = [row for config in sorted(folder.rglob("config.yaml")) for row in read(config.parent)]
    with (Path(__file__).parent / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, runs[0])
        writer.writeheader()
        writer.writerows(runs)
    cells = defaultdict(list)
    for run in runs:
        cells[run["task"], run["core"]].append(run)
    for task in dict.fromkeys(run["task"] for run in runs):
        shown = [name for name in SCORES if cells[task, "lstm"][0][name] is not None]
        print(f"\n## {task}\n\n| core | {' | '.join(SCORES[name] for name in shown)} | seconds |")
        print("| --- " * (len(shown) + 2) + "|")
        for core in (core for core in CORES if cells[task, core]):
            found = cells[task, core]
            scores = [f"{fmean(run[name] for run in found):.4g} ({each(found, name)})" for name in shown]
            print(f"| `{core}` | {' | '.join(scores)} | {median(run['seconds'] for run in found):.0f} |")


def each(runs: list[dict], name: str) -> str:
    """Format the score of every seed."""
    return ", ".join(f"{run[name]:.4g}" for run in runs)


def read(run: Path) -> list[dict]:
    """Return the final test scores of a run, or nothing if it has not ended."""
    config, found = (
        yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")),
        sorted((run / "eval").glob("*-final.json")),
    )
    if not found:
        return []
    scores = json.loads(found[-1].read_text(encoding="utf-8"))
    last = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    accuracy = scores["measure"] == "sequences"
    return [
        {
            "task": scores["task"],
            "core": config["core"]["name"],
            "seed": config["seed"],
            "updates": last["steps"],
            "best_at": scores["steps"],
            "seconds": round(last["wall_seconds"]),
            "sequences": 100 * scores["sequences"] if accuracy else None,
            "answers": 100 * scores["answers"] if accuracy and scores["answers"] != scores["sequences"] else None,
            "perplexity": scores["perplexity"] if scores["measure"] == "perplexity" else None,
            "bits": scores["bits"] if scores["measure"] == "bits" else None,
        }
    ]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} FOLDER")
    main(Path(sys.argv[1]))
