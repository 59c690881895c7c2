"""The V-trace objective: what a batch teaches."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from unrolls import ACTIONS, FIELDS, GAMES, LENGTH, make_agent, random_batch

from rfwp.agents.objectives import vtrace
from rfwp.agents.trajectory import Trajectory, concatenate
from rfwp.models.actor_critic import ActorCritic, AgentOutput
from rfwp.models.cores import lstm
from rfwp.models.observation_encoder import ObservationEncoder, Vector
from rfwp.models.value_head import ValueHead

OBJECTIVE = vtrace.Config()


def test_the_loss_is_a_sum_so_twice_the_games_is_twice_the_gradient():
    agent = make_agent()
    once = random_batch(agent)
    twice = concatenate([once, once])
    gradients = []
    for batch in (once, twice):
        loss, _, _ = OBJECTIVE.loss(agent, batch, version=0)
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(agent.parameters()))]))
    torch.testing.assert_close(gradients[1], 2 * gradients[0])


def parted(whole: Trajectory, stop: int, start: int, agent: ActorCritic) -> tuple[Trajectory, Trajectory]:
    """Return the unroll up to observation `stop`, and that from observation `start` on, with a fresh state."""
    steps = whole.action, whole.truncated, whole.behaviour, whole.version
    head = whole.inputs.map(lambda field: field[: stop + 1]), (each[:stop] for each in steps)
    tail = whole.inputs.map(lambda field: field[start:]), (each[start:] for each in steps)
    return Trajectory(*head[0], *head[1], whole.state), Trajectory(*tail[0], *tail[1], agent.initial_state(GAMES))


def test_two_episodes_in_one_unroll_teach_what_two_unrolls_teach():
    agent = make_agent()
    whole = random_batch(agent, length=8)
    first = torch.zeros_like(whole.first)
    first[3] = True  # observation 3 opens a second episode in every row
    whole = whole._replace(first=first)
    head, tail = parted(whole, 3, 3, agent)
    parts = [OBJECTIVE.loss(agent, part, version=0)[0] for part in (head, tail)]
    torch.testing.assert_close(OBJECTIVE.loss(agent, whole, version=0)[0], sum(parts))


def test_a_truncated_episode_teaches_what_an_unroll_teaches_that_ends_with_its_last_observation():
    agent = make_agent()
    whole = random_batch(agent, length=8)
    first, truncated = torch.zeros_like(whole.first), torch.zeros_like(whole.truncated)
    truncated[3], first[4] = True, True
    whole = whole._replace(first=first, truncated=truncated)
    head, tail = parted(whole, 3, 4, agent)
    parts = [OBJECTIVE.loss(agent, part, version=0) for part in (head, tail)]
    loss, metrics, _ = OBJECTIVE.loss(agent, whole, version=0)
    torch.testing.assert_close(loss, sum(part.value for part in parts))
    for name in ("entropy", "importance_weight_mean", "importance_weight_clipped"):  # 3 and 4 steps were acted in
        torch.testing.assert_close(metrics[name], (3 * parts[0].metrics[name] + 4 * parts[1].metrics[name]) / 7)


@pytest.mark.parametrize("ended", [False, True])
def test_the_value_of_the_last_observation_counts_unless_it_is_of_another_episode(ended):
    agent = make_agent()
    batch = random_batch(agent)
    batch.first[-1] = ended
    pixels, *rest = batch.observation
    other = batch._replace(observation=(torch.cat([pixels[:-1], 255 - pixels[-1:]]), *rest))
    losses = [OBJECTIVE.loss(agent, each, version=0)[0] for each in (batch, other)]
    assert torch.equal(*losses) == ended


class Given(nn.Module):
    """Returns the same logits and values, whatever it sees."""

    def __init__(self, logits: Tensor, value: Tensor, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.logits, self.values, self.action_sizes = nn.Parameter(logits), value, sizes
        self.value = ValueHead(1)

    reward_scale = 1.0

    def forward(self, inputs, state):
        return AgentOutput(self.logits, self.values), state


def test_two_choices_teach_what_one_choice_among_all_pairs_teaches():
    def pairs(logits):  # log π of every pair, from those of both choices
        one, other = (each.log_softmax(-1) for each in logits.split(ACTIONS, -1))
        return (one[..., :, None] + other[..., None, :]).flatten(-2)

    batch = random_batch(make_agent())
    logits, value = torch.randn(LENGTH + 1, GAMES, sum(ACTIONS)), torch.randn(LENGTH + 1, GAMES)
    joint = batch._replace(
        action=ACTIONS[1] * batch.action[..., :1] + batch.action[..., 1:], behaviour=pairs(batch.behaviour)
    )
    loss, metrics, _ = OBJECTIVE.loss(Given(logits, value, ACTIONS), batch, version=0)
    joint_loss, joint_metrics, _ = OBJECTIVE.loss(Given(pairs(logits), value, (6,)), joint, version=0)
    torch.testing.assert_close(loss, joint_loss)
    torch.testing.assert_close(metrics, joint_metrics)


def test_of_a_single_target_no_variance_is_explained():
    agent = make_agent()
    whole, one = random_batch(agent), random_batch(agent, length=1).columns(0, 1)
    shares = [OBJECTIVE.loss(agent, batch, version=0)[1]["value_explained_variance"] for batch in (whole, one)]
    assert [bool(share.isfinite()) for share in shares] == [True, False]


def test_rewards_are_clipped_in_the_learner():
    agent = make_agent()
    batch = random_batch(agent)
    clipped = batch._replace(reward=batch.reward.clamp(-1, 1))
    losses = [OBJECTIVE.loss(agent, each, version=0)[0] for each in (batch, clipped)]
    assert torch.equal(*losses)


def test_a_scale_of_rewards_is_the_same_as_other_rewards():
    agent = make_agent()
    batch = random_batch(agent)
    scaled = batch._replace(reward=0.25 * batch.reward)
    agent.reward_scale = 0.25
    loss, _, _ = OBJECTIVE.loss(agent, batch, version=0)
    agent.reward_scale = 1.0
    assert torch.equal(loss, OBJECTIVE.loss(agent, scaled, version=0)[0])
    assert not torch.equal(loss, OBJECTIVE.loss(agent, batch, version=0)[0])


def test_with_normalised_values_the_scale_of_rewards_does_not_matter():
    """All rewards are so large that the core, which reads them clamped, sees the same whatever their scale."""
    gradients, loss_of = [], replace(OBJECTIVE, reward_clip=1e9)
    for scale in (1.0, 1000.0):
        torch.manual_seed(0)
        encoder = ObservationEncoder([Vector(2, 8)], 8)
        agent = ActorCritic(encoder, lstm.Config(hidden_size=8), ACTIONS, normalises_values=True)
        batch = random_batch(agent, fields=FIELDS[1:2])
        batch = batch._replace(reward=scale * torch.sign(batch.reward) * (1 + batch.reward.abs()))
        agent.value.adapt(torch.tensor(-3.0 * scale), torch.tensor(2.0 * scale))
        loss, _, _ = loss_of.loss(agent, batch, version=0)
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(agent.parameters()))]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_the_policy_lag_is_the_age_of_the_policy_in_updates():
    agent = make_agent()
    batch = random_batch(agent)._replace(version=torch.full((LENGTH, GAMES), 3))
    _, metrics, _ = OBJECTIVE.loss(agent, batch, version=8)
    assert metrics["policy_lag"] == 5
