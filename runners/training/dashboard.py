"""The display of a training run: a dashboard on a terminal, plain lines elsewhere."""

import os
import shlex
import shutil
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Protocol, Self

from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.training.training import AnyTraining, Line


class Display(Protocol):
    """Shows a run. A context manager."""

    def update(self, line: Line) -> None:
        """Show new metrics."""

    def advance(self, steps: int) -> None:
        """Show progress. Called after every update, so it must be cheap."""

    def note(self, message: str) -> None:
        """Show a message to the user."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def open_display(title: str, training: AnyTraining, console: Terminal) -> Display:
    """Return a dashboard on a terminal, else plain lines."""
    return Dashboard(title, training, console) if console.is_terminal else PlainLines(training, console)


class PlainLines:
    """Prints a line at intervals, for log files and pipes."""

    SECONDS = 30.0  # between two lines

    def __init__(self, training: AnyTraining, console: Terminal) -> None:
        self._training = training
        self._console = console
        self._last = float("-inf")
        self._line: Line = {}
        self._printed = True

    def update(self, line: Line) -> None:
        self._line, self._printed = _newest(self._line, line), False
        if time.monotonic() - self._last >= self.SECONDS:
            self._print()

    def advance(self, steps: int) -> None: ...

    def note(self, message: str) -> None:
        self._console.say(f"note: {message}")

    def _print(self) -> None:
        if self._printed:
            return
        self._last, self._printed, line = time.monotonic(), True, self._line
        steps, total = int(line["steps"] or 0), self._training.config.total_steps
        self._console.say(
            f"{steps:,} {self._training.kind.step}s ({min(1.0, steps / total):.0%})  {self._training.plain(line)}"
            f"  to go {remaining(line, total)}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._print()


class Dashboard:
    """The state of the run, redrawn in place at most four times a second."""

    def __init__(self, title: str, training: AnyTraining, console: Terminal) -> None:
        self._title = title
        self._console = console
        self._training = training
        self._line: Line = {}
        self._total_steps = training.config.total_steps
        count = f"{{task.completed:,.0f}} of {{task.total:,.0f}} {training.kind.step}s"
        self._progress = Progress(TextColumn(count, markup=False), BarColumn(None), TaskProgressColumn())
        self._task = self._progress.add_task("", total=self._total_steps)
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render)

    def update(self, line: Line) -> None:
        self._line = _newest(self._line, line)

    def advance(self, steps: int) -> None:
        self._progress.update(self._task, completed=min(steps, self._total_steps))

    def note(self, message: str) -> None:
        self._console.say(f"note: {message}")

    def _render(self) -> Panel:
        table = Table.grid(padding=(0, 3), expand=True)
        for _ in range(4):
            table.add_column(ratio=1)
        get = self._line.get
        cells = [
            *self._training.cells(self._line),
            ("to go", remaining(self._line, self._total_steps)),
            ("learner busy", percent(get("learning_share"))),
            ("learning rate", f"{get('learning_rate') or 0:.2e}"),
            ("memory", memory(self._line)),
        ]
        for start in range(0, len(cells), 4):
            table.add_row(
                *(Text.assemble((name, "dim"), "\n", (value, "bold")) for name, value in cells[start : start + 4])
            )
        shown = Group(self._progress, "", table) if self._line else "starting ..."
        return Panel(shown, title=Text(self._title), subtitle="Ctrl-C saves and stops")

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()


def _newest(before: Line, line: Line) -> Line:
    """Return the newest known value of each metric: some are not measured for every line."""
    return {**before, **{name: value for name, value in line.items() if value is not None or name not in before}}


def number(value: float | None, digits: int = 0) -> str:
    """Format a number; a dash if there is none yet."""
    return "–" if value is None else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    """Format a share as a percentage; a dash if there is none yet."""
    return "–" if value is None else f"{value:.0%}"


def memory(line: Line) -> str:
    """Format the memory of the main process and of the GPU, if there is one."""
    gpu = line.get("gpu_memory_megabytes")
    return f"{number(line.get('memory_megabytes'))} MB" + ("" if gpu is None else f", GPU {number(gpu)} MB")


def remaining(line: Line, total_steps: int) -> str:
    """Format the time to the end of the run at the current speed."""
    speed, steps = line.get("steps_per_second"), line.get("steps")
    if not speed or steps is None:
        return "–"
    seconds = max(0.0, total_steps - steps) / speed
    return str(timedelta(seconds=round(seconds))) if seconds < 1e9 else "decades"


def command(name: str) -> str:
    """Return how to call an installed program: by name if it is on PATH, else by path."""
    beside = Path(sys.executable).parent / name
    if shutil.which(name) or not beside.exists():
        return name
    return shlex.quote(os.path.relpath(beside))
