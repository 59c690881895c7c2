"""The display of a comparison: a dashboard for all runs on a terminal, plain lines elsewhere, a table of scores."""

import time
from collections.abc import Sequence
from statistics import fmean
from typing import Protocol, Self

from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from rfwp.agents.metrics import RECENT_EPISODES
from rfwp.runners.compare.comparison import Comparison
from rfwp.runners.compare.launcher import Run, Watcher
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.settings.kinds import AGENT, SEQUENCES
from rfwp.runners.training.dashboard import number, remaining

# The metric that shows how a run is doing, and its heading, by kind of run.
NEWEST = {
    AGENT: ("return_mean", f"return (last {RECENT_EPISODES} episodes)"),
    SEQUENCES: ("loss", "loss in training, nats"),
}
SCORE_CELL = "Cells: mean over seeds; lowest to highest (number of seeds)."


class LauncherDisplay(Watcher, Protocol):
    """A watcher that is also a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def open_launcher_display(
    title: str, comparison: Comparison, runs: Sequence[Run], console: Terminal
) -> LauncherDisplay:
    """Return a dashboard on a terminal, else plain lines."""
    pace = Pace(comparison, runs)
    return GridDashboard(title, comparison, pace, console) if console.is_terminal else GridLines(pace, console)


class Pace:
    """Progress of all runs together, and the time to the end."""

    def __init__(self, comparison: Comparison, runs: Sequence[Run]) -> None:
        self._goal = comparison.steps
        self.unit = f"{comparison.kind.step}s"
        self.total = self._goal * len(runs)
        self._begun_at = self.done(runs)
        self._started = time.monotonic()

    def done(self, runs: Sequence[Run]) -> int:
        """Return the steps of all runs; a run counts at most its total_steps."""
        return sum(min(run.steps, self._goal) for run in runs)

    def share(self, run: Run) -> float:
        """Return the share of a run that is done, 0 to 1."""
        return min(1.0, run.steps / self._goal)

    def to_go(self, runs: Sequence[Run]) -> str:
        """Format the time to the end, at the average speed since the launcher started."""
        done = self.done(runs)
        speed = (done - self._begun_at) / max(1e-9, time.monotonic() - self._started)
        return remaining({"steps": done, "steps_per_second": speed}, self.total)


class GridLines:
    """Prints a line for every event, and a line of progress at intervals."""

    SECONDS = 60.0  # between two lines of progress

    def __init__(self, pace: Pace, console: Terminal) -> None:
        self._pace = pace
        self._console = console
        self._last = time.monotonic()

    def update(self, runs: Sequence[Run]) -> None:
        if time.monotonic() - self._last < self.SECONDS:
            return
        self._last = time.monotonic()
        going = ", ".join(f"{run.cell.name} {self._pace.share(run):.0%}" for run in runs if run.state == "running")
        self._console.say(f"{count_states(runs)}; to go {self._pace.to_go(runs)}; running: {going or '–'}")

    def note(self, message: str) -> None:
        self._console.say(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...


class GridDashboard:
    """The state of all runs, redrawn in place at every update and removed at the end."""

    def __init__(self, title: str, comparison: Comparison, pace: Pace, console: Terminal) -> None:
        self._title = title
        self._console = console
        self._comparison = comparison
        self._pace = pace
        self._runs: Sequence[Run] = ()
        count = f"{{task.completed:,.0f}} of {{task.total:,.0f}} {pace.unit}"
        self._progress = Progress(TextColumn(count, markup=False), BarColumn(None), TaskProgressColumn())
        self._task = self._progress.add_task("", total=pace.total)
        # No refresh thread: it would draw between a note and the dashboard below it.
        self._live = Live(console=console, auto_refresh=False, transient=True, get_renderable=self._render)

    def update(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._progress.update(self._task, completed=self._pace.done(runs))
        self._live.refresh()

    def note(self, message: str) -> None:
        self._console.say(message)

    def _render(self) -> Panel:
        if not self._runs:
            return Panel("starting the runs ...", title=Text(self._title))
        state = f"{count_states(self._runs)}; to go {self._pace.to_go(self._runs)}"
        scores = score_table(self._comparison, self._runs)
        shown = Group(self._progress, state, "", self._running(), "", scores)
        return Panel(shown, title=Text(self._title), subtitle="Ctrl-C saves all runs and stops")

    def _running(self) -> Table:
        table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False)
        table.add_column("running")
        metric, name = NEWEST[self._comparison.kind]
        for heading in ("done", name, f"{self._pace.unit}/s"):
            table.add_column(heading, justify="right")
        for run in self._runs:
            if run.state == "running":
                get = run.metrics.get
                speed, score = number(get("steps_per_second")), number(get(metric), 2)
                table.add_row(run.cell.name, f"{self._pace.share(run):.0%}", score, speed)
        return table

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()


def count_states(runs: Sequence[Run]) -> str:
    """Format the number of runs in each state."""
    states = [run.state for run in runs]
    counts = [f"{states.count(state)} {state}" for state in ("running", "waiting", "failed") if state in states]
    return ", ".join([f"{states.count('done')} of {len(runs)} runs done", *counts])


def score_table(comparison: Comparison, runs: Sequence[Run]) -> Table:
    """Return a table of subjects and cores: mean, lowest and highest final score, and number of seeds."""
    wide = len(comparison.cores) > len(comparison.subjects)
    rows, columns = (comparison.cores, comparison.subjects) if wide else (comparison.subjects, comparison.cores)
    table = Table()
    table.add_column("core" if wide else "environment" if comparison.kind is AGENT else "task")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row, *(_score_cell(runs, {row, column}) for column in columns))
    return table


def _score_cell(runs: Sequence[Run], names: set[str]) -> str | Text:
    """Format the scores of a subject and a core."""
    scores = [run.score for run in runs if {run.cell.subject, run.cell.core} == names and run.score is not None]
    if not scores:
        return "–"
    spread = f"{min(scores):,.2f} to {max(scores):,.2f} ({len(scores)})"
    return Text.assemble((f"{fmean(scores):,.2f}", "bold"), "\n", (spread, "dim"))
