"""Shared parts of the fast weight cores: settings, the delta rule, and the multi-head memory of one layer."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rfwp.cuda.available import available
from rfwp.models.core import State, check_horizon, cleared, unroll
from rfwp.models.feature_maps import FeatureMapName, feature_map
from rfwp.models.residual_stack import Memory, StackConfig


@dataclass(frozen=True)
class FastWeightConfig(StackConfig):
    """Settings of all fast weight cores; a core's own Config may change the defaults and add settings."""

    feature_map: FeatureMapName = "elu_sum_norm"
    """Function applied to queries and keys: as published unless a preset says otherwise; docs/feature-maps.md compares
    them. With elu or identity the keys are not normalised and the delta rule soon diverges: use them only with the
    linear_transformer."""

    gradient_horizon: int | None = None
    """Agent steps after which gradients through the recurrent state stop: 1 as in the published reinforcement learning
    code, null for no limit within the unroll."""

    scale_reads: bool = False
    """Multiply what each head reads by 1/√head_size, as in the published language models."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_horizon(self.gradient_horizon)
        feature_map(self.feature_map)

    @property
    def key_size(self) -> int:
        """Size of the queries and keys of one head after the feature map."""
        return self.head_size * feature_map(self.feature_map).growth


class FastMemory(Memory):
    """One layer's memory: a slow projection of the input, and the same recurrence over fast weights in every head.

    A subclass passes its sizes to `__init__` and defines `prepare` and `advance`. Both see one row per head and
    sequence, heads first: N = num_heads * B, row h * B + b. So the rows of a head are contiguous. A subclass with a
    kernel for the loop over `advance` also defines `fused` and sets `kernel_size`.

    slow_size: outputs of the slow projection per head and step; None if each head reads its part of x directly.
    state_shapes: each leaf's shape in one head; the state has leaves [B, num_heads, *shape].
    """

    kernel_size: int | None = None  # size of the matrices that `fused` works on; None if there is no `fused`

    def __init__(
        self, config: FastWeightConfig, slow_size: int | None, state_shapes: tuple[tuple[int, ...], ...]
    ) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.state_shapes = tuple((config.num_heads, *shape) for shape in state_shapes)
        self.gradient_horizon = config.gradient_horizon
        self.features = feature_map(config.feature_map).apply
        self.read_scale = config.head_size**-0.5 if config.scale_reads else 1.0
        self.slow: nn.Module = nn.Identity()
        if slow_size is not None:
            self.slow = nn.Linear(config.hidden_size, config.num_heads * slow_size, bias=False)

    @abstractmethod
    def prepare(self, slow: Tensor) -> tuple[Tensor, ...]:
        """Compute the inputs of `advance`, each [..., N, ...], from slow [..., N, slow_size], without the state."""

    @abstractmethod
    def advance(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        """Advance one agent step: inputs [N, ...], state [N, ...] -> y [N, head_size], new state."""

    def fused(self, inputs: tuple[Tensor, ...], state: State, first: Tensor) -> tuple[Tensor, State]:
        """Run `advance` over all steps, with a kernel.

        inputs: each [T, N, ...]; first: [T, B] -> y [T, N, head_size], final state.
        """
        raise NotImplementedError

    def loop(self, inputs: tuple[Tensor, ...], state: State, first: Tensor) -> tuple[Tensor, State]:
        """Run `advance` over all steps, without a kernel.

        inputs: each [T, N, ...]; first: [T, N] -> y [T, N, head_size], final state.
        """
        return unroll(self.advance, inputs, state, first, self.gradient_horizon)

    def query_and_key(self, packed: Tensor) -> Tensor:
        """Apply the feature map to a query and a key side by side: [..., 2 * head_size] -> [..., 2, keys]."""
        return self.features(packed.view(*packed.shape[:-1], 2, -1))

    def rates(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, ...]:
        """Return the write rates of `advance`, for display: σ(β) [N, ...] of each matrix of the state in turn.

        () for a memory without such rates.
        """
        return ()

    def write_rates(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, ...]:
        """Return the `rates` [B, num_heads, ...] of a `forward` with the same arguments and T = 1."""
        rows = cleared(self.to_rows(state), first[0].repeat(self.num_heads))
        return self._from_rows(self.rates(self.prepare(self.project(x[0])), rows))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, rows = self.advance(self.prepare(self.project(x)), self.to_rows(state))
        return self._merge(y), self._from_rows(rows)

    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        inputs, rows = self.prepare(self.project(x)), self.to_rows(state)
        if self.kernel_size is not None and available(x.device.type, rows[0].dtype, self.kernel_size):
            y, rows = self.fused(inputs, rows, first)
        else:
            each_head = first.unsqueeze(1).expand(-1, self.num_heads, -1).flatten(1)  # [T, N]
            y, rows = self.loop(inputs, rows, each_head)
        return self._merge(y), self._from_rows(rows)

    def project(self, x: Tensor) -> Tensor:
        """Apply the slow projection and split the heads: [..., B, hidden_size] -> [..., N, slow_size]."""
        slow: Tensor = self.slow(x)
        return slow.view(*x.shape[:-1], self.num_heads, -1).transpose(-3, -2).flatten(-3, -2)

    def _merge(self, y: Tensor) -> Tensor:
        """Scale the reads and concatenate the heads: [..., N, head_size] -> [..., B, hidden_size]."""
        y = y if self.read_scale == 1 else y * self.read_scale
        return y.view(*y.shape[:-2], self.num_heads, -1, y.shape[-1]).transpose(-3, -2).flatten(-2)

    def to_rows(self, state: State) -> State:
        """Flatten each leaf: [B, num_heads, ...] -> [N, ...]. No copy if the state comes from `_from_rows`."""
        return tuple(leaf.transpose(0, 1).flatten(0, 1) for leaf in state)

    def _from_rows(self, rows: State) -> State:
        """Undo `to_rows`: [N, ...] -> [B, num_heads, ...]."""
        return tuple(leaf.view(self.num_heads, -1, *leaf.shape[1:]).transpose(0, 1) for leaf in rows)


def delta_rule(fast: Tensor, query_key: Tensor, value: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """Write v at key k, correcting what is there, then read at query q (Schlag et al. 2021).

    W' = W + β (v − W k) ⊗ k;  y = W' q.

    With 0 ≤ β ≤ 1 and ‖k‖ ≤ 1 it cannot diverge: W' = W (I − β k ⊗ k) + β v ⊗ k, and I − β k ⊗ k has eigenvalues 1 and
    1 − β ‖k‖², so the spectral norm grows by β ‖v‖ a step at most.

    fast: W [N, V, K]; query_key: q and k [N, 2, K]; value: v [N, V]; rate: β [N, 1] -> y [N, V], W' [N, V, K].
    """
    query, key = query_key.unbind(1)
    read, old = torch.bmm(query_key, fast.mT).unbind(1)  # W q and W k in one pass over W
    change = rate * (value - old)
    # W' q = W q + (β (v − W k)) (k · q)
    y = torch.addcmul(read, change, (query * key).sum(-1, keepdim=True))
    return y, torch.addcmul(fast, change.unsqueeze(2), key.unsqueeze(1))
