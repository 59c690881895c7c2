"""`rfwp report` as a whole: its files, its page, and what it refuses."""

import csv
import io
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from reports import report

from rfwp.runners.cli import main
from rfwp.runners.report import formats
from rfwp.runners.report.writer import write_report


def test_every_file_is_written_and_the_page_holds_the_figures(make_run, tmp_path):
    for game in ("breakout", "pong"):
        for core in ("lstm", "rdn"):
            for seed in (1, 2):
                make_run(tmp_path / "runs", game, core, seed, score=3.0 * seed)
    made = write_report([tmp_path / "runs"], tmp_path / "report")
    drawn = {path.stem for path in (tmp_path / "report" / "figures").glob("*.svg")}
    assert drawn == {
        "curves",
        "aggregates",
        "profiles",
        "improvement-chances",
        "relative-improvements",
        "throughput",
    }
    assert made.page.read_text().count("<svg ") == len(drawn)
    written = {path.name for path in made.page.parent.iterdir()}
    assert written == {"index.html", "scores.csv", "runs.csv", "scores.md", "scores.tex", "figures"}


def test_the_same_runs_give_the_same_figures(make_run, tmp_path):
    make_run(tmp_path / "runs", "breakout", "lstm", 1, score=3.0)
    for name in ("one", "two"):
        write_report([tmp_path / "runs"], tmp_path / name)
    for path in (tmp_path / "one" / "figures").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "figures" / path.name).read_bytes()


def test_a_report_does_without_pytorch_which_takes_a_second_and_much_memory(make_run, tmp_path):
    make_run(tmp_path / "runs", "breakout", "lstm", 1, score=3.0)
    program = (
        "import sys; from rfwp.runners.cli import main; sys.exit(main(['report', 'runs']) or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("empty", "it contains no runs"),
        ("nowhere", "there is no such folder"),
        ("runs --baseline gru", "baseline: got 'gru'; allowed: lstm"),
        ("runs --policy best", "policy: got best; allowed: sampled, greedy"),
        ("runs --out file", "which is a file"),
        ("runs --out site", "is not a report of rfwp and would be overwritten"),
        ("other", "other/config.yaml is not the config of a run: it has no env.name"),
    ],
)
def test_what_cannot_be_reported_gets_one_line(make_run, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs", "breakout", "lstm", 1, score=1.0)
    for folder in ("empty", "site", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "site" / "index.html").write_text("<p>mine</p>")
    (tmp_path / "other" / "config.yaml").write_text("a: 1\n...\n")
    assert main(["report", *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "report").exists()
    assert (tmp_path / "site" / "index.html").read_text() == "<p>mine</p>"


def test_the_command_prints_scores_and_warnings_and_where_the_page_is(make_run, tmp_path, capsys):
    make_run(tmp_path / "runs", "breakout", "lstm", 1, score=12.25)
    assert main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "12.2" in shown
    assert "1 seed only" in shown
    assert str(tmp_path / "out" / "index.html") in shown.replace("\n", "")


def test_what_users_name_cannot_become_code_in_the_page(make_run, tmp_path):
    run = make_run(tmp_path, "breakout", "lstm", 1, score=1.0)
    nasty = tmp_path / "<script>alert(1)<"
    nasty.mkdir()
    run.path.rename(nasty / "x")
    make_run(tmp_path, "breakout", "lstm", 2, score=1.0)
    made = write_report([tmp_path], tmp_path / "report")
    assert "<script>alert" not in made.page.read_text()
    assert "&lt;script&gt;alert" in made.page.read_text()


def test_what_users_name_is_text_wherever_the_report_is_opened(make_run, tmp_path):
    run = make_run(tmp_path, "breakout", "lstm", 1, score=1.0)
    run.path.rename(tmp_path / "=1+1 [x](y) `z` |\x1b[2J\n<b>&$x_1$")
    make_run(tmp_path, "breakout", "lstm", 2, score=1.0)
    write_report([tmp_path], tmp_path / "report")
    written = {path.name: path.read_text() for path in (tmp_path / "report").rglob("*") if path.is_file()}
    assert not any("\x1b" in text for text in written.values())
    for name, text in written.items():
        if name.endswith(".svg"):
            ElementTree.fromstring(text)
    (row,) = [row for row in csv.reader(io.StringIO(written["runs.csv"])) if "1+1" in row[0]]
    assert row[0] == "'=1+1 [x](y) `z` |\\x1b[2J\\n<b>&$x_1$"
    table = formats.Table(["run"], [["=1+1 [x](y) `z` |\\<b>&$x_1$"]])
    assert formats.as_markdown(table).splitlines()[-1] == r"| =1+1 [x]\(y) \`z\` \|\\\<b>&$x_1$ |"
    assert r"=1+1 [x](y) `z` |\textbackslash{}<b>\&\$x\_1\$ \\" in formats.as_latex(table)


def test_a_second_report_takes_the_place_of_the_first(make_run, tmp_path):
    make_run(tmp_path / "runs", "breakout", "lstm", 1, score=1.0)
    write_report([tmp_path / "runs"], tmp_path / "report")
    make_run(tmp_path / "runs", "breakout", "lstm", 2, score=3.0)
    rows, _ = report(tmp_path / "runs", tmp_path / "report")
    assert rows[0]["score"] == "2.0"
