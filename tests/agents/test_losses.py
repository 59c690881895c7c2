"""Each loss against a number worked out by hand, and against gradients that theory gives."""

import math

import torch

from rfwp.agents.objectives import vtrace as losses

UNIFORM = torch.zeros(1, 2, 4)  # two games, one step, four actions


def test_policy_gradient_loss_of_a_uniform_policy():
    loss = losses.policy_gradient_loss(UNIFORM, torch.tensor([[0, 3]]), torch.tensor([[2.0, -0.5]]))
    torch.testing.assert_close(loss, torch.tensor((2.0 - 0.5) * math.log(4)))


def test_policy_gradient_is_probability_minus_choice_times_advantage():
    logits = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    action, advantages = torch.randint(5, (3, 2)), torch.randn(3, 2, dtype=torch.float64)
    losses.policy_gradient_loss(logits, action, advantages).backward()
    chosen = torch.nn.functional.one_hot(action, 5).double()
    torch.testing.assert_close(logits.grad, (logits.softmax(-1) - chosen).detach() * advantages[..., None])


def test_baseline_loss_is_half_the_sum_of_squares():
    loss = losses.baseline_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 0.0]]))
    torch.testing.assert_close(loss, torch.tensor(0.5 * (9.0 + 4.0)))


def test_entropy_loss_of_a_uniform_policy_is_minus_its_entropy():
    torch.testing.assert_close(losses.entropy_loss(UNIFORM), torch.tensor(-2 * math.log(4)))


def test_entropy_loss_of_a_certain_policy_is_zero():
    certain = torch.tensor([[[0.0, -1e4]]])
    torch.testing.assert_close(losses.entropy_loss(certain), torch.tensor(0.0))
