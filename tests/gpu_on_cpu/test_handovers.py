"""What passes between acting and learning, on separate streams, may be dropped as soon as it has been read.

Reading it before it is there raises; dropping it too soon is found by the fixture of all tests here.
"""

import pytest
import torch
from unrolls import make_agent

from rfwp.agents.actor_learner import ActorLearner
from rfwp.agents.weights import WeightBoard
from rfwp.runners.settings.options import config_from_words

pytestmark = pytest.mark.gpu

SMALL = (
    "--env delayed_cue --preset toy --core gru --device cuda --precision float32 --actors.envs 4 --actors.processes 2"
    " --learner.unroll_length 2 --learner.batch_size 2"
).split()


@pytest.mark.parametrize("graphs", ["true", "false"])
def test_a_trajectory(graphs):
    system = ActorLearner(config_from_words([*SMALL, "--graphs", graphs]))
    with system.start_actors() as pool:
        collector = system.build_collector(pool)
        for _ in range(4):
            trajectory = collector.collect().trajectory
            for tensor in trajectory.tensors:
                tensor + 1
            del trajectory, tensor


def test_weights():
    agent, board, acting = make_agent().to("cuda"), WeightBoard(), torch.cuda.Stream()
    copy, version = agent.acting_copy(), 0
    acting.wait_stream(torch.cuda.current_stream())
    for update in range(1, 4):
        board.publish(agent, update)
        with torch.cuda.stream(acting):
            version = board.update(copy, version)
        assert version == update
    torch.cuda.current_stream().wait_stream(acting)
    for mine, theirs in zip(copy.parameters(), agent.parameters(), strict=True):
        assert torch.equal(mine, theirs)
