"""Reads metrics.jsonl, a line for every few seconds of training."""

import hashlib
from pathlib import Path
from typing import Any

import orjson

from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.files import is_number, tail

_PIECE = 2**20  # bytes read at once


def check_metrics(metrics_file: Path, size: int, sha256: str) -> None:
    """Raise UserError unless the file starts with the bytes of `MetricsLog.position`. A missing file is fine."""
    if not sha256 or not metrics_file.exists():
        return
    try:
        with metrics_file.open("rb") as file:
            start, left = hashlib.sha256(), size
            while left and (piece := file.read(min(left, _PIECE))):
                start.update(piece)
                left -= len(piece)
            damaged = start.hexdigest() != sha256
    except OSError as error:
        raise UserError(f"metrics: {metrics_file} cannot be read: {error.strerror}") from None
    if damaged:
        raise UserError(
            f"metrics: {metrics_file} is damaged: its first {size:,} bytes do not match the checkpoint; restore it,"
            " or move it away to continue without it"
        )


def read_line(line: bytes) -> dict[str, Any] | None:
    """Parse one line of metrics.jsonl; None if it is damaged or truncated."""
    try:
        values = orjson.loads(line) if line.endswith(b"\n") else None  # a run of weeks has a million lines
    except ValueError:
        return None
    if not isinstance(values, dict):
        return None
    steps, seconds = values.get("steps"), values.get("wall_seconds")
    possible = is_number(steps) and steps >= 0 and not (is_number(seconds) and seconds < 0)
    return values if possible else None


def newest_metrics(metrics_file: Path) -> dict[str, float]:
    """Read the numbers of the last whole line of metrics.jsonl; {} if there is none."""
    lines = (read_line(f"{line}\n".encode()) for line in reversed(tail(metrics_file)))
    newest = next((line for line in lines if line is not None), {})
    return {name: float(value) for name, value in newest.items() if is_number(value)}
