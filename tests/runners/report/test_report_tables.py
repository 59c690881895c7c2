"""Tables of a report, as Markdown and LaTeX too."""

import shutil
import subprocess

from reports import study

from rfwp.runners.report import formats, tables


def test_every_table_has_a_heading_for_each_cell(make_run, tmp_path):
    for core in ("lstm", "rdn"):
        for seed in (1, 2):
            make_run(tmp_path, "breakout", core, seed, score=3.0 * seed)
    made = study(tmp_path)
    found = [make(made) for make in tables.ALWAYS.values()]
    found += [tables.references(made), *(make(made, ["breakout"]) for make in (tables.aggregates, tables.chances))]
    assert all({len(row) for row in table.rows} == {len(table.columns)} for table in found if table.rows)
    row = dict(zip(found[2].columns, found[2].rows[0], strict=True))
    assert (row["run"], row["agent steps"], row["score"]) == ("breakout-lstm-1", 3000, 3.0)
    assert row["seconds"] == 30


def test_markdown_and_latex_hold_the_table_of_a_paper(make_run, tmp_path):
    for seed, score in ((1, 10.0), (2, 30.0)):
        make_run(tmp_path, "ms_pacman", "lstm", seed, score)
    make_run(tmp_path, "ms_pacman", "rdn", 1, returns=(2000.0,), total_steps=1000)
    table = tables.by_title(study(tmp_path))
    assert table.columns[:3] == ["task", "lstm", "rdn"]
    assert "| ms_pacman | 20.0 [10.0, 30.0] | 2,000† | 307.3 | 6,951.6 |" in formats.as_markdown(table)
    latex = formats.as_latex(table)
    assert r"ms\_pacman & 20.0 [10.0, 30.0] & 2,000$^\dagger$ & 307.3 & 6,951.6" in latex
    if shutil.which("pdflatex"):
        text = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + latex + "\\end{document}"
        (tmp_path / "t.tex").write_text(text)
        subprocess.run(["pdflatex", "-interaction=batchmode", "t.tex"], cwd=tmp_path, check=True, timeout=60)
