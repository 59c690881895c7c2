"""A disk that fills up, for real: a small file system in memory. Root may mount one; without, these are skipped."""

import json
import os
import time
from itertools import pairwise

import pytest
from harness import SMALL, Run, full, small_disk

from rfwp.runners.cli import main
from rfwp.runners.outage import Outage

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path):
    try:
        with small_disk(tmp_path / "disk", megabytes=8) as disk:
            yield disk
    except PermissionError as error:
        pytest.skip(str(error))


def test_training_goes_on_with_a_warning_and_saves_again_when_there_is_space(disk):
    run = Run(disk / "run", SMALL)
    run.log = disk.parent / "log"
    try:
        run.start()
        run.wait(lambda: len(run.saved()) >= 1)
        with full(disk):
            newest, cpu = run.saved()[-1], sum(run.main.cpu_times()[:2])
            run.wait(lambda: "checkpoints cannot be written: No space left" in run.log.read_text())
            run.wait(lambda: "metrics cannot be written: No space left" in run.log.read_text())
            assert run.saved()[-1] == newest
            assert run.refused("--log_seconds", "3").count("in use") == 1
            assert sum(run.main.cpu_times()[:2]) > cpu
        run.wait(lambda: run.saved()[-1] > newest)
        run.wait(lambda: "checkpoints cannot be written: over after" in run.log.read_text())
        run.process.terminate()
        assert run.process.wait(timeout=10) == 143
    finally:
        run.end()
    text = run.log.read_text()
    assert "Traceback" not in text
    assert text.count("checkpoints cannot be written") <= 4
    steps = [json.loads(line)["agent_steps"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert not list((run.folder / "checkpoints").glob(".*"))


def test_a_film_that_does_not_fit_is_refused_in_one_line_and_leaves_nothing(disk, capfd):
    words = "--env.game pong --preset cpu --core feedforward --final_games 0 --actors.games 2 --learner.batch_size 2"
    folder = disk / "run"
    assert main(["train", *words.split(), "--total_steps", "40", "--run", str(folder)]) == 0
    capfd.readouterr()
    with full(disk):
        assert main(["evaluate", str(folder), "--episodes", "1", "--video", "--json", os.devnull]) == 2
    error = capfd.readouterr().err.splitlines()[-1]  # after what ffmpeg itself says
    assert error.startswith("rfwp evaluate: video: cannot write ")
    assert error.endswith(": No space left on device")
    assert list((folder / "videos").iterdir()) == []


def test_reports_of_an_outage_become_rarer(monkeypatch):
    now, reports = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    outage = Outage("it cannot be written", lambda message: reports.append((now[0], message)))

    def fail():
        raise OSError(28, "No space left on device")

    while now[0] < 1000:
        assert not outage.attempt(fail)
        now[0] += 1
    waits = [after[0] - before[0] for before, after in pairwise(reports)]
    assert waits == [10, 20, 40, 80, 160, 320]
    assert outage.attempt(lambda: None)
    assert "over after 1000 failed" in reports[-1][1]
