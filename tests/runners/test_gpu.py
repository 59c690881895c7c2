"""A whole run on a GPU: trained, stopped, resumed and evaluated there."""

import json

import pytest
import torch

from rfwp.agents.actor_learner import ActorLearner
from rfwp.runners.bench.workloads import synthetic_batch
from rfwp.runners.cli import main
from rfwp.runners.settings.options import config_from_words
from rfwp.runners.training.memory_estimate import check_agent_sizes

pytestmark = pytest.mark.gpu

PONG = (
    "--env.game pong --preset paper --device cuda --actors.envs 8 --learner.batch_size 4 --log_seconds 0.5"
    " --final_episodes 0"
).split()


@pytest.mark.parametrize("core", ["rdn", "lstm", "srwm"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_is_trained_resumed_and_evaluated_on_a_gpu(tmp_path, core, precision):
    run = tmp_path / "run"
    assert (
        main(["train", *PONG, "--core", core, "--precision", precision, "--total_steps", "4000", "--run", str(run)])
        == 0
    )
    assert main(["train", "--run", str(run), "--total_steps", "8000"]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["steps"] >= 8000
    assert lines[-1]["update_skipped"] == 0
    assert lines[-1]["gpu_memory_megabytes"] > 0
    assert main(["evaluate", str(run), "--episodes", "2", "--json", str(tmp_path / "scores.json")]) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["episodes"] == 2


def test_a_run_begun_on_a_gpu_goes_on_without_one(tmp_path):
    run = tmp_path / "run"
    assert main(["train", *PONG, "--core", "rdn", "--total_steps", "2000", "--run", str(run)]) == 0
    assert main(["train", "--run", str(run), "--total_steps", "2400", "--device", "cpu"]) == 0


def test_what_needs_memory_is_learned_on_a_gpu(tmp_path):
    words = "--env delayed_cue --env.delay 2 --core rdn --total_steps 30_000 --final_episodes 0 --device cuda"
    assert main(["train", *words.split(), "--run", str(tmp_path / "run")]) == 0
    *_, last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(last)["return_mean"] > 0.8  # chance is 1/4


def test_the_predicted_memory_is_about_what_training_takes(tmp_path):
    config = config_from_words("--preset paper --device cuda --core rdn".split())
    system = ActorLearner(config)
    expected = check_agent_sizes(config, system.agent, system.num_processes, system.device)
    torch.cuda.reset_peak_memory_stats()
    batch = synthetic_batch(system)
    for _ in range(3):
        system.update(batch)
    assert expected / 2 < torch.cuda.max_memory_allocated() < 2 * expected
