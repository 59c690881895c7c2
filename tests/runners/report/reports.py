"""What a report makes of a folder of runs, by its parts."""

import csv

from rfwp.runners.report import formats, tables
from rfwp.runners.report.evidence import warnings
from rfwp.runners.report.study import Study
from rfwp.runners.report.writer import write_report
from rfwp.runners.runfolder.records import read_runs


def study(folder, policy="sampled") -> Study:
    """Its runs, side by side."""
    return Study(read_runs([folder])[0], policy)


def said(folder) -> str:
    """The warnings, one a line."""
    return "\n".join(warnings(study(folder)))


def scores(folder) -> list[dict[str, formats.Cell]]:
    """The rows of the table of scores."""
    table = tables.scores(study(folder))
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def report(folder, out):
    """The scores.csv of a report as dicts, and its warnings."""
    made = write_report([folder], out)
    with (out / "scores.csv").open() as file:
        return list(csv.DictReader(file)), "\n".join(made.warnings)
