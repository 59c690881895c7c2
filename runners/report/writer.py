"""Makes a report on runs and writes it into a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.output import one_line
from rfwp.runners.report import evidence, figures, page, tables
from rfwp.runners.report.formats import Table
from rfwp.runners.report.study import Study
from rfwp.runners.runfolder.evaluations import Policy
from rfwp.runners.runfolder.files import write_whole
from rfwp.runners.runfolder.records import read_runs

INDEX = "index.html"
SIGN = '<meta name="generator" content="rfwp report'  # marks pages written by rfwp


class Report(NamedTuple):
    """A written report."""

    page: Path
    study: Study
    warnings: list[str]


def write_report(folders: Sequence[Path], out: Path, baseline: str | None = None, policy: Policy = "sampled") -> Report:
    """Report on all runs in `folders`, at any depth: write a page, tables and figures into the folder `out`.

    `baseline` is the core to compare with, by default the LSTM if there is one; `policy` selects the evaluations.
    Raise UserError if there are no runs, no such baseline, or other files of the same name in `out`.
    """
    _check(out)
    runs, left_out = read_runs(folders)
    study = Study(runs, policy)
    chosen = study.baseline(baseline)
    warnings = [one_line(line) for line in (*(f"{line}." for line in left_out), *evidence.warnings(study))]
    shared = study.shared_tasks(study.agents, normalised=False) if study.comparable else []
    tasks = study.aggregated_tasks
    drawn, numbers = _figures(study, chosen, shared, tasks), _tables(study, shared, tasks)
    out.mkdir(parents=True, exist_ok=True)
    (out / "figures").mkdir(exist_ok=True)
    for name, svg in drawn.items():
        write_whole(out / "figures" / f"{name.replace('_', '-')}.svg", svg)
    for name, text in page.downloads(numbers).items():
        write_whole(out / name, text)
    write_whole(out / INDEX, page.render(study, chosen, warnings, numbers, drawn, shared))
    return Report(out / INDEX, study, warnings)


def _figures(study: Study, baseline: str, shared: Sequence[str], tasks: Sequence[str]) -> dict[str, str]:
    """Draw all figures that the runs allow, as SVG."""
    drawn = {"throughput": figures.throughput(study)}
    if len(study.tasks) <= 4:
        drawn["curves"] = figures.learning_curves(study)
    else:
        drawn |= {f"curves_{unit}": figures.learning_curves(study, [unit]) for unit in figures.AGAINST}
    if tasks:
        drawn["aggregates"] = figures.aggregates(study, tasks)
        drawn["profiles"] = figures.profiles(study, tasks)
    if shared and len(study.repeated) > 1 and baseline in study.repeated:
        drawn["improvement_chances"] = figures.improvement_chances(study, shared, baseline)
    if len(study.agents) > 1 and study.comparable and (bars := figures.relative_improvements(study, baseline)):
        drawn["relative_improvements"] = bars
    return drawn


def _tables(study: Study, shared: Sequence[str], tasks: Sequence[str]) -> dict[str, Table]:
    """Make all tables that the runs allow."""
    found = {name: make(study) for name, make in tables.ALWAYS.items()}
    if (references := tables.references(study)).rows:
        found["references"] = references
    if tasks:
        found["aggregates"] = tables.aggregates(study, tasks)
    if shared and len(study.repeated) > 1:
        found["chances"] = tables.chances(study, shared)
    return found


def _check(out: Path) -> None:
    """Raise UserError if writing would overwrite something other than a report."""
    index = out / INDEX
    if out.exists() and not out.is_dir():
        raise UserError(f"out: got {str(out)!r}, which is a file; allowed: a folder, new or of an earlier report")
    if index.exists() and SIGN not in index.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise UserError(f"out: {str(index)!r} is not a report of rfwp and would be overwritten; choose another folder")
