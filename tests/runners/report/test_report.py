"""Reports say what the runs say, no more: right numbers, nothing mixed, a line for whatever is missing or thin."""

import csv
import json
import shutil
import subprocess

import numpy as np
import pytest

from rfwp.runners.cli import main
from rfwp.runners.errors import UserError
from rfwp.runners.report import formats, tables
from rfwp.runners.report.evidence import warnings
from rfwp.runners.report.palette import CORES, marks
from rfwp.runners.report.records import read_runs
from rfwp.runners.report.study import Study, common_grid
from rfwp.runners.report.writer import write_report
from rfwp.runners.run_folder import RunFolder


def study(folder, policy="sampled") -> Study:
    return Study(read_runs([folder])[0], policy)


def said(folder) -> str:
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


def test_scores_are_means_over_seeds_of_evaluations(make_run, tmp_path):
    for seed, score in ((1, 10.0), (2, 30.0)):
        make_run(tmp_path, "breakout", "lstm", seed, score)
    (row,), warned = report(tmp_path, tmp_path / "report")
    assert (row["task"], row["agent"], row["seeds"], row["score"]) == ("breakout", "lstm", "2", "20.0")
    assert (row["95 % low"], row["95 % high"]) == ("10.0", "30.0")
    # Random play scores 1.7 and the human 30.5.
    assert float(row["human, %"]) == pytest.approx(100 * (20 - 1.7) / 28.8)
    assert "2 seeds: intervals mean little" in warned


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
    assert row["hours"] == pytest.approx(30 / 3600)


def test_the_same_runs_give_the_same_figures(make_run, tmp_path):
    make_run(tmp_path / "runs", "breakout", "lstm", 1, score=3.0)
    for name in ("one", "two"):
        write_report([tmp_path / "runs"], tmp_path / name)
    for path in (tmp_path / "one" / "figures").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "figures" / path.name).read_bytes()


def test_without_an_evaluation_the_end_of_training_stands_in_and_is_marked(make_run, tmp_path):
    make_run(tmp_path, "breakout", "lstm", 1, returns=(None, 1.0, 7.5))
    (row,) = scores(tmp_path)
    assert row["score"] == 7.5
    assert row["from"] == "† training, 100 games"
    assert "1 of 1 runs have no evaluation by sampled actions" in said(tmp_path)


def test_only_evaluations_of_full_games_by_the_policy_and_protocol_of_the_run_count(make_run, add_evaluation, tmp_path):
    run = make_run(tmp_path, "breakout", "lstm", 1, score=5.0)
    add_evaluation(run, 99.0, agent_steps=3000, policy="greedy")
    add_evaluation(run, 99.0, agent_steps=3000, score="life")
    add_evaluation(run, 99.0, agent_steps=3000, protocol="machado")
    add_evaluation(run, 99.0, agent_steps=3000, game="pong")
    add_evaluation(run, 99.0, agent_steps=1000)
    assert study(tmp_path).results[0].score.value == 5.0
    add_evaluation(run, 6.0, agent_steps=3000, episodes=100)
    assert study(tmp_path).results[0].score.value == 6.0
    assert study(tmp_path, "greedy").results[0].score.value == 99.0


def test_a_run_in_which_no_game_has_ended_has_no_score(make_run, tmp_path):
    make_run(tmp_path, "breakout", "lstm", 1, returns=(None, None))
    make_run(tmp_path, "breakout", "rdn", 1, score=1.0)
    rows, warned = report(tmp_path, tmp_path / "report")
    assert [row["score"] for row in rows] == ["", "1.0"]
    assert "lstm on breakout: no game has ended yet, so there is no score." in warned


def test_a_run_that_has_written_nothing_yet_is_named(make_run, tmp_path):
    run = make_run(tmp_path, "breakout", "lstm", 1)
    run.metrics_file.unlink()
    (row,), warned = report(tmp_path, tmp_path / "report")
    assert row["score"] == ""
    assert "has no metrics.jsonl that can be read" in warned
    assert "is unfinished: 0 of 3,000 agent steps" in warned


def test_unreadable_lines_are_skipped_and_counted(make_run, tmp_path):
    run = make_run(tmp_path, "breakout", "lstm", 1, returns=(1.0, 2.0, 3.0))
    whole = run.metrics_file.read_text()
    run.metrics_file.write_text(
        "{nonsense\n[1, 2]\n" + whole + '{"agent_steps": "many"}\n' + '{"agent_steps": 4000, "re'
    )
    made = study(tmp_path)
    assert made.runs[0].curve("agent_steps")[1].tolist() == [1.0, 2.0, 3.0]
    assert "3 of 6 lines of metrics.jsonl cannot be read and were skipped" in said(tmp_path)


@pytest.mark.parametrize("odd", ["[" * 100_000, f'{{"agent_steps": {10**400}}}'], ids=["deep", "large"])
def test_what_python_cannot_hold_is_unreadable_like_any_other_line(make_run, tmp_path, odd):
    run = make_run(tmp_path, "breakout", "lstm", 1, score=5.0)
    run.metrics_file.write_text(run.metrics_file.read_text() + odd + "\n")
    (run.evaluations / "odd.json").write_text(odd.replace("agent_steps", "mean"))
    assert scores(tmp_path)[0]["score"] == 5.0
    assert "1 of 4 lines of metrics.jsonl cannot be read" in said(tmp_path)
    assert said(tmp_path).count("is no evaluation that can be read") == 1


def test_a_run_that_is_being_written_is_said_to_be(make_run, tmp_path):
    make_run(tmp_path, "breakout", "lstm", 1, total_steps=9000)
    assert "breakout-lstm-1 is still being written: 3,000 of 9,000 agent steps" in said(tmp_path)


def test_damaged_evaluations_are_skipped_and_named(make_run, tmp_path):
    run = make_run(tmp_path, "breakout", "lstm", 1, score=5.0)
    for name, text in (("a", "{"), ("b", "[]"), ("c", json.dumps({"mean": None})), ("d", '"text"')):
        (run.evaluations / f"{name}.json").write_text(text)
    assert study(tmp_path).results[0].score.value == 5.0
    assert said(tmp_path).count("is no evaluation that can be read") == 4


def test_a_damaged_run_is_left_out_and_named(make_run, tmp_path):
    make_run(tmp_path, "breakout", "lstm", 1, score=5.0)
    damaged = make_run(tmp_path, "breakout", "lstm", 2, score=50.0)
    damaged.config_file.write_text("env: {name: atari\n")
    (row,), warned = report(tmp_path, tmp_path / "report")
    assert row["score"] == "5.0"
    assert "breakout-lstm-2 was left out" in warned


def test_games_and_protocols_are_never_mixed(make_run, tmp_path):
    make_run(tmp_path, "breakout", "lstm", 1, score=10.0)
    make_run(tmp_path, "pong", "lstm", 1, score=-20.0)
    make_run(tmp_path, "pong", "lstm", 2, score=0.0, words="--env.protocol machado")
    rows, warned = report(tmp_path, tmp_path / "report")
    assert [(row["task"], row["score"]) for row in rows] == [
        ("breakout (protocol dqn)", "10.0"),
        ("pong (protocol dqn)", "-20.0"),
        ("pong (protocol machado)", "0.0"),
    ]
    assert "Runs on Atari differ in env.protocol (dqn, machado)" in warned
    assert not (tmp_path / "report" / "figures" / "aggregates.svg").exists()


@pytest.mark.parametrize(
    ("game", "setting", "names"),
    [
        ("delayed_cue", "delay", {2: "delay 2", 50: "delay 50"}),
        ("breakout", "max_frames", {1000: "max_frames 1,000", 108_000: "max_frames 108,000"}),
    ],
)
def test_a_game_in_worlds_of_other_settings_is_several_tasks(make_run, tmp_path, game, setting, names):
    for score, (value, name) in enumerate(names.items(), start=1):
        make_run(tmp_path / name, game, "lstm", 1, score=score, words=f"--env.{setting} {value}")
    found = {row["task"]: (row["seeds"], row["score"]) for row in scores(tmp_path)}
    assert found == {f"{game} ({name})": (1, score) for score, name in enumerate(names.values(), start=1)}
    assert "seed 1 more than once" not in said(tmp_path)
    assert ("Runs on Atari differ in env.max_frames (1,000, 108,000)" in said(tmp_path)) == (game == "breakout")


def test_an_agent_whose_memory_is_another_on_another_task_is_named(make_run, tmp_path):
    make_run(tmp_path, "breakout", "lstm", 1, score=1.0, words="--core.hidden_size 16")
    make_run(tmp_path, "pong", "lstm", 1, score=1.0, words="--core.hidden_size 512")
    assert "lstm has not the same memory on all tasks: core.hidden_size is 16, 512." in said(tmp_path)


def test_runs_of_one_core_with_other_settings_are_another_agent(make_run, tmp_path):
    make_run(tmp_path / "a", "breakout", "lstm", 1, score=1.0, words="--learner.learning_rate 0.0006")
    make_run(tmp_path / "b", "breakout", "lstm", 1, score=2.0, words="--learner.learning_rate 0.001")
    agents = study(tmp_path).agents
    assert list(agents) == ["lstm (learning_rate 0.0006)", "lstm (learning_rate 0.001)"]
    first, second = marks(agents).values()
    assert first.light == second.light
    assert first.dashes != second.dashes
    assert "Agents on breakout differ in more than the core: learner.learning_rate is 0.0006, 0.001." in said(tmp_path)


def test_every_core_has_a_colour_and_a_marker_of_its_own_whatever_the_others_are():
    from rfwp.runners import components

    assert set(CORES) == set(components.names("core"))
    assert all(len(set(column)) == len(CORES) for column in zip(*CORES.values(), strict=True))
    assert marks({"rdn": "rdn"})["rdn"] == marks({"lstm": "lstm", "rdn": "rdn", "mine": "mine"})["rdn"]


def test_comparisons_over_games_use_those_that_all_agents_have(make_run, tmp_path):
    for game in ("breakout", "pong"):
        make_run(tmp_path, game, "lstm", 1, score=1.0)
    make_run(tmp_path, "pong", "rdn", 1, score=2.0)
    made = study(tmp_path)
    assert made.shared_tasks(made.agents, normalised=True) == ["pong"]
    assert "Not every agent has scores on breakout" in said(tmp_path)


def test_unequal_training_is_said(make_run, tmp_path):
    make_run(tmp_path, "breakout", "lstm", 1, score=1.0)
    make_run(tmp_path, "breakout", "rdn", 1, score=1.0, returns=(1.0, 1.0), total_steps=2000)
    assert "trained for 2,000 to 3,000 agent steps" in said(tmp_path)


def test_a_copy_of_a_run_is_no_second_seed(make_run, add_evaluation, tmp_path):
    run = make_run(tmp_path / "a", "breakout", "lstm", 1, score=1.0)
    shutil.copytree(run.path, tmp_path / "b" / run.path.name)
    add_evaluation(RunFolder(tmp_path / "b" / run.path.name), 2.0, agent_steps=3000, episodes=100)
    (row,), warned = report(tmp_path, tmp_path / "report")
    assert (row["seeds"], row["score"], row["95 % low"]) == ("1", "2.0", "")
    assert f"{run.path} was left out: it is a copy of {tmp_path / 'b' / run.path.name}." in warned


def test_a_seed_that_was_run_again_is_said_to_be(make_run, tmp_path):
    make_run(tmp_path / "a", "breakout", "lstm", 1, score=1.0)
    make_run(tmp_path / "b", "breakout", "lstm", 1, score=1.0, returns=(None, 1.0, 3.0))
    assert [row["seeds"] for row in scores(tmp_path)] == [2]
    assert "has seed 1 more than once" in said(tmp_path)


def test_toy_tasks_have_curves_and_chances_but_no_human(make_run, tmp_path):
    for core, score in (("lstm", 1.0), ("rdn", 2.0)):
        for seed in (1, 2):
            make_run(tmp_path, "recall", core, seed, score)
    rows, _ = report(tmp_path, tmp_path / "report")
    assert all("human, %" not in row for row in rows)
    assert (tmp_path / "report" / "figures" / "improvement-chances.svg").exists()
    assert not (tmp_path / "report" / "figures" / "aggregates.svg").exists()


def test_single_runs_have_aggregates_but_are_not_made_into_chances(make_run, tmp_path):
    for game in ("breakout", "pong"):
        for core, score in (("lstm", 1.0), ("rdn", 2.0)):
            make_run(tmp_path / "runs", game, core, 1, score)
    made = write_report([tmp_path / "runs"], tmp_path / "report")
    drawn = {path.stem for path in (tmp_path / "report" / "figures").iterdir()}
    assert drawn == {"curves", "aggregates", "profiles", "relative-improvements", "throughput"}
    assert "Probabilities of improvement leave out lstm, rdn" in "\n".join(made.warnings)
    table = tables.aggregates(made.study, ["breakout", "pong"])
    assert all("[" not in str(cell) for row in table.rows for cell in row)


def test_chances_leave_out_an_agent_with_a_single_run(make_run, tmp_path):
    for core, seeds in (("lstm", 2), ("gru", 1), ("rdn", 2)):
        for seed in range(1, seeds + 1):
            make_run(tmp_path / "runs", "recall", core, seed, score=1.0 * seed)
    made = write_report([tmp_path / "runs"], tmp_path / "report")
    assert tables.chances(made.study, ["recall"]).columns == ["", "over lstm", "over rdn"]
    assert "Probabilities of improvement leave out gru:" in "\n".join(made.warnings)
    drawn = tmp_path / "report" / "figures" / "improvement-chances.svg"
    assert "rdn" in drawn.read_text()
    assert "gru" not in drawn.read_text()
    write_report([tmp_path / "runs"], tmp_path / "against-gru", baseline="gru")
    assert not (tmp_path / "against-gru" / "figures" / drawn.name).exists()


def test_curves_are_averaged_only_where_all_runs_have_come():
    curves = [(np.array([0.0, 10.0]), np.array([0.0, 10.0])), (np.array([2.0, 6.0]), np.array([0.0, 4.0]))]
    grid = common_grid(curves, points=5)
    assert grid is not None
    assert grid[0].tolist() == [2, 3, 4, 5, 6]
    assert grid[1].tolist() == [[2, 3, 4, 5, 6], [0, 1, 2, 3, 4]]
    assert common_grid([(np.array([1.0]), np.array([1.0]))]) is None


def test_markdown_and_latex_hold_the_table_of_a_paper(make_run, tmp_path):
    for seed, score in ((1, 10.0), (2, 30.0)):
        make_run(tmp_path, "ms_pacman", "lstm", seed, score)
    make_run(tmp_path, "ms_pacman", "rdn", 1, returns=(2000.0,), total_steps=1000)
    table = tables.by_game(study(tmp_path))
    assert table.columns[:3] == ["task", "lstm", "rdn"]
    assert "| ms_pacman | 20.0 [10.0, 30.0] | 2,000† | 307.3 | 6,951.6 |" in formats.as_markdown(table)
    latex = formats.as_latex(table)
    assert r"ms\_pacman & 20.0 [10.0, 30.0] & 2,000$^\dagger$ & 307.3 & 6,951.6" in latex
    if shutil.which("pdflatex"):
        text = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + latex + "\\end{document}"
        (tmp_path / "t.tex").write_text(text)
        subprocess.run(["pdflatex", "-interaction=batchmode", "t.tex"], cwd=tmp_path, check=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("empty", "no run is in it"),
        ("nowhere", "there is no such run folder"),
        ("runs --baseline gru", "baseline: got 'gru'; allowed: lstm"),
        ("runs --policy best", "policy: got best; allowed: sampled, greedy"),
        ("runs --out file", "which is a file"),
        ("runs --out site", "is no report of rfwp and would be lost"),
        ("other", "is no config of a run: it has no env.name"),
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


def test_a_second_report_takes_the_place_of_the_first(make_run, tmp_path):
    make_run(tmp_path / "runs", "breakout", "lstm", 1, score=1.0)
    write_report([tmp_path / "runs"], tmp_path / "report")
    make_run(tmp_path / "runs", "breakout", "lstm", 2, score=3.0)
    rows, _ = report(tmp_path / "runs", tmp_path / "report")
    assert rows[0]["score"] == "2.0"


def test_an_unknown_baseline_is_refused_and_a_usual_one_is_found(make_run, tmp_path):
    for core in ("delta_net", "gru", "lstm"):
        make_run(tmp_path, "breakout", core, 1, score=1.0)
    assert study(tmp_path).baseline(None) == "lstm"
    assert study(tmp_path).baseline("gru") == "gru"
    with pytest.raises(UserError, match="baseline: got 'rdn'; allowed: lstm, gru, delta_net"):
        study(tmp_path).baseline("rdn")
