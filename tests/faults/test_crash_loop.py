"""Games that fail over and over end the run, with a checkpoint and the cause; now and then they do not."""

import dataclasses

import deadly
import pytest
from pools import play

from rfwp.agents.actor_pool import ActorFailure, ActorPool, ActorsConfig
from rfwp.runners.cli import main
from rfwp.runners.commands import train
from rfwp.runners.runfolder.checkpoint import CheckpointStore
from rfwp.runners.settings.options import CommandLine

TRAIN = (
    "train --env delayed_cue --core lstm --core.hidden_size 8 --encoder.size 8 --final_episodes 0"
    " --learner.batch_size 4 --actors.envs 8 --sync --total_steps 2_000"
).split()


def test_a_crash_loop_ends_the_run_with_a_checkpoint_and_the_traceback_of_the_game(tmp_path, capsys, monkeypatch):
    read = train.read_command_line

    def read_with_a_breaking_game(*words, **layers):
        config, *rest = read(*words, **layers)
        return CommandLine(dataclasses.replace(config, env=deadly.BreakingConfig()), *rest)

    monkeypatch.setattr(train, "read_command_line", read_with_a_breaking_game)
    monkeypatch.setattr(ActorPool, "CRASH_LOOP_SECONDS", 1e9)  # however slow the machine
    run = tmp_path / "run"
    assert main([*TRAIN, "--run", str(run)]) == 1
    shown = capsys.readouterr()
    assert "5 actors failed in quick succession; the last one: RuntimeError: the game broke" in shown.err
    assert "Traceback" in shown.err
    assert "deadly.py" in shown.err
    assert "it was replaced" in shown.out
    assert CheckpointStore(run / "checkpoints").find("last").manifest.steps > 0


@pytest.mark.parametrize("seconds", [1e9, 0.0])
def test_only_crashes_within_the_window_are_a_loop(monkeypatch, seconds):
    monkeypatch.setattr(ActorPool, "CRASH_LOOP", 2)
    monkeypatch.setattr(ActorPool, "CRASH_LOOP_SECONDS", seconds)
    config = ActorsConfig(envs=1, processes=1, groups=1)
    with ActorPool(config, deadly.BreakingConfig(), 1, seed=(0,)) as pool:
        if seconds:
            with pytest.raises(ActorFailure, match="2 actors failed in quick succession"):
                play(pool, 100)
            assert pool.restarts == 1
        else:
            play(pool, 100)
            assert pool.restarts == 2
