"""How much work acting and learning queue on a GPU, and how often the host waits for it."""

import pytest
import torch
from pretended import counts

from rfwp.agents.actor_learner import ActorLearner
from rfwp.agents.objectives.vtrace import vtrace
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
    [("rdn", "true", 73, 426), ("lstm", "true", 71, 342), ("rdn", "false", 417, 418), ("lstm", "false", 295, 342)],
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


def test_v_trace_does_not_queue_something_for_every_step():
    unroll = torch.ones(4, 50, 2, device="cuda")
    counts.reset()
    vtrace(*unroll, torch.ones(2, device="cuda"))
    assert counts.LAUNCHES.total() <= 50
