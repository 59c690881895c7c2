"""Policies over actions of K independent choices: a categorical distribution each, with all their logits side by side.

`sizes` holds the number of values of each choice, A_1 to A_K; ΣA is their sum.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

Sizes = tuple[int, ...]


def negative_log_likelihood(logits: Tensor, action: Tensor, sizes: Sizes) -> Tensor:
    """Return -log π(a_t|x_t): logits [T, B, ΣA], action int64 [T, B, K] -> [T, B]."""
    pairs = zip(_split(logits, sizes), action.unbind(-1), strict=True)
    each = [F.cross_entropy(part.flatten(0, 1), choice.flatten(), reduction="none") for part, choice in pairs]
    return torch.stack(each).sum(0).view(action.shape[:-1])


def negative_entropy(logits: Tensor, sizes: Sizes) -> Tensor:
    """Return Σ π log π in nats: logits [T, B, ΣA] -> [T, B]."""
    log_policies = [part.log_softmax(dim=-1) for part in _split(logits, sizes)]
    return torch.stack([(each.exp() * each).sum(-1) for each in log_policies]).sum(0)


def probabilities(logits: Tensor, sizes: Sizes) -> Tensor:
    """Return the probability of each value of each choice: logits [..., ΣA] -> [..., ΣA]."""
    return torch.cat([part.softmax(dim=-1) for part in _split(logits, sizes)], dim=-1)


def one_hot(action: Tensor, sizes: Sizes) -> Tensor:
    """Return 1 at each chosen value and 0 elsewhere: int64 [..., K] -> float32 [..., ΣA]."""
    pairs = zip(action.unbind(-1), sizes, strict=True)
    return torch.cat(
        [choice.unsqueeze(-1) == torch.arange(size, device=action.device) for choice, size in pairs], -1
    ).float()


def greedy(logits: Tensor, sizes: Sizes) -> Tensor:
    """Return the most likely action: logits [B, ΣA] -> int64 [B, K]."""
    return torch.stack([part.argmax(dim=-1) for part in _split(logits, sizes)], dim=-1)


def sample(logits: Tensor, sizes: Sizes, generator: torch.Generator) -> Tensor:
    """Sample an action per environment: logits [B, ΣA] -> int64 [B, K]. Logits of NaN give an arbitrary valid action.

    Uses the exponential race of torch.multinomial, with the same draws, but skips its checks, which make the host wait.
    """
    policies = [part.softmax(dim=-1) for part in _split(logits, sizes)]
    return torch.stack(
        [(each / torch.empty_like(each).exponential_(generator=generator)).argmax(dim=-1) for each in policies], dim=-1
    )


def _split(logits: Tensor, sizes: Sizes) -> tuple[Tensor, ...]:
    """Return the logits of each choice, [..., A_k]."""
    return torch.split(logits, list(sizes), dim=-1)
