"""How much work acting and learning queue on a GPU, and how often the host waits for it."""

import pytest
from pretended import counts

from rfwp.agents.actor_learner import ActorLearner
from rfwp.runners.settings.options import config_from_words

pytestmark = pytest.mark.gpu

STEPS = 4
PAPER = (
    "--env.game pong --preset paper --device cuda --precision bfloat16 --sync true --actors.envs 4 --actors.groups 1"
    f" --learner.batch_size 4 --learner.unroll_length {STEPS}"
).split()


# The counts are those of PyTorch 2.13. Lower them when there is less to queue.
@pytest.mark.parametrize(
    ("core", "graphs", "act", "learn"),
    [("rdn", "true", 130, 609), ("lstm", "true", 108, 465), ("rdn", "false", 474, 609), ("lstm", "false", 332, 465)],
)
def test_an_unroll_and_an_update_queue_no_more_than_this_and_wait_once_a_step(core, graphs, act, learn):
    system = ActorLearner(config_from_words([*PAPER, "--core", core, "--graphs", graphs]))
    with system.start_actors() as pool:
        collector = system.build_collector(pool)
        system.update(collector.collect().trajectory)  # the first one begins with more
        counts.reset()
        collected = collector.collect()
        assert counts.LAUNCHES.total() <= act
        assert counts.WAITS.total() == STEPS + 1, counts.WAITS  # for actions, and for a check of the unroll
        counts.reset()
        system.update(collected.trajectory)
        assert counts.LAUNCHES.total() <= learn
        assert not counts.WAITS
