"""The learner never sees a row of the slab that was not wholly written, wherever in it an actor is killed."""

import deadly
import pytest
import torch

from rfwp.agents.actor_pool import ActorPool, ActorsConfig
from rfwp.agents.collector import Collector
from rfwp.agents.config import ActorLearnerConfig
from rfwp.agents.weights import WeightBoard
from rfwp.models.cores import feedforward
from rfwp.models.encoders import flat

POISON, POISONED_PIXEL = -12345, 77  # neither of which the task ever gives


class PoisonedCollector(Collector):
    """Poisons the slab of a group after each reading, before its actors write the next row into it."""

    def _observe(self, group):
        super()._observe(group)
        slab = self.pool.slabs[group]
        slab.observation[0][...], slab.reward[:], slab.episode_length[:] = POISONED_PIXEL, POISON, POISON
        slab.first[:] = slab.episode_over[:] = True  # a game that ends is looked at


@pytest.mark.slow
def test_no_row_that_was_not_wholly_written_reaches_the_learner():
    config, env = ActorsConfig(envs=8, processes=4, groups=2), deadly.Config(delay=1)
    torch.manual_seed(0)
    agent = ActorLearnerConfig(env=env, encoder=flat.Config(4), core=feedforward.Config()).build_agent("cpu")
    weights = WeightBoard()
    weights.publish(agent, 0)
    with ActorPool(config, env, 4, seed=(0,)) as pool:
        collector = PoisonedCollector(agent, pool, 5, weights, torch.Generator().manual_seed(0))
        episodes = []
        while pool.restarts < 12:
            collected = collector.collect()
            trajectory, episodes = collected.trajectory, [*episodes, *collected.episodes]
            assert not (trajectory.reward == POISON).any()
            assert not (trajectory.observation[0] == POISONED_PIXEL).any()
    assert episodes
    assert all(episode.length == 3 for episode in episodes)
