"""`rfwp compare`: real grids of toy tasks in real processes; what is refused, what is resumed, what a user is told."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch
from rich.console import Console

from rfwp.runners import machine
from rfwp.runners.cli import main
from rfwp.runners.comparison import Cell, make_comparison, read_record
from rfwp.runners.errors import UserError
from rfwp.runners.launcher import Launcher, find_runs, largest_run
from rfwp.runners.launcher_display import GridDashboard, GridLines, open_launcher_display, score_table
from rfwp.runners.progress import final_evaluation, newest_metrics, tail
from rfwp.runners.run_folder import RunFolder

SMALL = (
    "--final_games 4 --encoder.size 16 --actors.games 8 --learner.batch_size 4 --learner.unroll_length 5"
    " --log_seconds 0.2"
).split()
GRID = ["compare", "--games", "delayed_cue", "--cores", "gru", "feedforward", *SMALL]
ENDLESS = 50_000_000  # steps


def metrics(run: Path) -> list[dict]:
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def evaluations(out: Path) -> dict[str, dict]:
    return {path.parts[-3]: json.loads(path.read_text()) for path in out.glob("*/eval/*-final.json")}


def children(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def wait_for(condition, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def test_a_run_that_fails_stops_no_other_and_the_same_folder_goes_on_with_what_is_missing(tmp_path, capfd):
    out = tmp_path / "grid"
    blocked = RunFolder(out / "delayed_cue-gru-1")
    blocked.create()
    with blocked.locked():  # as if somebody trained there
        assert main([*GRID, "--seeds", "1", "--steps", "200", "--out", str(out), "--jobs", "2"]) == 1
    shown = capfd.readouterr().out
    assert f"'{blocked.path}' is in use by process {os.getpid()}" in shown
    assert "1 of 2 runs failed: delayed_cue-gru-1" in shown
    assert f"compare --out {out}" in shown
    assert set(evaluations(out)) == {"delayed_cue-feedforward-1"}
    assert "in use" in (out / "logs" / "delayed_cue-gru-1.log").read_text()

    finished = (out / "delayed_cue-feedforward-1" / "config.yaml").stat().st_mtime_ns
    assert main(["compare", "--out", str(out)]) == 0
    shown = capfd.readouterr().out
    assert "2 runs of 200 agent steps, 1 of them done; 1 at once" in shown
    assert (out / "delayed_cue-feedforward-1" / "config.yaml").stat().st_mtime_ns == finished
    made = evaluations(out)
    assert {name: (run["episodes"], run["policy"], run["seed"]) for name, run in made.items()} == {
        "delayed_cue-feedforward-1": (4, "sampled", 0),
        "delayed_cue-gru-1": (4, "sampled", 0),
    }
    assert f"{made['delayed_cue-gru-1']['mean']:.2f}" in shown
    assert "4 full games, raw scores, sampled actions, seed 0" in shown


def trained(out: Path) -> dict[str, float]:
    """Agent steps that the runs have recorded, of those that have recorded any."""
    recorded = {run.name: metrics(run) for run in out.glob("delayed_cue-*")}
    return {name: lines[-1]["agent_steps"] for name, lines in recorded.items() if lines}


@pytest.mark.slow
def test_ctrl_c_saves_every_run_and_the_comparison_resumes_them(start, tmp_path, capsys):
    out, shared = tmp_path / "grid", set(os.listdir("/dev/shm"))
    process = start(*GRID, "--seeds", "2", "--steps", "8_000", "--out", str(out), "--jobs", "2")
    wait_for(lambda: len(trained(out)) == 2)
    started = children(process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert f"compare --out {out}" in output
    assert not psutil.wait_procs(started, timeout=20)[1]
    assert set(os.listdir("/dev/shm")) <= shared
    saved = trained(out)
    assert all((out / name / "checkpoints" / f"step-{int(steps):012d}").is_dir() for name, steps in saved.items())

    assert main(["compare", "--out", str(out)]) == 0
    assert len(evaluations(out)) == 4
    for name, steps in saved.items():
        told = [line["agent_steps"] for line in metrics(out / name)]
        assert steps in told  # it was resumed, not begun anew
        assert told == sorted(set(told))
    assert all(steps >= 8_000 for steps in trained(out).values())
    assert "(2)" in capsys.readouterr().out


@pytest.mark.slow
def test_runs_side_by_side_share_the_cores_and_their_folder_is_theirs_alone(start, tmp_path, capsys):
    out = tmp_path / "grid"
    process = start(*GRID, "--seeds", "1", "--steps", str(ENDLESS), "--out", str(out), "--jobs", "2")
    wait_for(lambda: len(trained(out)) == 2)
    runs = [run for run in psutil.Process(process.pid).children() if "train" in run.cmdline()]
    assert sorted(tuple(run.cpu_affinity()) for run in runs) == sorted(map(tuple, machine.share_cores(2)))
    assert main(["compare", "--out", str(out)]) == 2
    assert f"out: {str(out)!r} is in use by process {process.pid}" in capsys.readouterr().err
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 143
    assert not psutil.wait_procs(runs, timeout=20)[1]


@pytest.mark.slow
@pytest.mark.parametrize("signals", [[signal.SIGKILL], [signal.SIGINT, signal.SIGINT]])
def test_no_run_outlives_its_comparison(start, tmp_path, signals):
    out = tmp_path / "grid"
    process = start(*GRID, "--seeds", "1", "--steps", str(ENDLESS), "--out", str(out), "--jobs", "1")
    wait_for(lambda: metrics(out / "delayed_cue-gru-1"))
    started = children(process)
    assert started
    for number in signals:
        process.send_signal(number)
        time.sleep(0.02)
    process.communicate(timeout=20)
    assert not psutil.wait_procs(started, timeout=20)[1]


WRONG = [
    ("--games pnog --cores gru --steps 9", "games: got 'pnog'; nearest: pong.*toy task: counting"),
    ("--games recall --cores grr --steps 9", "cores: got 'grr'; allowed: .*did you mean gru"),
    ("--games recall --cores gru", "steps: missing"),
    ("--cores gru --steps 9", "games: missing"),
    ("--games --cores gru --steps 9", "games"),
    ("--games recall --cores gru --steps many", "steps: got many; allowed: a whole number"),
    ("--games recall --cores gru --steps 0", "steps: got 0"),
    ("--games recall --cores gru --steps 9 --seeds 0", "seeds: got 0"),
    ("--games recall --cores gru --steps 9 --seeds -1", "seeds"),
    ("--games recall --cores gru --steps 9 --jobs 0", "jobs: got 0"),
    ("--games recall --cores gru --steps 9 --preset gpu", "preset: got 'gpu'; allowed: paper, cpu, toy"),
    ("--games recall --cores gru --steps 9 --seed 3", "seed: .*write --seeds"),
    ("--games recall --cores gru --steps 9 --resume_from best", "resume_from: .*write rfwp train --run RUN"),
    ("--games recall --cores gru --steps 9 --core=lstm", "core: .*write --cores"),
    ("--games recall --cores gru --steps 9 --final_games 0", "final_games: got 0"),
    ("--games recall --cores gru --steps 9 --learner.batch_size 0", "learner.batch_size: got 0"),
    ("--games recall --cores rdn gru --steps 9 --core.feature_map elu", "core.feature_map: .*runs of gru on recall"),
    ("--games recall pong --cores gru --steps 9 --env.num_values 2", "env.num_values: .*runs of gru on pong"),
    ("--games recall --cores gru --steps 9 --encoder shallow", "encoder"),
    ("--games recall --cores gru --steps 9 --device cuda:99", "device: got 'cuda:99'"),
    ("--games recall --cores gru --steps 9 --actors.games 100_000_000_000", "actors.games"),
    ("stray --games recall --cores gru --steps 9", "stray"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_a_wrong_word_is_refused_in_one_line_before_anything_is_written(tmp_path, capsys, words, message):
    assert main(["compare", *words.split(), "--out", str(tmp_path / "grid")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert list(tmp_path.iterdir()) == []


def asked(**changes):
    words = {"games": ["recall", "ALE/Pong-v5"], "cores": ["gru", "rdn"], "seeds": 2, "steps": 9} | changes
    return make_comparison(**{"presets": [None] * len(words["games"]), "settings": [], **words})


def test_every_game_is_played_by_every_core_with_every_seed_and_gets_its_own_preset():
    comparison = asked()
    assert comparison.games == ("recall", "pong")
    assert comparison.presets[0] == "toy"
    assert comparison.presets[1] in ("cpu", "paper")
    assert len(set(comparison.cells)) == 8
    assert [cell.seed for cell in comparison.cells] == [1] * 4 + [2] * 4
    configs = dict(comparison.configs())
    assert {config.total_steps for config in configs.values()} == {9}
    assert configs[Cell("pong", "rdn", 2)].seed == 2
    assert configs[Cell("pong", "rdn", 2)].env.title == "pong"
    assert len({config.final_games for config in configs.values()}) == 1


def begin(out: Path, comparison) -> None:
    """As if the runs had been begun, but not trained."""
    for cell, config in comparison.configs():
        folder = RunFolder(out / cell.name)
        folder.create()
        folder.write_config(config)
    comparison.write(out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--steps 10", "steps: got 10, but the run .* was begun with 9"),
        ("--core.num_layers 3", r"core.num_layers: got 3, but the run .*recall-lstm-1.* was begun with 1"),
        ("--final_games 5", "final_games: got 5, but the run .* was begun with 30"),
        ("--preset cpu --encoder flat", "got .* but the run .* was begun with"),
    ],
)
def test_other_settings_than_those_of_the_runs_are_refused_with_both_values(tmp_path, capsys, words, message):
    begin(tmp_path, asked(games=["recall"], cores=["lstm"], seeds=1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["compare", "--out", str(tmp_path), *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_going_on_keeps_the_preset_of_a_game_however_it_is_spelt(tmp_path, capsys):
    comparison = asked(games=["pong"], cores=["gru"], seeds=1, presets=["toy"], settings=["--encoder", "shallow"])
    begin(tmp_path, comparison)
    (tmp_path / "pong-gru-1" / "eval").mkdir()
    (tmp_path / "pong-gru-1" / "eval" / "step-000000000009-final.json").write_text('{"mean": -20.5}')
    assert main(["compare", "--out", str(tmp_path), "--games", "Pong-v5"]) == 0
    assert "-20.50" in capsys.readouterr().out
    assert read_record(tmp_path) == comparison


def test_what_was_asked_for_is_read_back(tmp_path):
    comparison = asked(settings=["--learner.learning_rate", "1e-3"], presets=["toy", "paper"])
    comparison.write(tmp_path)
    assert read_record(tmp_path) == comparison


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"games": 3}', '{"games": ["pong"]', "\0"])
def test_a_damaged_record_is_refused_in_one_line(tmp_path, capsys, text):
    (tmp_path / "comparison.json").write_text(text)
    assert main(["compare", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "comparison.json" in error
    assert error.count("\n") == 1


def test_the_folder_of_a_run_and_a_file_are_no_place_for_a_comparison(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("seed: 1\n...\n")
    for place in (tmp_path, tmp_path / "config.yaml"):
        assert main([*GRID, "--steps", "9", "--out", str(place)]) == 2
        assert "choose another name" in capsys.readouterr().err


def test_a_run_ended_before_its_settings_were_written_can_be_begun_again_but_nothing_else_is_overwritten(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    with folder.locked():
        folder.check_free()
    (folder.checkpoints.folder / "step-000000000100").mkdir()
    with pytest.raises(Exception, match="no run folder"):
        folder.check_free()


@pytest.mark.parametrize("processes", [1, 2, 3, 7, 64])
def test_cores_are_shared_out_whole_and_evenly(monkeypatch, processes):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 5, 7, 11, 13, 17})
    shares = machine.share_cores(processes)
    assert len(shares) == processes
    assert {core for share in shares for core in share} == {2, 3, 5, 7, 11, 13, 17}
    sizes = {len(share) for share in shares}
    assert max(sizes) - min(sizes) <= 1
    if processes <= 7:
        assert sum(map(len, shares)) == 7  # no core twice


def test_no_more_cores_are_shared_out_than_the_container_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(machine, "cpu_limit", lambda: 4.0)
    assert machine.share_cores(4) == [[0], [1], [2], [3]]


def test_a_run_on_a_gpu_is_not_measured_by_the_memory_of_the_machine(monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda: 100_000_000)
    comparison = asked(games=["pong"], cores=["lstm"], settings=["--learner.batch_size", "512"], presets=["cpu"])
    with pytest.raises(UserError, match="need .* of memory"):
        largest_run(comparison)
    monkeypatch.setattr(machine, "pick_device", lambda name: torch.device("cuda"))
    assert largest_run(comparison) < 1_000_000_000


def test_half_a_line_of_metrics_is_not_read(tmp_path):
    folder = RunFolder(tmp_path)
    assert newest_metrics(folder) == {}
    folder.metrics_file.write_text('{"agent_steps": 1}\n' * 2000 + '{"agent_steps": 2}\n{"agent_st')
    assert newest_metrics(folder) == {"agent_steps": 2}


@pytest.mark.parametrize("odd", ["[" * 5000, f'{{"mean": {10**400}}}'], ids=["deep", "large"])
def test_a_run_whose_evaluation_python_cannot_hold_is_not_done(tmp_path, odd):
    folder = RunFolder(tmp_path)
    folder.evaluations.mkdir()
    (folder.evaluations / "step-000000000009-final.json").write_text(odd)
    folder.metrics_file.write_text('{"agent_steps": 1}\n' + "[" * 5000 + "\n")
    assert final_evaluation(folder) is None
    assert newest_metrics(folder) == {"agent_steps": 1}


def test_the_end_of_a_long_file_is_whole_lines(tmp_path):
    (tmp_path / "log").write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert tail(tmp_path / "log", 2) == ["line 99998", "line 99999"]
    assert all(line.startswith("line ") for line in tail(tmp_path / "log", 10_000))


def grid_of_scores(tmp_path, games, cores):
    comparison = asked(games=games, cores=cores)
    runs = find_runs(comparison, tmp_path)
    for run in runs:
        if run.cell != Cell("recall", "rdn", 2):
            run.score, run.state = 10.0 * run.cell.seed, "done"
    return comparison, runs


@pytest.mark.parametrize(("games", "cores"), [(["recall"], ["gru", "rdn"]), (["recall", "n_back"], ["rdn"])])
def test_the_table_says_mean_range_and_number_of_seeds(tmp_path, capsys, games, cores):
    Console(width=100).print(score_table(*grid_of_scores(tmp_path, games, cores)))
    shown = capsys.readouterr().out
    assert "15.00" in shown
    assert "10.00 to 20.00 (2)" in shown
    assert "10.00 to 10.00 (1)" in shown  # the seed that is missing is not made up


def test_a_terminal_gets_one_dashboard_for_all_runs(tmp_path, capsys):
    comparison, runs = grid_of_scores(tmp_path, ["recall"], ["gru", "rdn"])
    runs[-1].state, runs[-1].metrics = "running", {"agent_steps": 3, "return_mean": 1.25, "steps_per_second": 7.0}
    with open_launcher_display("out", comparison, runs, Console(force_terminal=True, width=120, height=60)) as display:
        assert isinstance(display, GridDashboard)
        display.update(runs)
    shown = capsys.readouterr().out
    assert "3 of 4 runs done, 1 running" in shown
    assert "recall-rdn-2" in shown
    assert "33%" in shown


def test_a_pipe_gets_plain_lines(tmp_path, capsys, monkeypatch):
    comparison, runs = grid_of_scores(tmp_path, ["recall"], ["gru", "rdn"])
    monkeypatch.setattr(GridLines, "SECONDS", 0.0)
    with open_launcher_display("out", comparison, runs, Console(force_terminal=False, width=60)) as display:
        display.update(runs)
        display.note("[a] note")
    shown = capsys.readouterr().out
    assert "3 of 4 runs done, 1 waiting; to go" in shown
    assert "[a] note" in shown
    assert "\x1b" not in shown


def test_nothing_is_started_when_all_is_done(tmp_path):
    comparison, runs = grid_of_scores(tmp_path, ["recall", "n_back"], ["gru"])

    class Silence:
        def update(self, runs):
            raise AssertionError("there was something to do")

        note = update

    Launcher(runs, 1).run(Silence(), stop=None)
    assert all(run.state == "done" for run in runs)
    assert comparison.cells == [run.cell for run in runs]
