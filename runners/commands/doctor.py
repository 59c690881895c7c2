"""`rfwp doctor`: facts for a bug report, two quick self-tests, and problems with this machine."""

import json
from collections.abc import Sequence

from rich.table import Table

from rfwp.runners.machine.doctor import examine
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.settings.parsing import Parser, parse


def run(argv: Sequence[str]) -> int:
    """Run `rfwp doctor` with these words; return the exit code: 1 if rfwp cannot train on this machine."""
    parser = Parser(
        "rfwp doctor",
        "Collect the facts for a bug report, and check this machine for problems. Exit code 1: rfwp cannot train.",
    )
    parser.add_argument("--json", action="store_true", help="print an object instead of tables")
    values = parse(parser, argv)
    report = examine()
    if values.json:
        print(json.dumps(report.as_dict(), indent=2))
        return report.exit_code
    console, table = Terminal(), Table(show_header=False, title="this machine", title_justify="left")
    for name, fact in report.facts.items():
        table.add_row(name, "none" if fact is None else str(fact))
    console.print(table)
    for problem in report.problems:
        console.say(f"{problem.severity}: {problem.what}; {problem.advice}")
    if not report.problems:
        console.print("no problems found")
    return report.exit_code
