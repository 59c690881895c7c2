"""V-trace against numbers worked out by hand and against the definition written as a double loop."""

import math

import pytest
import torch

from rfwp.agents.objectives.vtrace import vtrace


def by_definition(log_rhos, discounts, rewards, values, bootstrap, lambda_, clip_rho, clip_c):
    """Equation 1 of the paper as it reads: a sum over k of products over i, game by game."""
    length, batch = values.shape
    rho, c = log_rhos.exp().clamp(max=clip_rho), lambda_ * log_rhos.exp().clamp(max=clip_c)
    following = torch.cat([values[1:], bootstrap[None]])
    vs = values.clone()
    for b in range(batch):
        for s in range(length):
            for t in range(s, length):
                weight = 1.0
                for i in range(s, t):
                    weight *= discounts[i, b].item() * c[i, b].item()
                vs[s, b] += weight * rho[t, b] * (rewards[t, b] + discounts[t, b] * following[t, b] - values[t, b])
    return vs


def random_unroll(length=7, batch=5, done_share=0.2):
    rewards, values = torch.randn(2, length, batch, dtype=torch.float64)
    discounts = 0.9 * (torch.rand(length, batch) >= done_share).double()
    return torch.randn(length, batch, dtype=torch.float64), discounts, rewards, values, torch.randn(batch).double()


def test_two_steps_worked_out_by_hand():
    # ρ = (2, 1/2), clipped to (1, 1/2); γ = 0.5.
    # δ1 = 0.5 (3 + 0.5·8 - 4) = 1.5,  vs1 = 4 + 1.5 = 5.5
    # δ0 = 1 (1 + 0.5·4 - 2) = 1,      vs0 = 2 + 1 + 0.5·1·1.5 = 3.75
    # A1 = 0.5 (3 + 0.5·8 - 4) = 1.5,  A0 = 1 (1 + 0.5·5.5 - 2) = 1.75
    column = lambda *numbers: torch.tensor(numbers)[:, None]  # noqa: E731
    targets = vtrace(
        column(math.log(2.0), math.log(0.5)), column(0.5, 0.5), column(1.0, 3.0), column(2.0, 4.0), torch.tensor([8.0])
    )
    torch.testing.assert_close(targets.vs, column(3.75, 5.5))
    torch.testing.assert_close(targets.advantages, column(1.75, 1.5))


@pytest.mark.parametrize(("lambda_", "clip_rho", "clip_c"), [(1.0, 1.0, 1.0), (0.9, 2.0, 1.5), (1.0, 0.7, 0.3)])
def test_equals_the_definition(lambda_, clip_rho, clip_c):
    unroll = random_unroll()
    targets = vtrace(*unroll, lambda_=lambda_, clip_rho=clip_rho, clip_c=clip_c)
    torch.testing.assert_close(targets.vs, by_definition(*unroll, lambda_, clip_rho, clip_c))


def test_on_policy_it_is_the_discounted_return():
    _, discounts, rewards, values, bootstrap = random_unroll(done_share=0.0)
    targets = vtrace(torch.zeros_like(rewards), discounts, rewards, values, bootstrap)
    returns = bootstrap
    for t in reversed(range(len(rewards))):
        returns = rewards[t] + discounts[t] * returns
        torch.testing.assert_close(targets.vs[t], returns)


def test_two_episodes_in_one_unroll_equal_two_unrolls():
    log_rhos, discounts, rewards, values, bootstrap = random_unroll(length=9, done_share=0.0)
    discounts[3] = 0.0  # the fourth step ends the first episode
    whole = vtrace(log_rhos, discounts, rewards, values, bootstrap)
    anything = torch.full_like(bootstrap, 1e6)
    first = vtrace(log_rhos[:4], discounts[:4], rewards[:4], values[:4], anything)
    second = vtrace(log_rhos[4:], discounts[4:], rewards[4:], values[4:], bootstrap)
    for ours, one, two in zip(whole, first, second, strict=True):
        torch.testing.assert_close(ours, torch.cat([one, two]))


def test_no_gradient_flows_into_targets():
    log_rhos, discounts, rewards, values, bootstrap = random_unroll()
    targets = vtrace(log_rhos, discounts, rewards, values.requires_grad_(), bootstrap)
    assert not targets.vs.requires_grad
    assert not targets.advantages.requires_grad
