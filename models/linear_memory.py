"""Memories whose recurrence is linear in the fast weights, so that many steps can be computed at once.

The delta rule with decay, W_t = α_t W_{t-1} + c_t ⊗ k_t with c_t = β_t (v_t − α_t W_{t-1} k_t), has the solution

  W_t = D_t0 W_0 + Σ_{s ≤ t} D_ts c_s ⊗ k_s

where D_ts is the product of α over the steps after s up to t, or 0 if an episode starts among them. Inserting W_{t-1}
into c_t gives a triangular system of T equations for all c (the WY form of Yang et al. 2024, arXiv 2406.06484):

  c_t + β_t Σ_{s < t} D_ts (k_s · k_t) c_s = β_t (v_t − D_t0 W_0 k_t)

So T steps take a few matrix products of size T and one triangular solve. Without β the rule only adds: c = v.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rfwp.cuda.delta import delta
from rfwp.models.core import State
from rfwp.models.fast_weights import FastMemory, FastWeightConfig

CHUNK = 32  # steps at once; larger means quadratically more work but fewer operators; measured
SHORTEST = 4  # shorter unrolls are faster in a loop; measured


class Inputs(NamedTuple):
    """The inputs of a rule at each step."""

    query_key: Tensor  # q and k [T, N, 2, keys]
    value: Tensor  # v [T, N, head_size]
    rate: Tensor | None = None  # β [T, N, 1]; None to add without correcting
    log_decay: Tensor | None = None  # log α [T, N, 1]; None for no decay

    def map(self, function: Callable[[Tensor], Tensor]) -> "Inputs":
        """Apply a function to the inputs that are not None."""
        return Inputs._make(None if each is None else function(each) for each in self)

    def chunk(self, start: int) -> "Inputs":
        """Return CHUNK steps from `start` on, memories first: [N, T, ...] with one axis of features."""
        return self.map(lambda each: each[start : start + CHUNK].transpose(0, 1).flatten(2))


class LinearMemory(FastMemory):
    """W_t = α_t W_{t-1} + β_t (v_t − α_t W_{t-1} f(k_t)) ⊗ f(k_t);  y_t = W_t f(q_t), or a special case of it.

    A subclass defines `advance`, and `prepare`, which returns the `Inputs` that its rule uses, in their order. The
    state holds W [B, num_heads, head_size, keys] of each layer.
    """

    leaf_names = ("W",)

    def __init__(self, config: FastWeightConfig, scalars: int) -> None:
        """Set the sizes. scalars: how many of β and α the slow projection computes, 0 to 2."""
        size = config.head_size
        keys = config.key_size
        super().__init__(config, slow_size=3 * size + scalars, state_shapes=((size, keys),))
        self.sizes = [2 * size, size] + [1] * scalars
        self.kernel_size = size if keys == size else None

    def rates(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, ...]:
        return inputs[2:3]

    def fused(self, inputs: tuple[Tensor, ...], state: State, first: Tensor) -> tuple[Tensor, State]:
        query_key, value, rate, log_decay = Inputs(*inputs)
        rate = None if rate is None else rate.squeeze(-1)
        log_decay = None if log_decay is None else log_decay.squeeze(-1)
        (fast,) = state
        read, fast = delta(query_key, value, rate, log_decay, fast, first, gradient_horizon=self.gradient_horizon)
        return read, (fast,)

    def loop(self, inputs: tuple[Tensor, ...], state: State, first: Tensor) -> tuple[Tensor, State]:
        if len(first) < SHORTEST or self.gradient_horizon is not None:
            return super().loop(inputs, state, first)
        (fast,) = state
        read, fast = delta_chunks(Inputs(*inputs), fast, first)
        return read, (fast,)


def delta_chunks(inputs: Inputs, fast: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Write v at k and read at q at every step, computing CHUNK steps at a time.

    fast: W [N, head_size, keys]; first: bool [T, N] -> y [T, N, head_size], W after the last step.
    """
    reads = []
    for start in range(0, len(first), CHUNK):
        read, fast = _chunk_isolating_nan(inputs.chunk(start), fast, first[start : start + CHUNK].t())
        reads.append(read)
    return torch.cat(reads, 1).transpose(0, 1), fast


def _chunk_isolating_nan(inputs: Inputs, fast: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Compute a chunk, memories first [N, T, ...], and keep non-finite values within their episode, as in a loop.

    inputs: from `Inputs.chunk`; first: [N, T] -> y [N, T, head_size], W after the chunk.

    A matrix product would carry NaN into the next episode, because NaN times 0 is NaN. So non-finite inputs are
    replaced by zeros, and the results that depend on them are set to NaN at the end.
    """
    episode = first.long().cumsum(1)  # [N, T], 0 is the episode that W comes from
    carried = (episode == 0).unsqueeze(2)  # [N, T, 1]: W from before the chunk counts at step t
    same = (episode.unsqueeze(2) == episode.unsqueeze(1)).tril()  # [N, T, T]: step s counts at step t
    sound = (inputs.query_key.sum(2, keepdim=True) + inputs.value.sum(2, keepdim=True)).isfinite()  # [N, T, 1]
    whole = fast.sum((1, 2), keepdim=True).isfinite()  # [N, 1, 1]
    lost = (same & ~sound.mT).any(2, keepdim=True) | (carried & ~whole)
    nan = torch.where(lost, torch.nan, 0.0).to(fast.dtype)

    inputs = inputs.map(lambda each: torch.where(sound, each, 0.0))
    read, after = _chunk(inputs, torch.where(whole, fast, 0.0), same, carried)
    return read + nan, after + nan[:, -1:]


def _chunk(inputs: Inputs, fast: Tensor, same: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
    """Solve for c, then read. `same` and `carried` are those of `_chunk_isolating_nan`."""
    query_key, value, rate, log_decay = inputs
    query, key = query_key.chunk(2, -1)  # [N, T, keys]
    decay, decay_of_carried = same.to(fast.dtype), carried.to(fast.dtype)  # D_ts [N, T, T], D_t0 [N, T, 1]
    if log_decay is not None:
        decay_of_carried = decay_of_carried * log_decay.cumsum(1).exp()
        # Sum over the steps in between: differences of cumulative sums would lose precision.
        decay = decay * log_decay.expand(-1, -1, log_decay.shape[1]).tril(-1).cumsum(1).exp()
    written = value
    if rate is not None:
        system = decay * torch.bmm(rate * key, key.mT)  # the solver takes the diagonal to be 1
        written = rate * (value - decay_of_carried * torch.bmm(key, fast.mT))
        written = torch.linalg.solve_triangular(system, written, upper=False, unitriangular=True)
    read = torch.bmm(decay * torch.bmm(query, key.mT), written) + decay_of_carried * torch.bmm(query, fast.mT)
    kept_key = decay[:, -1].unsqueeze(2) * key  # the weight of a write at s at the end of the chunk
    return read, torch.bmm(written.mT, kept_key) + decay_of_carried[:, -1:] * fast
