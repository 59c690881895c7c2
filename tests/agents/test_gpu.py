"""Acting and learning at the same time on a GPU, on separate streams, and acting as a graph."""

import pytest
import torch

from rfwp.agents.actor_learner import ActorLearner
from rfwp.agents.actor_pool import ActorsConfig
from rfwp.agents.config import ActorLearnerConfig
from rfwp.agents.learner import LearnerConfig
from rfwp.agents.policy import GraphedPolicy, Policy, build_policy
from rfwp.agents.weights import WeightBoard
from rfwp.envs.worlds import atari
from rfwp.models.actor_critic import ActorCritic, AgentInput
from rfwp.models.cores import lstm, rdn, srwm, transformer
from rfwp.models.encoders import flat, impala
from rfwp.models.observation_encoder import ObservationEncoder

pytestmark = pytest.mark.gpu

SPEC = atari.Config("pong").spec()
SHAPE = SPEC.observation[0].shape


def encoder_of(config, precision=torch.float32) -> ObservationEncoder:
    return ObservationEncoder([config.build(SHAPE)], config.size, precision)


@pytest.fixture(autouse=True)
def exact(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("graphs", [True, False])
def test_the_learner_reads_what_acting_wrote_while_both_go_on(graphs) -> None:
    config = ActorLearnerConfig(
        env=atari.Config("pong"),
        encoder=impala.Config(),
        core=rdn.Config(),
        learner=LearnerConfig(unroll_length=10, batch_size=32, learning_rate=1e-30),  # the weights stay as they are
        actors=ActorsConfig(envs=32, processes=8),
        total_steps=16_000,
        device="cuda",
        precision="float32",
        graphs=graphs,
    )
    system, updates = ActorLearner(config), 0
    with torch.no_grad():
        system.agent.policy.weight.mul_(100)  # so that the logits tell every frame from every other
    with system:
        for update in system:
            batch = update.batch
            with torch.no_grad():
                output, _ = system.agent(batch.inputs, batch.state)
            torch.testing.assert_close(output.logits[:-1], batch.behaviour, rtol=1e-3, atol=1e-3)
            updates += 1
    assert updates == 50


@torch.no_grad()
def test_weights_arrive_whole_in_a_copy_of_another_precision() -> None:
    torch.manual_seed(1)
    agent = ActorCritic(encoder_of(flat.Config(), torch.bfloat16), lstm.Config(), (6,)).to("cuda")
    acting, board = agent.acting_copy(), WeightBoard()
    for weight in agent.parameters():
        weight.normal_()
    board.publish(agent, 1)
    assert board.update(acting, 0) == 1
    for mine, theirs in zip(acting.parameters(), agent.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.to(mine.dtype), rtol=0, atol=0)


def build(core, graphs: bool) -> Policy:
    torch.manual_seed(1)
    agent = ActorCritic(encoder_of(impala.Config()), core, (6,), reads_last_action=True).to("cuda").eval()
    with torch.no_grad():
        return build_policy(agent, 8, torch.Generator("cuda").manual_seed(2), SPEC, graphs)


@torch.no_grad()
def act(policy: Policy) -> list[torch.Tensor]:
    """Take 20 steps -> all actions, logits and states."""
    torch.manual_seed(0)
    results = []
    for _ in range(20):
        arrivals = AgentInput(
            (torch.randint(256, (8, *SHAPE), dtype=torch.uint8, device="cuda"),),
            torch.randint(6, (8, 1), device="cuda"),
            torch.randn(8, device="cuda"),
            torch.rand(8, device="cuda") < 0.1,
        )
        results += [each.clone() for each in (*policy.act(arrivals), *policy.state)]
    return results


@pytest.mark.parametrize("core", [rdn.Config(), lstm.Config(), transformer.Config(), srwm.Config()])
def test_a_graph_of_acting_draws_what_its_operators_draw(core) -> None:
    graphed, eager = build(core, graphs=True), build(core, graphs=False)
    assert isinstance(graphed, GraphedPolicy)
    for given, wanted in zip(act(graphed), act(eager), strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)


class Waiting(torch.nn.Module):
    """Makes the host wait in every step of a core."""

    def __init__(self, core) -> None:
        super().__init__()
        self.core, self.output_size, self.initial_state = core, core.output_size, core.initial_state

    def forward(self, x, state, first):
        return self.core(x * float(x.isfinite().all()), state, first)


def test_an_agent_that_a_graph_cannot_hold_acts_without_one() -> None:
    eager, other = build(lstm.Config(), graphs=False), build(lstm.Config(), graphs=False)
    other.agent.core = Waiting(other.agent.core)
    with pytest.warns(UserWarning, match="not replayed as a CUDA graph"):
        policy = build_policy(other.agent, 8, other.generator, SPEC, graphs=True)
    assert not isinstance(policy, GraphedPolicy)
    other.generator.manual_seed(2)
    for given, wanted in zip(act(policy), act(eager), strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)
