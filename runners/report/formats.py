"""Tables as text: Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

Cell = str | int | float | None  # None: empty


class Table(NamedTuple):
    """Rows of cells under headings."""

    columns: list[str]
    rows: list[list[Cell]]


def text(cell: Cell) -> str:
    """Format a cell for reading."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:,.2f}" if abs(cell) < 10 else f"{cell:,.1f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def as_csv(table: Table) -> str:
    """Return a table as CSV, with plain numbers and empty cells for None.

    Text that a spreadsheet would take for a formula gets an apostrophe, which makes it text there.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    rows: list[Sequence[Cell]] = [table.columns, *table.rows]
    for row in rows:
        writer.writerow([f"'{cell}" if isinstance(cell, str) and cell[:1] in set("=+-@") else cell for cell in row])
    return out.getvalue()


def as_markdown(table: Table) -> str:
    """Return a table as GitHub Markdown, with all columns but the first aligned right."""
    lines = [table.columns, [":--" if place == 0 else "--:" for place in range(len(table.columns))]]
    lines += [[text(cell) for cell in row] for row in table.rows]
    return "".join(f"| {' | '.join(map(_plain, line))} |\n" for line in lines)


def _plain(words: str) -> str:
    """Escape what Markdown would take for a cell, code, HTML or a link."""
    return re.sub(r"[\\|`<]|(?<=\])\(", r"\\\g<0>", words)


def as_latex(table: Table) -> str:
    """Return a table as a LaTeX tabular, which needs the booktabs package."""
    lines = [" & ".join(_escaped(text(cell)) for cell in row) + r" \\" for row in table.rows]
    head = " & ".join(map(_escaped, table.columns)) + r" \\"
    body = "\n".join([r"\toprule", head, r"\midrule", *lines, r"\bottomrule"])
    return f"\\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}\n{body}\n\\end{{tabular}}\n"


def _escaped(words: str) -> str:
    special = {"\\": r"\textbackslash{}", "†": r"$^\dagger$", "–": "--", "~": r"\textasciitilde{}", "^": r"\^{}"}
    return "".join(special.get(c, "\\" + c if c in "&%$#_{}" else c) for c in words)
