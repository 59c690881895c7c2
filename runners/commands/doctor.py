"""`rfwp doctor`: what a bug report needs, two quick self-tests, and what is wrong with this machine."""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rfwp.runners.machine.doctor import examine
from rfwp.runners.settings.parsing import Parser, parse


def run(argv: Sequence[str]) -> int:
    """From the words after `rfwp doctor` to the exit code: 1 if something is wrong that keeps rfwp from training."""
    parser = Parser(
        "rfwp doctor",
        "Collects what a bug report needs, and tells what is wrong with this machine. Exit code 1: rfwp cannot train.",
    )
    parser.add_argument("--json", action="store_true", help="print an object instead of tables")
    values = parse(parser, argv)
    report = examine()
    if values.json:
        print(json.dumps(report.as_dict(), indent=2))
        return report.exit_code
    console, table = Console(), Table(show_header=False, title="this machine", title_justify="left")
    for name, fact in report.facts.items():
        table.add_row(name, "none" if fact is None else str(fact))
    console.print(table)
    for problem in report.problems:
        console.print(f"{problem.severity}: {problem.what}; {problem.advice}", soft_wrap=True, markup=False)
    if not report.problems:
        console.print("nothing is wrong")
    return report.exit_code
