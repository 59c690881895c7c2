"""The three terms of the actor-critic loss, each a sum over the T×B agent steps of a batch (IMPALA, section 4.2)."""

import torch.nn.functional as F
from torch import Tensor


def policy_gradient_loss(logits: Tensor, action: Tensor, advantages: Tensor) -> Tensor:
    """-Σ A_t log π(a_t|x_t): logits [T, B, A], action int64 [T, B], advantages [T, B] without gradient."""
    return (action_negative_log_likelihood(logits, action) * advantages).sum()


def baseline_loss(values: Tensor, targets: Tensor) -> Tensor:
    """½ Σ (vs_t - V(x_t))²: values and targets [T, B]."""
    return 0.5 * (targets - values).square().sum()


def entropy_loss(logits: Tensor) -> Tensor:
    """Σ π log π, the negative entropy in nats: logits [T, B, A]."""
    log_policy = F.log_softmax(logits, dim=-1)
    return (log_policy.exp() * log_policy).sum()


def action_negative_log_likelihood(logits: Tensor, action: Tensor) -> Tensor:
    """-log π(a_t|x_t): logits [T, B, A], action int64 [T, B] -> [T, B]."""
    return F.cross_entropy(logits.flatten(0, 1), action.flatten(), reduction="none").view_as(action)
