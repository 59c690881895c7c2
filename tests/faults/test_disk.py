"""A disk that fills up, for real: a small file system in memory. Root may mount one; without, these are skipped."""

import errno
import json
import os
import signal
import time
from itertools import pairwise

import pytest
from harness import SMALL, Run, full, small_disk
from waiting import HANGS

from rfwp.agents.actor_pool import ActorFailure
from rfwp.agents.learner import Learner
from rfwp.runners.cli import main
from rfwp.runners.runfolder.checkpoint import CheckpointStore
from rfwp.runners.training import trainer
from rfwp.runners.training.best_effort import BestEffort
from rfwp.runners.training.saving import Saver

TRAIN = (
    "train --env delayed_cue --core lstm --core.hidden_size 8 --encoder.size 8 --final_episodes 0"
    " --learner.batch_size 4 --actors.envs 8 --sync --total_steps 320"
).split()


@pytest.fixture
def disk(tmp_path):
    try:
        with small_disk(tmp_path / "disk", megabytes=8) as disk:
            yield disk
    except PermissionError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_training_goes_on_with_a_warning_and_saves_again_when_there_is_space(disk):
    run = Run(disk / "run", [*SMALL, "--checkpoint.minutes", "0.01"])
    run.log = disk.parent / "log"
    try:
        run.start()
        run.wait(lambda: len(run.saved()) >= 1)
        with full(disk):
            newest, worked = run.saved()[-1], run.cpu_seconds()
            run.wait(lambda: "checkpoints cannot be written: No space left" in run.log.read_text())
            run.wait(lambda: "metrics cannot be written: No space left" in run.log.read_text())
            assert run.saved()[-1] == newest
            assert run.refused("--log_seconds", "3").count("in use") == 1
            assert run.cpu_seconds() > worked
        run.wait(lambda: run.saved()[-1] > newest)
        run.wait(lambda: "checkpoints cannot be written: resolved after" in run.log.read_text())
        run.process.terminate()
        assert run.process.wait(timeout=HANGS) == 143
    finally:
        run.end()
    text = run.log.read_text()
    assert "Traceback" not in text
    assert text.count("checkpoints cannot be written") <= 4
    steps = [json.loads(line)["steps"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert not list((run.folder / "checkpoints").glob(".*"))


@pytest.mark.slow
def test_a_film_that_does_not_fit_is_refused_in_one_line_and_leaves_nothing(disk, capfd):
    words = "--env.game pong --preset cpu --core feedforward --final_episodes 0 --actors.envs 2 --learner.batch_size 2"
    folder = disk / "run"
    assert main(["train", *words.split(), "--total_steps", "40", "--run", str(folder)]) == 0
    capfd.readouterr()
    with full(disk):
        assert main(["evaluate", str(folder), "--episodes", "1", "--video", "--json", os.devnull]) == 1
    error = capfd.readouterr().err.splitlines()[-1]  # after what ffmpeg itself says
    assert error.startswith("rfwp evaluate: left out: video: cannot write ")
    assert error.endswith(": No space left on device (in run)")
    assert list((folder / "videos").iterdir()) == []


def test_reports_of_an_outage_become_rarer(monkeypatch):
    now, reports = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    best_effort = BestEffort("it cannot be written", lambda message: reports.append((now[0], message)))

    def fail():
        raise OSError(28, "No space left on device")

    while now[0] < 1000:
        assert not best_effort.attempt(fail)
        now[0] += 1
    waits = [after[0] - before[0] for before, after in pairwise(reports)]
    assert waits == [10, 20, 40, 80, 160, 320]
    assert best_effort.attempt(lambda: None)
    assert "resolved after 1000 failed" in reports[-1][1]


@pytest.fixture
def full_disk(monkeypatch):
    """Checkpoints and batches do not fit, for the first so many attempts; what is tried last is tried once."""

    def install(attempts):
        def fails_first(write):
            left = iter(range(attempts))

            def fail_or_write(self, *words):
                if next(left, None) is not None:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return write(self, *words)

            return fail_or_write

        monkeypatch.setattr(Saver, "LAST_SECONDS", 0.0)
        monkeypatch.setattr(CheckpointStore, "save", fails_first(CheckpointStore.save))
        monkeypatch.setattr(trainer, "write_bytes_whole", fails_first(trainer.write_bytes_whole))

    return install


@pytest.fixture
def after_three_updates(monkeypatch):
    """Does something to every later batch, or instead of learning from it."""

    def install(act):
        learn = Learner.learn

        def act_and_learn(self, batch):
            return learn(self, act(batch) if self.version >= 3 else batch)

        monkeypatch.setattr(Learner, "learn", act_and_learn)

    return install


def test_a_complete_run_waits_for_space_to_save_and_is_evaluated_then(tmp_path, capsys, full_disk):
    full_disk(attempts=3)
    run = tmp_path / "run"
    assert main([*TRAIN, "--final_episodes", "2", "--run", str(run)]) == 0
    assert "checkpoints cannot be written: No space left" in capsys.readouterr().out
    assert CheckpointStore(run / "checkpoints").find("last").manifest.steps >= 320
    assert len(list((run / "eval").iterdir())) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_cannot_save_keeps_the_code_of_the_signal_and_says_what_is_lost(
    tmp_path, capsys, full_disk, after_three_updates, number
):
    def stop(batch):
        os.kill(os.getpid(), number)
        return batch

    full_disk(attempts=10**9)
    after_three_updates(stop)
    assert main([*TRAIN, "--run", str(tmp_path / "run")]) == 128 + number
    shown = capsys.readouterr().out
    assert "checkpoints cannot be written: No space left" in shown
    assert "training from agent step 0 to 256 is lost" in shown
    assert "; not saved." in shown


def test_a_complete_run_that_waits_for_space_can_be_told_to_stop(tmp_path, capsys, full_disk, monkeypatch):
    attempts = iter(range(10**9))

    def fail(store, *words):
        if next(attempts) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    full_disk(attempts=10**9)
    monkeypatch.setattr(CheckpointStore, "save", fail)
    assert main([*TRAIN, "--run", str(tmp_path / "run")]) == 143
    assert "training from agent step 0 to 320 is lost" in capsys.readouterr().out


def test_a_failure_to_save_hides_no_failure_before_it(tmp_path, capsys, full_disk, after_three_updates):
    def fail(batch):
        raise ActorFailure("ValueError: of the game")

    full_disk(attempts=10**9)
    after_three_updates(fail)
    assert main([*TRAIN, "--run", str(tmp_path / "run")]) == 1
    shown = capsys.readouterr()
    assert "ValueError: of the game" in shown.err
    assert "training from agent step 0 to 192 is lost" in shown.out


def test_a_bad_batch_that_cannot_be_kept_hides_no_bad_gradients(tmp_path, capsys, full_disk, after_three_updates):
    full_disk(attempts=10**9)
    after_three_updates(lambda batch: batch._replace(behaviour=batch.behaviour * float("nan")))
    assert main([*TRAIN, "--total_steps", "1_000_000", "--run", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "updates in a row were not finite" in error
    assert "the newest batch cannot be written: No space left on device" in error
