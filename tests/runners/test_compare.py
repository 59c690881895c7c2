"""`rfwp compare`: real grids of toy tasks in real processes."""

import json
import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import psutil
import pytest
from waiting import HANGS, interrupt_twice, shared_memory, wait_for, wait_until_freed, whole_lines

from rfwp.runners.cli import main
from rfwp.runners.machine import resources
from rfwp.runners.runfolder.folder import RunFolder

SMALL = (
    "--final_episodes 4 --encoder.size 16 --actors.envs 8 --learner.batch_size 4 --learner.unroll_length 5"
    " --log_seconds 0.2"
).split()


GRID = ["compare", "--envs", "delayed_cue", "--cores", "gru", "feedforward", *SMALL]


ENDLESS = 50_000_000  # steps


def metrics(run: Path) -> list[dict]:
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in whole_lines(file)] if file.exists() else []


def evaluations(out: Path) -> dict[str, dict]:
    return {path.parts[-3]: json.loads(path.read_text()) for path in out.glob("*/eval/*-final.json")}


def children(process: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.slow
def test_a_folder_that_is_moved_is_followed_and_one_that_is_deleted_ends_the_comparison(tmp_path):
    out, moved = tmp_path / "grid", tmp_path / "moved"

    def begin(steps):
        words = ["--seeds", "1", "--jobs", "1", "--steps", str(steps), "--out", str(out)]
        with (tmp_path / "log").open("w") as log:
            return subprocess.Popen(resources.own_command(*GRID, *words), stdout=log, stderr=log)

    process = begin(steps=200)
    wait_for(lambda: (out / "delayed_cue-gru-1" / "config.yaml").exists())
    out.rename(moved)
    assert process.wait(timeout=HANGS) == 0
    assert not out.exists()
    assert set(evaluations(moved)) == {"delayed_cue-gru-1", "delayed_cue-feedforward-1"}
    assert f"report {moved}" in (tmp_path / "log").read_text()

    process = begin(ENDLESS)
    wait_for(lambda: bool(metrics(out / "delayed_cue-gru-1")))
    runs = children(process)
    for each in runs:
        each.suspend()  # or it may write while the folder is deleted
    shutil.rmtree(out)
    for each in runs:
        each.resume()
    assert process.wait(timeout=HANGS) == 2
    assert "was deleted while it was in use" in (tmp_path / "log").read_text()
    assert not out.exists()
    assert not psutil.wait_procs(runs, timeout=HANGS)[1]


@pytest.mark.slow
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
    assert "4 full episodes, raw scores, sampled actions, seed 0" in shown


def trained(out: Path) -> dict[str, float]:
    """Agent steps that the runs have recorded, of those that have recorded any."""
    recorded = {run.name: metrics(run) for run in out.glob("delayed_cue-*")}
    return {name: lines[-1]["steps"] for name, lines in recorded.items() if lines}


@pytest.mark.slow
def test_ctrl_c_saves_every_run_and_the_comparison_resumes_them(start, tmp_path, capsys):
    out, shared = tmp_path / "grid", shared_memory()
    process = start(*GRID, "--seeds", "2", "--steps", "8_000", "--out", str(out), "--jobs", "2")
    wait_for(lambda: len(trained(out)) == 2)
    started = children(process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 130, output
    assert f"compare --out {out}" in output
    assert not psutil.wait_procs(started, timeout=HANGS)[1]
    wait_until_freed(shared)
    saved = trained(out)
    assert all((out / name / "checkpoints" / f"step-{int(steps):012d}").is_dir() for name, steps in saved.items())

    assert main(["compare", "--out", str(out)]) == 0
    assert len(evaluations(out)) == 4
    for name, steps in saved.items():
        told = [line["steps"] for line in metrics(out / name)]
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
    assert sorted(tuple(run.cpu_affinity()) for run in runs) == sorted(map(tuple, resources.share_cores(2)))
    assert main(["compare", "--out", str(out)]) == 2
    assert f"out: {str(out)!r} is in use by process {process.pid}" in capsys.readouterr().err
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=HANGS)
    assert process.returncode == 143
    assert not psutil.wait_procs(runs, timeout=HANGS)[1]


@pytest.mark.slow
@pytest.mark.parametrize("end", [subprocess.Popen.kill, partial(interrupt_twice, handled="stopping: waiting")])
def test_no_run_outlives_its_comparison(start, tmp_path, end):
    out = tmp_path / "grid"
    process = start(*GRID, "--seeds", "1", "--steps", str(ENDLESS), "--out", str(out), "--jobs", "1")
    wait_for(lambda: metrics(out / "delayed_cue-gru-1"))
    started = children(process)
    assert started
    for each in started:
        each.suspend()  # else it has saved and ended before the second signal
    end(process)
    process.communicate(timeout=HANGS)
    for each in started:
        each.resume()
    assert not psutil.wait_procs(started, timeout=HANGS)[1]
