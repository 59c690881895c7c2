"""Advice on rewards that the learner cannot see. The updates are made up."""

import math

import pytest
import torch

from rfwp.agents.actor_learner import Update
from rfwp.agents.trajectory import Trajectory
from rfwp.runners.settings.config import agent_config
from rfwp.runners.settings.options import config_from_words
from rfwp.runners.training.advice import Advice


def config_of(*words):
    return agent_config(config_from_words(["--core", "gru", "--total_steps", "100000", *words]))


def updates(config, rewards, entropy):
    """Every fiftieth update of a run whose batches pay these rewards."""
    for version in range(50, 100_000 // 320, 50):
        batch = Trajectory.empty(20, 16, config.env.spec(), (), "cpu")
        batch.reward.copy_(torch.tensor(rewards).repeat(16 // len(rewards) + 1)[:16])
        yield Update(version, 320 * version, {"entropy": torch.tensor(entropy)}, batch, (), ())


@pytest.mark.parametrize(
    ("words", "rewards", "share"),
    [
        ("--env recall", [-16.0, 1.0, 3.0, -2.0], 3 / 4),
        ("--env recall --reward_scale 20", [0.1] * 3 + [0.01], 3 / 4),
        ("--env recall", [1.0, -1.0, 0.5], None),
        ("--env recall --objective.reward_clip 20", [-16.0, 3.0], None),
        ("--env.game breakout", [7.0, 4.0], None),
    ],
)
def test_a_clip_that_hides_most_rewards_is_named_once_except_where_it_belongs_to_the_protocol(words, rewards, share):
    config = config_of(*words.split())
    advice = Advice(config)
    told = [said for update in updates(config, rewards, entropy=0.5) if (said := advice.look(update))]
    assert len(told) == (share is not None)
    if share is not None:
        assert told[0].startswith(f"{share:.0%} of the rewards are beyond objective.reward_clip 1")


@pytest.mark.parametrize(
    ("words", "distance", "told"),
    [
        ("--env recall", 0.0, "largest of an update is 0.02"),
        ("--env recall --normalise_values", 0.0, "it may need more steps"),
        ("--env recall", 0.05, None),
    ],
)
def test_a_policy_that_stays_uniform_is_named_once(words, distance, told):
    config = config_of(*words.split())
    most = math.log(config.env.spec().action_sizes[0])
    advice, looks = Advice(config), updates(config, [0.02], most * (1 - distance))
    said = [(update.agent_steps, words) for update in looks if (words := advice.look(update))]
    assert len(said) == (told is not None)
    if told:
        assert said[0][0] == 16_000  # the first look after a tenth of the run
        assert told in said[0][1]
