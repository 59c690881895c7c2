"""Signals to real processes at chosen and at random moments: the run goes on, or ends with everything saved."""

import random
import shutil
import signal
from pathlib import Path

import psutil
import pytest
from harness import SMALL, Run
from waiting import HANGS, shared_memory, wait_until_freed

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    yield run
    run.end()


def test_a_stopped_actor_is_replaced_after_the_timeout_and_the_log_says_so(run):
    run.start()
    run.wait(lambda: run.steps() > 0)
    actor = run.actors()[0]
    actor.suspend()
    run.wait(lambda: not actor.is_running())
    run.wait_for_progress()
    run.wait(lambda: "did not answer within 3 s (actors.timeout); it was replaced" in run.log.read_text())


def test_a_main_process_killed_while_it_saves_resumes_every_time_and_loses_no_more_than_an_interval(tmp_path):
    # A checkpoint after every update or two.
    names = shared_memory()
    run = Run(tmp_path / "run", [*SMALL, "--checkpoint.minutes", "0.0001"])
    for _ in range(3):
        run.start()
        try:
            resumed_at = run.steps()
            run.wait(lambda before=resumed_at: bool(run.saved()) and run.steps() > before)
            actors = run.actors()
            run.wait(lambda: any((run.folder / "checkpoints").glob(".step-*")))  # one is being written
        finally:
            run.end()  # SIGKILL
        assert not psutil.wait_procs(actors, timeout=HANGS)[1]
        since_the_checkpoint = [line for line in run.lines() if line["steps"] > run.saved()[-1]]
        assert len(since_the_checkpoint) <= 1
    run.start()
    run.wait_for_progress()
    assert run.log.read_text().count("Resuming at") == 3
    wait_until_freed(names)
    run.process.terminate()
    assert run.process.wait(timeout=HANGS) == 128 + signal.SIGTERM
    assert not list((run.folder / "checkpoints").glob(".*"))


def test_actors_that_hang_die_with_their_parent(run):
    run.start()
    run.wait(lambda: run.steps() > 0)
    actors = run.actors()
    for actor in actors:
        actor.suspend()  # as if in the emulator: they cannot notice that a connection closes
    run.end()
    assert not psutil.wait_procs(actors, timeout=HANGS)[1]


@pytest.mark.parametrize("sync", ["false", "true"])
def test_a_stop_does_not_wait_for_an_actor_that_hangs(tmp_path, sync):
    run = Run(tmp_path / "run", [*SMALL, "--actors.timeout", "600", "--sync", sync])
    try:
        run.start()
        run.wait(lambda: run.steps() > 0)
        actors = run.actors()
        for actor in actors:
            actor.suspend()
        run.wait(lambda: all(actor.status() == psutil.STATUS_STOPPED for actor in actors))
        run.process.terminate()
        assert run.process.wait(timeout=HANGS) == 128 + signal.SIGTERM
        assert run.saved()[-1] >= run.steps()
        assert not psutil.wait_procs(actors, timeout=HANGS)[1]
    finally:
        run.end()


MOMENTS = {
    "imports": lambda run: any("libtorch" in part.path for part in run.main.memory_maps()),
    "folder": lambda run: run.folder.exists(),
    "actors": lambda run: bool(run.actors()),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_stop_during_the_start_is_quiet(run, moment):
    run.start()
    run.wait(lambda: MOMENTS[moment](run))
    run.process.terminate()
    assert run.process.wait(timeout=HANGS) in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert "Traceback" not in run.log.read_text()


def test_a_stop_during_the_evaluation_at_the_end_loses_nothing(tmp_path):
    words = [*SMALL, "--total_steps", "400", "--final_episodes", "10_000_000"]
    run = Run(tmp_path / "run", words)
    try:
        run.start()
        run.wait(lambda: bool(run.saved()) and run.saved()[-1] >= 400 and not run.actors())
        worked = run.cpu_seconds()
        run.wait(lambda: run.cpu_seconds() > worked + 1)  # well into the evaluation
        run.process.terminate()
        assert run.process.wait(timeout=HANGS) == 128 + signal.SIGTERM
        assert "The run is complete and saved; to score it:" in run.log.read_text()
        assert "Traceback" not in run.log.read_text()
    finally:
        run.end()


def test_actors_that_are_killed_are_replaced_and_counted_and_nothing_grows(run):
    chance = random.Random(0)
    run.start()
    run.wait(lambda: run.steps() > 2000)

    def held():
        return run.main.num_fds(), run.main.num_threads(), len(shared_memory())

    def memory():
        """Without what is mapped from files."""
        facts = run.main.memory_info()
        return facts.rss - facts.shared

    def replace_actors(count):
        for _ in range(count):
            restarts = run.lines()[-1]["actor_restarts"]
            chance.choice(run.actors()).kill()
            run.wait(lambda restarts=restarts: run.lines()[-1]["actor_restarts"] > restarts)
            run.wait_for_progress()

    replace_actors(3)
    before, memory_before = held(), memory()
    replace_actors(6)  # more in a minute than a crash loop has
    run.wait(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))  # a checkpoint opens files
    run.wait(lambda: len(run.actors()) == 2)
    assert memory() < memory_before + 10e6


def test_a_closed_terminal_saves_the_run_and_under_nohup_does_nothing(run):
    run.start(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))  # even if the tests run under nohup
    run.wait(lambda: run.steps() > 0)
    for actor in run.actors():
        blocked = int(Path(f"/proc/{actor.pid}/status").read_text().partition("SigBlk:")[2].split()[0], 16)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            assert blocked >> (number - 1) & 1, (actor, number)
    run.process.send_signal(signal.SIGHUP)
    assert run.process.wait(timeout=HANGS) == 128 + signal.SIGHUP
    assert run.saved()[-1] >= run.steps()
    run.start(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    run.wait_for_progress()
    run.process.send_signal(signal.SIGHUP)
    run.wait_for_progress()
    run.wait_for_progress()


def test_files_of_the_user_named_like_standard_modules_are_not_imported(run, tmp_path):
    place = tmp_path / "project"
    place.mkdir()
    for name in ("random", "selectors", "signal", "socket", "struct", "tempfile", "threading", "numpy"):
        (place / f"{name}.py").write_text(f"raise RuntimeError('imported the user's {name}.py')")
    run.start(cwd=place)
    run.wait(lambda: run.steps() > 0)
    assert "imported" not in run.log.read_text()


def test_a_run_folder_that_is_moved_is_followed_and_one_that_is_deleted_ends_the_run(run, tmp_path):
    run.start()
    run.wait(lambda: bool(run.saved()))
    old, run.folder = run.folder, run.folder.rename(tmp_path / "moved")
    newest = run.saved()[-1]
    run.wait(lambda: run.saved()[-1] > newest)
    run.wait_for_progress()
    run.process.terminate()
    assert run.process.wait(timeout=HANGS) == 128 + signal.SIGTERM
    assert f"train --run {run.folder}" in run.log.read_text()
    assert not old.exists()
    run.start()
    run.wait_for_progress()
    run.main.suspend()  # or it may write while the folder is deleted
    shutil.rmtree(run.folder)
    run.main.resume()
    assert run.process.wait(timeout=HANGS) == 2
    assert f"{str(run.folder)!r} was deleted while it was in use" in run.log.read_text()
    assert not run.folder.exists()
