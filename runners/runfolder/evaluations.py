"""The files in a run's eval/ folder: each holds the scores of one evaluation as a JSON object."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.checkpoint import Checkpoint
from rfwp.runners.runfolder.files import is_count, is_number, write_whole
from rfwp.runners.runfolder.folder import RunFolder

Policy = Literal["sampled", "greedy"]  # how an agent chose its actions

# Required in every evaluation, by what it names: counts, numbers or null, and other values.
_REQUIRED = {
    "env": (("steps", "episodes", "seed"), ("mean",), ("protocol", "score", "policy")),
    "task": (("steps", "targets"), ("value",), ("split", "measure", "reading")),
}


def write_evaluation(folder: RunFolder, name: str, facts: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Write an evaluation of a checkpoint atomically. Raise OSError if the folder is gone or full."""
    folder.follow()
    folder.evaluations.mkdir(exist_ok=True)
    whole = {**facts, "weights": checkpoint.weights_sha256}
    write_whole(folder.evaluations / f"{name}.json", json.dumps(whole, indent=2) + "\n")


def read_evaluation(path: Path) -> dict[str, Any] | None:
    """Read an evaluation; None if the file is damaged or holds no scores."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        counts, numbers, others = next(required for name, required in _REQUIRED.items() if name in facts)
        whole = all(is_count(facts[name]) for name in counts) and facts.keys() >= set(others)
        whole = whole and all(is_number(facts[name]) or facts[name] is None for name in numbers)
        scored = "task" in facts or (facts["episodes"] > 0 and facts["mean"] is not None)
        return dict(facts) if whole and scored else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, StopIteration):
        return None


def headline(facts: Mapping[str, Any]) -> float | None:
    """Return the score that an evaluation is about: a mean return, or the measure of a task, an accuracy in percent.

    None if it is not finite.
    """
    value: float | None = facts["mean"] if "env" in facts else facts["value"]
    return 100 * value if value is not None and facts.get("measure") in ("sequences", "answers") else value


def final_name(steps: int) -> str:
    """Return the name of the final evaluation of a run that ended at `steps`."""
    return f"step-{steps:012d}-final"


def final_evaluation(folder: RunFolder) -> dict[str, Any] | None:
    """Read the newest final evaluation of a run; None if none can be read or is of the weights that are there."""
    paths = sorted(folder.evaluations.glob("step-*-final.json"), reverse=True)
    found = (facts for path in paths if (facts := read_evaluation(path)))
    return next((facts for facts in found if not is_of_other_weights(folder, facts)), None)


def is_of_other_weights(folder: RunFolder, facts: Mapping[str, Any]) -> bool:
    """Return True if the run has a checkpoint at the steps of an evaluation, with other weights than it scored."""
    try:
        found = folder.checkpoints.at(int(facts["steps"]))
    except UserError:  # deleted since, or damaged
        return False
    return bool(facts.get("weights", found.weights_sha256) != found.weights_sha256)
