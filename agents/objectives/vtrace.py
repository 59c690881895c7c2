"""V-trace actor-critic: policy gradient, value and entropy with off-policy corrected targets.

Espeholt et al. 2018 (IMPALA): section 4.1 for the targets, 4.2 for the three terms of the loss.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from rfwp.agents.learner import Loss, Objective
from rfwp.agents.metrics import Metric
from rfwp.agents.trajectory import Trajectory
from rfwp.checks import check
from rfwp.models import factored
from rfwp.models.actor_critic import ActorCritic


@dataclass(frozen=True)
class Config(Objective[ActorCritic, Trajectory]):
    """The V-trace actor-critic loss. The defaults are the published hyperparameters."""

    discount: float = 0.99
    """Discount factor γ per agent step."""
    baseline_cost: float = 0.5
    """Weight of ½Σ(vs - V)² in the loss."""
    entropy_cost: float = 0.01
    """Weight of Σ π log π in the loss."""
    reward_clip: float = 1.0
    """Rewards, after scaling, are clamped to [-reward_clip, reward_clip] in the loss; reported returns are not."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        "total_loss": Metric("loss", "the weighted sum of the three losses, per agent step"),
        "policy_loss": Metric("loss", "policy-gradient loss per agent step"),
        "baseline_loss": Metric("loss", "half the squared error of the value, per agent step"),
        "entropy": Metric("loss", "entropy of the policy, nats"),
        "value_mean": Metric("value", "mean predicted value"),
        "target_mean": Metric("value", "mean of the value targets vs"),
        "target_deviation": Metric("value", "standard deviation of the value targets vs"),
        "value_explained_variance": Metric(
            "value", "1 - Var(vs - V) / Var(vs): 1 is perfect, 0 no better than a constant"
        ),
        "importance_weight_mean": Metric("off_policy", "mean of target over behaviour probability"),
        "importance_weight_clipped": Metric(
            "off_policy", "share of steps whose importance weight is above 1 and clipped"
        ),
        "policy_lag": Metric("off_policy", "age of the policy that acted, in learner updates"),
    }

    def __post_init__(self) -> None:
        check(0 <= self.discount <= 1, "discount", self.discount, "a number from 0 to 1")
        for field in ("baseline_cost", "entropy_cost"):
            check(0 <= getattr(self, field) < math.inf, field, getattr(self, field), "a number of at least 0")
        check(0 < self.reward_clip < math.inf, "reward_clip", self.reward_clip, "a number above 0")

    def loss(self, model: ActorCritic, batch: Trajectory, version: int) -> Loss:
        """Return the loss, summed over the agent steps of a batch, and its metrics."""
        output, state = model(batch.inputs, batch.state)
        logits, values = output.logits[:-1], output.value[:-1]
        # The reward for the action at t arrives with observation t + 1, as does the flag that it ended the episode.
        rewards = (model.reward_scale * batch.reward[1:]).clamp(-self.reward_clip, self.reward_clip)
        discounts = self.discount * (~batch.first[1:]).float()
        sizes = model.action_sizes
        behaviour_nll = factored.negative_log_likelihood(batch.behaviour, batch.action, sizes)
        nll = factored.negative_log_likelihood(logits, batch.action, sizes)  # [T, B]
        # At the last observation of a truncated episode, the action did nothing. Only the value counts, as bootstrap of
        # the steps before: an importance weight of 0 makes it its own target.
        log_rhos = (behaviour_nll - nll.detach()).masked_fill(batch.truncated, -math.inf)
        targets = vtrace(log_rhos, discounts, rewards, values.detach(), output.value[-1].detach())

        scale = model.value.scale
        policy = policy_gradient_loss(nll, targets.advantages / scale)
        baseline = baseline_loss(values / scale, targets.vs / scale)
        negative_entropy = (factored.negative_entropy(logits, sizes) * ~batch.truncated).sum()
        loss = policy + self.baseline_cost * baseline + self.entropy_cost * negative_entropy

        steps, rhos, errors = (~batch.truncated).sum(), log_rhos.exp(), targets.vs - values.detach()
        unexplained = errors.var(correction=0) / targets.vs.var(correction=0)  # not finite if all targets are equal
        metrics = {
            "total_loss": loss.detach() / steps,
            "policy_loss": policy.detach() / steps,
            "baseline_loss": baseline.detach() / steps,
            "entropy": -negative_entropy.detach() / steps,
            "value_mean": values.detach().mean(),
            "target_mean": targets.vs.mean(),
            "target_deviation": targets.vs.std(correction=0),
            "value_explained_variance": 1 - unexplained,
            "importance_weight_mean": rhos.sum() / steps,
            "importance_weight_clipped": (rhos > 1 + 1e-3).sum() / steps,  # beyond rounding
            "policy_lag": version - batch.version.float().mean(),
        }
        return Loss(loss, metrics, state)


def policy_gradient_loss(negative_log_likelihood: Tensor, advantages: Tensor) -> Tensor:
    """Return -Σ A_t log π(a_t|x_t): -log π(a_t|x_t) and advantages [T, B], the latter without gradient."""
    return (negative_log_likelihood * advantages).sum()


def baseline_loss(values: Tensor, targets: Tensor) -> Tensor:
    """Return ½ Σ (vs_t - V(x_t))²: values and targets [T, B]."""
    return 0.5 * (targets - values).square().sum()


class VTrace(NamedTuple):
    """V-trace targets of one unroll, without gradient."""

    vs: Tensor  # [T, B]  value targets, equation 1
    advantages: Tensor  # [T, B]  clipped ρ_t (r_t + γ_t vs_{t+1} - V(x_t)), section 4.2


@torch.no_grad()
def vtrace(
    log_rhos: Tensor,
    discounts: Tensor,
    rewards: Tensor,
    values: Tensor,
    bootstrap_value: Tensor,
    lambda_: float = 1.0,
    clip_rho: float = 1.0,
    clip_c: float = 1.0,
    clip_advantage_rho: float = 1.0,
) -> VTrace:
    """Return the value targets and policy-gradient advantages of an unroll.

    Args:
        log_rhos: [T, B] log π(a_t|x_t) - log μ(a_t|x_t), target over behaviour policy.
        discounts: [T, B] γ, or 0 where the action at t ended the episode.
        rewards: [T, B] for the action at t.
        values: [T, B] V(x_t).
        bootstrap_value: [B] V(x_T).
        lambda_: λ of remark 2.
        clip_rho: ρ̄, which sets the fixed point: a value function between those of the behaviour and the target policy.
        clip_c: c̄, bounds how far a correction reaches back.
        clip_advantage_rho: ρ̄ of the policy gradient.
    """
    rhos = log_rhos.exp()
    clipped_rhos = rhos.clamp(max=clip_rho)
    cs = lambda_ * rhos.clamp(max=clip_c)
    next_values = torch.cat([values[1:], bootstrap_value[None]])  # V(x_{t+1})
    deltas = clipped_rhos * (rewards + discounts * next_values - values)
    vs = discounted_sums(deltas, discounts * cs) + values

    next_vs = torch.cat([vs[1:], bootstrap_value[None]])
    advantages = rhos.clamp(max=clip_advantage_rho) * (rewards + discounts * next_vs - values)
    return VTrace(vs, advantages)


def discounted_sums(x: Tensor, discounts: Tensor) -> Tensor:
    """Return y_t = x_t + d_t y_{t+1}, with y_T = 0: x, discounts and y [T, B].

    Takes log T rounds, not T, which a GPU would spend waiting for the host: each doubles how far the sums reach.
    """
    sums, discounts, reach = x.clone(), discounts.clone(), 1
    while reach < len(x):
        sums[:-reach] += discounts[:-reach] * sums[reach:]
        discounts[:-reach] = discounts[:-reach] * discounts[reach:]
        reach *= 2
    return sums
