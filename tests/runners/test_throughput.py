"""`rfwp bench env|act|learn|train|suite`: what is counted, printed, written and refused; no test asks how fast."""

import json
import re
import subprocess
from itertools import pairwise

import pytest
import torch

from rfwp.runners.bench import scaling as bench_scaling
from rfwp.runners.bench import speed as bench_throughput
from rfwp.runners.bench import suite as bench_suite
from rfwp.runners.bench import throughput, workloads
from rfwp.runners.bench.throughput import Reading, Recorder, spread
from rfwp.runners.cli import main
from rfwp.runners.machine import resources

SMALL = (
    "--env delayed_cue --encoder.size 8 --actors.envs 8 --learner.batch_size 4 --learner.unroll_length 5"
    " --core lstm --core.hidden_size 8"
).split()
PHASES = {
    "env": {"actors: emulator", "main: wait"},
    "act": {"actors: emulator", "collector: wait", "collector: observe", "collector: act"},
    "learn": {f"learner: {name}" for name in ("forward", "backward", "optimise", "publish")},
}
PHASES["train"] = PHASES["act"] | PHASES["learn"] | {"learner: wait"}


@pytest.fixture
def recorder(monkeypatch):
    """A recorder whose clock moves on by a second at each tick."""
    clock = iter(range(1000))
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: float(next(clock)))
    return Recorder(40.0, torch.device("cpu"))


def test_windows_follow_a_warm_up_and_have_equal_lengths(recorder):
    ticks = 0
    while not recorder.tick(100 * ticks, dict):
        ticks += 1
    times = [reading.time for reading in recorder.readings]
    assert times[0] == 10.0  # a quarter of 40 s after the first tick
    assert [after - before for before, after in pairwise(times)] == [4.0] * 10
    summary = recorder.summary(frames_per_step=4)
    assert summary["agent_steps_per_second"] == {"median": 100.0, "p20": 100.0, "p80": 100.0}
    assert summary["frames_per_second"]["median"] == 400.0


def test_the_process_that_tells_how_busy_the_gpu_is_ends_without_harm(recorder, monkeypatch):
    monkeypatch.setattr(
        resources, "ask_gpu_busy", lambda device: subprocess.Popen(["echo", "50"], stdout=subprocess.PIPE, text=True)
    )
    for tick in range(60):
        recorder.tick(tick, dict)
    assert {reading.gpu_busy for reading in recorder.readings[1:]} == {0.5}


def test_costs_are_those_of_the_windows_alone():
    recorder = Recorder(1.0, torch.device("cpu"))
    recorder.readings = [
        Reading(5.0, 1000, {"act": 7.0}, main_cpu=3.0, actors_cpu=9.0, main_memory=8, actors_memory=2, gpu_busy=None),
        Reading(7.0, 3000, {"act": 8.0, "new": 0.5}, 4.0, 12.0, main_memory=6, actors_memory=4, gpu_busy=None),
    ]
    summary = recorder.summary(frames_per_step=1)
    assert summary["milliseconds_per_step"] == {"act": 0.5, "new": 0.25}
    assert summary["cpu_cores_busy"] == {"main": 0.5, "actors": 1.5}
    assert summary["cpu_milliseconds_per_step"] == {"main": 0.5, "actors": 1.5}
    assert summary["peak_memory_megabytes"] == {"main": 8e-6, "actors": 4e-6, "gpu": None}


def test_the_spread_is_median_and_percentiles():
    assert spread([float(number) for number in range(11)]) == {"median": 5.0, "p20": 2.0, "p80": 8.0}


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_every_part_is_measured_with_the_settings_of_a_training(name, capsys):
    assert main(["bench", name, *SMALL, "--seconds", "0.3", "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["what"] == name
    assert set(bench_throughput.ALL_KEYS) - result.keys() == (
        set() if name == "train" else {"env_ceiling", "share_of_ceiling"}
    )
    assert result["milliseconds_per_step"].keys() == PHASES[name]
    speed = result["agent_steps_per_second"]
    assert 0 < speed["p20"] <= speed["median"] <= speed["p80"]
    assert result["config"]["core"] | {"name": "lstm", "hidden_size": 8} == result["config"]["core"]
    assert name == "learn" or result["peak_memory_megabytes"]["actors"] > 0
    if name == "train":
        assert result["share_of_ceiling"] == pytest.approx(speed["median"] / result["env_ceiling"])


def test_a_folder_called_rfwp_is_not_taken_for_the_package(tmp_path, monkeypatch):
    (tmp_path / "rfwp" / "runners").mkdir(parents=True)
    (tmp_path / "rfwp" / "runners" / "cli.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    assert subprocess.run(resources.own_command("--help"), capture_output=True, text=True).stdout.startswith(
        "usage: rfwp"
    )


def test_a_given_ceiling_is_not_measured_again(tmp_path, capsys):
    path = tmp_path / "train.json"
    words = ["bench", "train", *SMALL, "--seconds", "0.2", "--ceiling", "1e6", "--json", str(path)]
    assert main(words) == 0
    result = json.loads(path.read_text())
    assert result["env_ceiling"] == 1e6
    assert "of 1,000,000" in " ".join(capsys.readouterr().out.split())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_suite_writes_markdown_json_and_a_chart(tmp_path):
    out = tmp_path / "a" / "suite"
    assert main(["bench", "suite", *SMALL, "--seconds", "0.2", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["throughput.json", "throughput.md", "throughput.png"]
    results = json.loads((out / "throughput.json").read_text())
    assert [result["what"] for result in results] == list(workloads.WORKLOADS)
    assert results[-1]["env_ceiling"] == results[0]["agent_steps_per_second"]["median"]
    text = (out / "throughput.md").read_text()
    assert f"{results[-1]['share_of_ceiling']:.0%} of the emulator alone" in text
    assert (out / "throughput.png").read_bytes().startswith(b"\x89PNG")
    assert "The GPU" not in text
    on_gpu = bench_suite.report([{**result, "gpu_busy": 0.5} for result in results], "")
    assert "The GPU was busy: env 50%, act 50%, learn 50%, train 50%." in on_gpu


@pytest.mark.slow
def test_scaling_measures_the_points_that_fit_and_says_which_do_not(tmp_path, capsys):
    words = ["--seconds", "0.2", "--envs", "4", "8", "9", "--processes", "--unrolls", "5", "--out", str(tmp_path)]
    assert main(["bench", "scaling", *SMALL, *words]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scaling.json", "scaling.md", "scaling.png"]
    results = json.loads((tmp_path / "scaling.json").read_text())
    assert [(result["field"], result["point"]) for result in results] == [
        ("actors.envs", 4),
        ("actors.envs", 8),
        ("learner.unroll_length", 5),
    ]
    assert results[0]["config"]["actors"]["envs"] == 4
    assert "actors.envs 9: actors.envs: got 9; allowed: a multiple of groups" in capsys.readouterr().out


def test_the_limit_of_a_training_is_what_is_busiest(monkeypatch):
    monkeypatch.setattr(bench_scaling.host, "cores", lambda: 4)
    result = {
        "agent_steps_per_second": {"median": 100.0},
        "milliseconds_per_step": {"actors: emulator": 8.0, "collector: wait": 9.0, "collector: act": 1.0},
        "processes": 2,
        "cpu_cores_busy": {"main": 0.6, "actors": 0.8},
        "gpu_busy": None,
    }
    result["milliseconds_per_step"] |= {"learner: forward": 3.0, "learner: backward": 4.0}
    assert bench_scaling.busy_shares(result) == pytest.approx({"actors": 0.4, "collector": 0.1, "learner": 0.7})
    assert bench_scaling.limit(result).startswith("limited by the learner, 70% busy")
    result["cpu_cores_busy"] = {"main": 1.9, "actors": 1.9}
    assert bench_scaling.limit(result) == "limited by the CPU: 3.8 of 4 cores are busy"


def test_a_gpu_that_is_waited_for_does_not_pass_for_a_busy_thread(monkeypatch):
    monkeypatch.setattr(bench_scaling.host, "cores", lambda: 16)
    result = {"gpu_busy": 0.93, "cpu_cores_busy": {"main": 2.0, "actors": 6.0}}
    assert bench_scaling.limit(result) == "the GPU is 93% busy; 8.0 of 16 cores are"


WRONG = [
    ("bench scaling", "out: missing; allowed: a folder"),
    ("bench env --seconds 0", "seconds: got 0.0; allowed: a number above 0"),
    ("bench act --seconds nan", "seconds: got nan"),
    ("bench learn --json nowhere/x.json", "json: got 'nowhere/x.json'"),
    ("bench train --ceiling -1", "ceiling: got -1.0; allowed: "),
    ("bench env --ceiling 1", "ceiling: there is no such option"),
    ("bench env --run runs/x", "run: there is no such option"),
    ("bench train --core rnd", "got 'rnd'; allowed: .*did you mean rdn"),
    ("bench suite", "out: missing; allowed: a folder"),
    ("bench suite --out file", "out: cannot create the folder 'file'"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_a_wrong_word_is_refused_in_one_line_before_anything_starts(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workloads, "build_system", None)
    monkeypatch.setattr(bench_suite, "measure_apart", None)
    (tmp_path / "file").write_text("")
    assert main(words.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert re.search(message, shown.err)
