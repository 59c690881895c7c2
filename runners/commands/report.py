"""`rfwp report`: writes a page with curves, tables and statistics of runs."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.report import tables
from rfwp.runners.report.writer import Report, write_report
from rfwp.runners.runfolder.evaluations import Policy
from rfwp.runners.settings.parsing import Parser, parse


def run(argv: Sequence[str]) -> int:
    """Run `rfwp report` with these words; return the exit code."""
    values, console = parse(_parser(), argv), Terminal()
    with console.status("reading runs and drawing ..."):
        report = write_report([Path(name) for name in values.folders], Path(values.out), values.baseline, values.policy)
    print_report(report, console)
    return 0


def print_report(report: Report, console: Terminal) -> None:
    """Print the scores, the warnings and the path of the page."""
    normalisation = report.study.normalisation(report.study.tasks)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("task", overflow="fold")
    table.add_column("agent", overflow="fold")
    for heading in ("seeds", "score [95 %]", *(["normalised"] if normalisation else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in report.study.results:
        normalised = [f"{100 * result.normalised:,.1f} %" if math.isfinite(result.normalised) else "–"]
        score = tables.score_text(result) or "–"
        table.add_row(result.task, result.agent, str(len(result.finals)), score, *(normalised if normalisation else []))
    console.print(table)
    scale = f" Normalised scores put {normalisation}." if normalisation else ""
    console.say(f"Scores are {report.study.words.score}; mean over seeds. †: {report.study.words.in_training}.{scale}")
    for warning in report.warnings:
        console.say(f"! {warning}")
    console.say(f"Report on {len(report.study.runs)} runs: {report.page}")


def _parser() -> Parser:
    parser = Parser(
        "rfwp report",
        "Write a page with learning curves, scores and statistics of any runs.",
    )
    parser.add_argument("folders", type=str, nargs="+", metavar="DIR", help="runs, or folders with runs at any depth")
    parser.add_argument("--out", type=str, default="report", metavar="DIR", help="folder of the report")
    parser.add_argument(
        "--baseline",
        type=str | None,
        metavar="CORE",
        help="core to compare the others with; default: lstm if there is one",
    )
    parser.add_argument("--policy", type=Policy, default="sampled", help="policy whose evaluations are the scores")
    return parser
