"""What is read of a run: its numbers as they are, and a line for whatever is missing or damaged."""

import errno
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from reports import report, said, scores, study

from rfwp.runners.runfolder.records import read_runs


def test_scores_are_means_over_seeds_of_evaluations(make_run, tmp_path):
    for seed, score in ((1, 10.0), (2, 30.0)):
        make_run(tmp_path, "breakout", "lstm", seed, score)
    (row,), warned = report(tmp_path, tmp_path / "report")
    assert (row["task"], row["agent"], row["seeds"], row["score"]) == ("breakout", "lstm", "2", "20.0")
    assert (row["95 % low"], row["95 % high"]) == ("10.0", "30.0")
    # Random play scores 1.7 and the human 30.5.
    assert float(row["normalised, %"]) == pytest.approx(100 * (20 - 1.7) / 28.8)
    assert "2 seeds: intervals mean little" in warned


def test_without_an_evaluation_the_end_of_training_stands_in_and_is_marked(make_run, tmp_path):
    make_run(tmp_path, "breakout", "lstm", 1, returns=(None, 1.0, 7.5))
    (row,) = scores(tmp_path)
    assert row["score"] == 7.5
    assert row["from"] == "† training, 100 episodes"
    assert "1 of 1 runs have no evaluation with sampled actions" in said(tmp_path)


def test_only_evaluations_of_full_games_by_the_policy_and_protocol_of_the_run_count(make_run, add_evaluation, tmp_path):
    run = make_run(tmp_path, "breakout", "lstm", 1, score=5.0)
    add_evaluation(run, 99.0, steps=3000, policy="greedy")
    add_evaluation(run, 99.0, steps=3000, score="life")
    add_evaluation(run, 99.0, steps=3000, protocol="machado")
    add_evaluation(run, 99.0, steps=3000, game="pong")
    add_evaluation(run, 99.0, steps=1000)
    assert study(tmp_path).results[0].score.value == 5.0
    add_evaluation(run, 6.0, steps=3000, episodes=100)
    assert study(tmp_path).results[0].score.value == 6.0
    assert study(tmp_path, "greedy").results[0].score.value == 99.0


def test_a_run_in_which_no_game_has_ended_has_no_score(make_run, tmp_path):
    make_run(tmp_path, "breakout", "lstm", 1, returns=(None, None))
    make_run(tmp_path, "breakout", "rdn", 1, score=1.0)
    rows, warned = report(tmp_path, tmp_path / "report")
    assert [row["score"] for row in rows] == ["", "1.0"]
    assert "lstm on breakout: no episode has ended yet, so there is no score." in warned


def test_a_run_that_has_written_nothing_yet_is_named(make_run, tmp_path):
    run = make_run(tmp_path, "breakout", "lstm", 1)
    run.metrics_file.unlink()
    (row,), warned = report(tmp_path, tmp_path / "report")
    assert row["score"] == ""
    assert "has no readable metrics.jsonl" in warned
    assert "is unfinished: 0 of 3,000 agent steps" in warned


def test_unreadable_lines_are_skipped_and_counted(make_run, tmp_path):
    run = make_run(tmp_path, "breakout", "lstm", 1, returns=(1.0, 2.0, 3.0))
    whole = run.metrics_file.read_text()
    run.metrics_file.write_text("{nonsense\n[1, 2]\n" + whole + '{"steps": "many"}\n' + '{"steps": 4000, "re')
    made = study(tmp_path)
    assert made.runs[0].curve("steps")[1].tolist() == [1.0, 2.0, 3.0]
    assert "3 of 6 lines of metrics.jsonl cannot be read and were skipped" in said(tmp_path)


def test_values_that_are_no_numbers_leave_gaps(make_run, tmp_path):
    run = make_run(tmp_path, "breakout", "lstm", 1, returns=(1.0, 2.0))
    odd = ("1e308", "-1e308", str(10**400), "NaN", "Infinity", "true", '"3"', "[3]", "null")
    lines = "".join(f'{{"steps": {9000 + k}, "return_mean": {value}}}\n' for k, value in enumerate(odd))
    run.metrics_file.write_text(run.metrics_file.read_text() + lines)
    (read,) = study(tmp_path).runs
    assert read.curve("steps")[1].tolist() == [1.0, 2.0]
    assert read.steps == 9000 + len(odd) - 1


@pytest.mark.parametrize("odd", ["[" * 100_000, f'{{"steps": {10**400}}}'], ids=["deep", "large"])
def test_what_python_cannot_hold_is_unreadable_like_any_other_line(make_run, tmp_path, odd):
    run = make_run(tmp_path, "breakout", "lstm", 1, score=5.0)
    run.metrics_file.write_text(run.metrics_file.read_text() + odd + "\n")
    (run.evaluations / "odd.json").write_text(odd.replace("steps", "mean"))
    assert scores(tmp_path)[0]["score"] == 5.0
    assert "1 of 4 lines of metrics.jsonl cannot be read" in said(tmp_path)
    assert said(tmp_path).count("is not a readable evaluation") == 1


def test_a_run_is_under_way_as_long_as_a_process_trains_it(make_run, tmp_path):
    run = make_run(tmp_path, "breakout", "lstm", 1, total_steps=9000)
    with run.locked():
        assert "breakout-lstm-1 is still running: 3,000 of 9,000 agent steps" in said(tmp_path)
    assert "breakout-lstm-1 is unfinished: 3,000 of 9,000 agent steps" in said(tmp_path)


def test_damaged_evaluations_are_skipped_and_named(make_run, tmp_path):
    run = make_run(tmp_path, "breakout", "lstm", 1, score=5.0)
    for name, text in (("a", "{"), ("b", "[]"), ("c", json.dumps({"mean": None})), ("d", '"text"')):
        (run.evaluations / f"{name}.json").write_text(text)
    assert study(tmp_path).results[0].score.value == 5.0
    assert said(tmp_path).count("is not a readable evaluation") == 4


def test_a_damaged_run_is_left_out_and_named(make_run, tmp_path):
    make_run(tmp_path, "breakout", "lstm", 1, score=5.0)
    damaged = make_run(tmp_path, "breakout", "lstm", 2, score=50.0)
    damaged.config_file.write_text("env: {name: atari\n")
    (row,), warned = report(tmp_path, tmp_path / "report")
    assert row["score"] == "5.0"
    assert "breakout-lstm-2 was left out" in warned


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("game: breakout", "game: brekout", "env.game: got 'brekout'; nearest: breakout"),
        ("game: breakout", "gme: breakout", "env.gme: there is no such setting"),
        ("max_frames: 108000", "max_frames: many", "env.max_frames: got many; allowed: a whole number"),
    ],
)
def test_a_run_whose_environment_cannot_be_made_is_left_out_with_its_file_and_setting(
    make_run, tmp_path, old, new, message
):
    make_run(tmp_path, "pong", "lstm", 1, score=5.0)
    wrong = make_run(tmp_path, "breakout", "lstm", 1, score=50.0).config_file
    lines = wrong.read_text().replace(old, new).splitlines()
    wrong.write_text("\n".join(line for line in lines if "sha256" not in line) + "\n")
    (row,), warned = report(tmp_path, tmp_path / "report")
    assert row["task"] == "pong"
    assert f"{wrong} is not the config of a run: {message}" in warned


def test_runs_behind_symbolic_links_are_found_once_even_if_a_link_leads_back(make_run, tmp_path):
    make_run(tmp_path / "elsewhere", "pong", "gru", 1, score=5)
    place = tmp_path / "runs"
    make_run(place, "pong", "gru", 2, score=7)
    (place / "linked").symlink_to(tmp_path / "elsewhere" / "pong-gru-1")
    (place / "again").symlink_to(tmp_path / "elsewhere")
    (place / "loop").symlink_to(place)
    runs, left_out = read_runs([place, tmp_path / "nothing"])
    assert sorted(run.settings["seed"] for run in runs) == [1, 2]
    assert left_out == [f"report: got {str(tmp_path / 'nothing')!r}; there is no such folder"]


def test_a_folder_that_cannot_be_read_is_named(make_run, tmp_path, monkeypatch):
    make_run(tmp_path, "pong", "gru", 1, score=5)
    secret, scandir = make_run(tmp_path / "secret", "pong", "gru", 2, score=7).path.parent, os.scandir

    def refuse(path):  # as the kernel would, but for root
        if Path(path) == secret:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    runs, left_out = read_runs([tmp_path])
    assert [run.settings["seed"] for run in runs] == [1]
    assert left_out == [f"report: {str(secret)!r} cannot be read: Permission denied"]


def test_a_line_of_metrics_takes_a_hundred_bytes_of_memory_or_so(make_run, tmp_path):
    run = make_run(tmp_path, "pong", "gru", 1, score=5)
    (line, *_) = run.metrics_file.read_text().splitlines(keepends=True)
    run.metrics_file.write_text(5_000 * line)
    tracemalloc.start()
    try:
        runs, _ = read_runs([tmp_path])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(runs[0].metrics["steps"]) == 5_000
    assert peak < 5_000 * 250  # 11 numbers of 8 bytes, twice on the way; a million lines are 250 MB at most
