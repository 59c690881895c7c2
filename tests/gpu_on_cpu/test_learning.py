"""Updates on the pretended GPU: the weights move as they do on the CPU, and the host never waits."""

import pytest
import torch
from every_core import make_config
from pretended import counts
from torch.utils._pytree import tree_map
from unrolls import GAMES, LENGTH, SCREENS, agent_of, random_batch

from rfwp.agents.learner import Learner, LearnerConfig
from rfwp.agents.objectives import vtrace
from rfwp.agents.trajectory import Trajectory
from rfwp.models.encoders import impala
from rfwp.runners.settings import components

pytestmark = pytest.mark.gpu

SMALL = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "feedforward_size": 32}


def learner_of(core: str, device: str) -> Learner:
    torch.manual_seed(0)
    agent = agent_of(impala.Config(size=16), make_config(core, SMALL), SCREENS).to(device)
    return Learner(agent, vtrace.Config(), LearnerConfig(unroll_length=LENGTH, batch_size=GAMES), total_steps=10**6)


@pytest.mark.parametrize("core", components.names("core"))
def test_every_core_learns_as_on_the_cpu(core):
    ours, theirs = learner_of(core, "cuda"), learner_of(core, "cpu")
    for seed in range(3):
        batch: Trajectory = random_batch(theirs.model, seed, fields=SCREENS)
        if seed == 1:  # an update that is skipped
            batch = batch._replace(reward=torch.full_like(batch.reward, torch.inf))
        on_gpu = tree_map(lambda tensor: tensor.to("cuda"), batch)
        counts.reset()
        metrics = ours.learn(on_gpu)
        assert not counts.WAITS
        for name, value in theirs.learn(batch).items():
            torch.testing.assert_close(metrics[name].cpu(), value, rtol=1e-4, atol=1e-4, equal_nan=True, msg=name)
    for mine, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert mine.device.type == "cuda"
        torch.testing.assert_close(mine.cpu(), other, rtol=1e-4, atol=5e-5)
