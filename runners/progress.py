"""How far a run has come, as its own folder tells."""

import json
import os
from pathlib import Path
from typing import Any

from rfwp.runners.run_folder import RunFolder

_TAIL_BYTES = 8192  # of a file that may be long


def newest_metrics(folder: RunFolder) -> dict[str, Any]:
    """The last whole line of metrics.jsonl; {} before the first."""
    for line in reversed(tail(folder.metrics_file)):
        try:
            metrics = json.loads(line)
        except (ValueError, RecursionError):  # a line that is being written, or that is damaged
            continue
        if isinstance(metrics, dict):
            return metrics
    return {}


def final_evaluation(folder: RunFolder) -> dict[str, Any] | None:
    """What the evaluation at the end of the run came to; None before."""
    for path in sorted(folder.evaluations.glob("step-*-final.json"), reverse=True):
        try:
            summary = json.loads(path.read_text())
            return {**summary, "mean": float(summary["mean"])}
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue  # damaged: it has to be made again
    return None


def tail(path: Path, lines: int = 20) -> list[str]:
    """The last lines of a text file, each of them whole; [] where there is no file."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            found = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return found[1 if start else 0 :][-lines:]
