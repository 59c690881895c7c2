"""V-trace: off-policy corrected value targets and advantages (Espeholt et al. 2018, IMPALA, section 4.1)."""

from typing import NamedTuple

import torch
from torch import Tensor


class VTrace(NamedTuple):
    """Targets of one unroll; no gradient flows into them."""

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
    """Value targets and policy-gradient advantages of an unroll.

    Args:
        log_rhos: [T, B] log π(a_t|x_t) - log μ(a_t|x_t), target over behaviour policy.
        discounts: [T, B] γ, and 0 where the step taken at t ended the episode.
        rewards: [T, B] received for the action taken at t.
        values: [T, B] V(x_t).
        bootstrap_value: [B] V(x_T).
        lambda_: λ of remark 2.
        clip_rho: ρ̄, bounds the fixed point's distance from the behaviour policy.
        clip_c: c̄, bounds how far a correction reaches back.
        clip_advantage_rho: ρ̄ of the policy gradient.
    """
    rhos = log_rhos.exp()
    clipped_rhos = rhos.clamp(max=clip_rho)
    cs = lambda_ * rhos.clamp(max=clip_c)
    next_values = torch.cat([values[1:], bootstrap_value[None]])  # V(x_{t+1})
    deltas = clipped_rhos * (rewards + discounts * next_values - values)

    corrections = torch.empty_like(values)  # vs_t - V(x_t)
    correction = torch.zeros_like(bootstrap_value)
    for t in reversed(range(values.shape[0])):
        correction = deltas[t] + discounts[t] * cs[t] * correction
        corrections[t] = correction
    vs = corrections + values

    next_vs = torch.cat([vs[1:], bootstrap_value[None]])
    advantages = rhos.clamp(max=clip_advantage_rho) * (rewards + discounts * next_vs - values)
    return VTrace(vs, advantages)
