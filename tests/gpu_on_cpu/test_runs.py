"""A whole run on the pretended GPU: actors in processes, acting as graphs in a thread beside the learner."""

import json

import pytest

from rfwp.agents import host
from rfwp.agents.actor_learner import ActorLearner
from rfwp.runners.cli import main
from rfwp.runners.settings.options import config_from_words

pytestmark = pytest.mark.gpu

SMALL = (
    "--env delayed_cue --preset toy --device cuda --precision bfloat16 --actors.envs 8 --learner.batch_size 4"
    " --learner.unroll_length 5 --log_seconds 0.5 --final_episodes 0"
).split()


@pytest.mark.parametrize("core", ["rdn", "lstm"])
def test_a_run_is_trained_resumed_and_evaluated_on_a_gpu_and_goes_on_without_one(tmp_path, core):
    run = tmp_path / "run"
    assert main(["train", *SMALL, "--core", core, "--total_steps", "100", "--run", str(run)]) == 0
    assert main(["train", "--run", str(run), "--total_steps", "200"]) == 0
    assert main(["evaluate", str(run), "--device", "cuda", "--episodes", "2", "--json", str(tmp_path / "scores")]) == 0
    assert main(["train", "--run", str(run), "--total_steps", "300", "--device", "cpu"]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["steps"] >= 300
    assert {line["update_skipped"] for line in lines} == {0}


@pytest.mark.parametrize(("device", "processes"), [("cuda", 32), ("cpu", 16)])
def test_each_of_two_groups_has_a_process_for_every_core_where_a_gpu_acts(monkeypatch, device, processes):
    monkeypatch.setattr(host, "cores", lambda: 16)
    words = f"--env delayed_cue --preset toy --core gru --actors.envs 64 --device {device}".split()
    assert ActorLearner(config_from_words(words)).num_processes == processes
