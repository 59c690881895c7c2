"""Looks into an agent's memory while it acts: what it holds, and how much each agent step wrote."""

from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from rfwp.models.core import Core, State, cleared
from rfwp.models.fast_weights import FastMemory

Floats = NDArray[np.float32]


class Matrices(NamedTuple):
    """Fast weight matrices of one kind in one layer: one for each of M heads, or for each gate of each head."""

    name: str
    weights: Floats  # [M, rows, keys] after the step
    change: Floats  # [M] Frobenius norm of W_t − W_{t-1}: how much was written
    rate: Floats | None  # [M, R] σ(β), the share of the old value that is replaced; None for a core without rates


class Vector(NamedTuple):
    """One leaf of a state that is no matrix, as the hidden state of an LSTM."""

    name: str
    values: Floats  # [size] after the step
    change: float  # norm of h_t − h_{t-1}


Memory = list[Matrices | Vector]


class MemoryView:
    """While entered, sees the forward passes of a core, one agent step of one environment each, without a second pass.

    It listens through hooks: nothing is stored on the core, and nothing is left behind.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._parts = [module for module in core.modules() if isinstance(module, FastMemory)]
        self._passes: dict[nn.Module, tuple[tuple[Tensor, State, Tensor], tuple[Tensor, State]]] = {}

    def __enter__(self) -> Self:
        self._hooks = [part.register_forward_hook(self._note) for part in (self._core, *self._parts)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._passes.clear()

    def read(self) -> Memory:
        """Give the state after the last forward pass, one entry a leaf, and what changed in that pass.

        A step that opens an episode writes into the initial state.
        """
        (_, state, first), (_, after) = self._passes[self._core]
        before = cleared(state, first[0])
        names = self._core.state_names or [f"state {n}" for n in range(1, len(after) + 1)]
        rates = self._rates()
        return [_entry(*leaf, rates) for leaf in zip(names, before, after, strict=True)]

    def _note(self, part: nn.Module, inputs: tuple[Tensor, State, Tensor], output: tuple[Tensor, State]) -> None:
        self._passes[part] = inputs, output

    def _rates(self) -> Iterator[Tensor]:
        """The rates of every matrix of the state in turn."""
        for part in self._parts:
            yield from part.write_rates(*self._passes[part][0])


def _entry(name: str, before: Tensor, after: Tensor, rates: Iterator[Tensor]) -> Matrices | Vector:
    """One leaf [1, ...] of the state."""
    change = after - before
    if after.dim() < 4:  # [1, num_heads, rows, keys] is a matrix
        return Vector(name, _array(after.flatten()), float(change.norm()))
    weights, change = (leaf.reshape(-1, *after.shape[-2:]) for leaf in (after, change))
    rate = next(rates, None)
    of_matrix = None if rate is None else _array(rate.reshape(len(weights), -1))
    return Matrices(name, _array(weights), _array(change.flatten(1).norm(dim=1)), of_matrix)


def _array(tensor: Tensor) -> Floats:
    return np.asarray(tensor.detach().float().cpu().numpy())
