"""Signals to real processes at random moments: the run goes on, or ends in time with everything saved."""

import random
import signal
import time

import psutil
import pytest
from harness import SMALL, Run, shared_memory

pytestmark = pytest.mark.slow


QUICK = 60  # seconds; a stop takes four, where nothing else runs


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    yield run
    run.end()


def test_actors_killed_every_moment_are_replaced_and_counted(run):
    chance, kills = random.Random(0), 8  # more in a minute than a crash loop has
    run.start()
    run.wait(lambda: run.steps() > 0)
    for _ in range(kills):
        time.sleep(chance.uniform(0, 1))
        restarts = run.lines()[-1]["actor_restarts"]
        chance.choice(run.actors()).kill()
        run.wait(lambda restarts=restarts: run.lines()[-1]["actor_restarts"] > restarts)
        run.wait_for_progress()


def test_a_stopped_actor_is_replaced_after_the_timeout_and_the_log_says_so(run):
    run.start()
    run.wait(lambda: run.steps() > 0)
    actor = run.actors()[0]
    actor.suspend()
    run.wait(lambda: not actor.is_running())
    run.wait_for_progress()
    run.wait(lambda: "gave no answer within 3 s (actors.timeout); it was replaced" in run.log.read_text())


def test_a_main_process_killed_while_it_saves_resumes_every_time_and_loses_no_more_than_an_interval(tmp_path):
    # A checkpoint after every update or two: most kills hit one that is being written.
    chance, names = random.Random(1), shared_memory()
    run = Run(tmp_path / "run", [*SMALL, "--checkpoint.minutes", "0.0001"])
    for _ in range(6):
        run.start()
        try:
            resumed_at = run.steps()
            run.wait(lambda before=resumed_at: bool(run.saved()) and run.steps() > before)
            time.sleep(chance.uniform(0, 1))
            actors = run.actors()
        finally:
            run.end()  # SIGKILL
        assert not psutil.wait_procs(actors, timeout=30)[1]
        since_the_checkpoint = [line for line in run.lines() if line["agent_steps"] > run.saved()[-1]]
        assert len(since_the_checkpoint) <= 1
    run.start()
    run.wait_for_progress()
    assert run.log.read_text().count("Resuming at") == 6
    assert shared_memory() <= names
    run.process.terminate()
    assert run.process.wait(timeout=QUICK) == 128 + signal.SIGTERM
    assert not list((run.folder / "checkpoints").glob(".*"))


def test_actors_that_hang_die_with_their_parent(run):
    run.start()
    run.wait(lambda: run.steps() > 0)
    actors = run.actors()
    for actor in actors:
        actor.suspend()  # as if in the emulator: they cannot notice that a connection closes
    run.end()
    assert not psutil.wait_procs(actors, timeout=30)[1]


@pytest.mark.parametrize("sync", ["false", "true"])
def test_a_stop_does_not_wait_for_an_actor_that_hangs(tmp_path, sync):
    run = Run(tmp_path / "run", [*SMALL, "--actors.timeout", "600", "--sync", sync])
    try:
        run.start()
        run.wait(lambda: run.steps() > 0)
        actors = run.actors()
        for actor in actors:
            actor.suspend()
        time.sleep(0.5)
        run.process.terminate()
        assert run.process.wait(timeout=QUICK) == 128 + signal.SIGTERM
        assert run.saved()[-1] >= run.steps()
        assert not psutil.wait_procs(actors, timeout=30)[1]
    finally:
        run.end()


@pytest.mark.parametrize("seconds", [0.3, 2.0, 4.0])
def test_a_stop_during_the_start_is_quick_and_quiet(run, seconds):
    run.start()
    time.sleep(seconds)
    run.process.terminate()
    assert run.process.wait(timeout=QUICK) in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert "Traceback" not in run.log.read_text()


def test_a_stop_during_the_evaluation_at_the_end_is_quick_and_loses_nothing(tmp_path):
    words = [*SMALL, "--total_steps", "400", "--final_games", "10_000_000"]
    run = Run(tmp_path / "run", words)
    try:
        run.start()
        run.wait(lambda: bool(run.saved()) and run.saved()[-1] >= 400 and not run.actors())
        time.sleep(1)
        run.process.terminate()
        assert run.process.wait(timeout=QUICK) == 128 + signal.SIGTERM
        assert "The run is complete and saved; to score it:" in run.log.read_text()
        assert "Traceback" not in run.log.read_text()
    finally:
        run.end()


def test_nothing_grows_while_actors_come_and_go(run):
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
            run.actors()[0].kill()
            run.wait(lambda restarts=restarts: run.lines()[-1]["actor_restarts"] > restarts)
            run.wait_for_progress()

    replace_actors(3)
    before, memory_before = held(), memory()
    replace_actors(6)
    run.wait(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))  # a checkpoint opens files
    run.wait(lambda: len(run.actors()) == 2)
    assert memory() < memory_before + 10e6
