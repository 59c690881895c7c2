"""What is counted: the work that the host queues, and where it waits for it."""

import sys
from collections import Counter
from pathlib import Path

PROJECT = Path(__file__).parents[3]
PARTS = ("agents", "cuda", "envs", "models", "runners")

LAUNCHES: Counter[str] = Counter()  # by operator
WAITS: Counter[str] = Counter()  # by operator and line of the project


def reset() -> None:
    LAUNCHES.clear()
    WAITS.clear()


def site() -> str:
    """Return the innermost line that is being executed of the project, its tests aside."""
    frame = sys._getframe()
    while frame := frame.f_back:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PROJECT) and path.relative_to(PROJECT).parts[0] in PARTS:
            return f"{path.relative_to(PROJECT)}:{frame.f_lineno}"
    return "a test"
