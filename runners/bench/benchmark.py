"""The interface of a benchmark, and timing of functions: repeated calls after a warm-up, median and percentiles."""

import math
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.table import Table
from rich.text import Text

from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings.parsing import Parser

MOST_SECONDS = 3600
WARM_UP_SHARE = 0.25  # of the seconds of the measurement
LEAST_WARM_UPS, LEAST_REPEATS = 2, 5
LEAST_RUN = 1e-3  # seconds

Row = dict[str, Any]


class Benchmark(NamedTuple):
    """A benchmark of parts, such as `rfwp bench cores`."""

    description: str
    keys: dict[str, str]  # every key of a row, with its meaning
    add_options: Callable[[Parser], None]
    check: Callable[[Namespace], None]  # raises UserError for bad options before timing anything
    # Options, device and a callback for progress -> rows.
    run: Callable[[Namespace, torch.device, Callable[[str], None]], list[Row]]
    table: Callable[[list[Row]], Table]


class Timing(NamedTuple):
    """Milliseconds per call."""

    median: float
    p20: float
    p80: float
    repeats: int


def measure(function: Callable[[], object], seconds: float, device: torch.device) -> Timing:
    """Time a function for about `seconds` seconds, at least LEAST_REPEATS times, each call with its GPU work."""
    _repeat(function, WARM_UP_SHARE * seconds, LEAST_WARM_UPS, device)
    times = 1e3 * np.array(_repeat(function, seconds, LEAST_REPEATS, device))
    p20, median, p80 = np.percentile(times, (20, 50, 80)).tolist()
    return Timing(median, p20, p80, len(times))


def check_seconds(seconds: float) -> None:
    """Raise UserError unless a measurement can take this long."""
    if not 0 < seconds <= MOST_SECONDS:
        raise UserError(f"seconds: got {seconds}; allowed: a number above 0, up to {MOST_SECONDS}")


def timing_keys(name: str, what: str) -> dict[str, str]:
    """Return the keys of `timing_columns` and their meanings."""
    return {
        f"{name}_ms": f"milliseconds of {what}: median",
        f"{name}_ms_p20": "the same, 20th percentile",
        f"{name}_ms_p80": "the same, 80th percentile",
        f"{name}_repeats": "number of measurements",
    }


def timing_columns(name: str, timing: Timing) -> Row:
    """Return a timing as part of a row."""
    return dict(zip(timing_keys(name, ""), timing, strict=True))


def timing_cell(row: Row, name: str) -> Text:
    """Format a timing as two lines: the median, and the 20th to the 80th percentile."""
    median, p20, p80 = (_short(row[f"{name}_{suffix}"]) for suffix in ("ms", "ms_p20", "ms_p80"))
    return Text.assemble(median, "\n", (f"{p20}–{p80}", "dim"))


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.{0 if milliseconds >= 100 else 1 if milliseconds >= 10 else 2}f}"


def _repeat(function: Callable[[], object], seconds: float, at_least: int, device: torch.device) -> list[float]:
    """Return the seconds of each call."""
    times: list[float] = []
    _wait_for(device)
    end = time.perf_counter() + seconds
    while len(times) < at_least or time.perf_counter() < end:
        started = time.perf_counter()
        function()
        _wait_for(device)
        times.append(time.perf_counter() - started)
    return times


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_runs(function: Callable[[], object], runs: int, device: torch.device) -> Timing:
    """Time `runs` runs of a function, on a GPU with CUDA events.

    A run is one call, or enough calls to fill LEAST_RUN, because shorter times cannot be measured well.
    """
    function()
    once = _time_calls(function, 1, device)
    calls = max(1, math.ceil(LEAST_RUN / max(once, 1e-6)))
    times = [1e3 * _time_calls(function, calls, device) / calls for _ in range(runs)]
    p20, median, p80 = np.percentile(times, (20, 50, 80)).tolist()
    return Timing(median, p20, p80, runs)


def _time_calls(function: Callable[[], object], calls: int, device: torch.device) -> float:
    """Return the seconds from the start of the first call's work to the end of the last call's."""
    if device.type != "cuda":
        started = time.perf_counter()
        for _ in range(calls):
            function()
        return time.perf_counter() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(calls):
        function()
    end.record()
    end.synchronize()
    return 1e-3 * float(start.elapsed_time(end))
