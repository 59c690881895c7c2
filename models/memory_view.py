"""A view into an agent's memory while it acts: its contents, and how much each agent step wrote."""

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from rfwp.models.core import Core, State, cleared
from rfwp.models.fast_weights import FastMemory

Floats = NDArray[np.float32]


class Matrices(NamedTuple):
    """Fast weight matrices of one kind in one layer: M of them, one per head or one per gate of each head."""

    name: str
    weights: Floats  # [M, rows, keys] after the step
    change: Floats  # [M] Frobenius norm of W_t − W_{t-1}, how much was written
    rate: Floats | None  # [M, R] σ(β), the fraction of the old value that is replaced; None if the core has no rates


class Vector(NamedTuple):
    """A leaf of the state that is not a matrix, such as the hidden state of an LSTM."""

    name: str
    values: Floats  # [size] after the step
    change: float  # norm of h_t − h_{t-1}


Memory = list[Matrices | Vector]


class MemoryView:
    """Records a core's forward passes while entered. Each pass must be one agent step of one environment.

    Uses forward hooks, so it needs no second pass and stores nothing on the core; the hooks are removed on exit.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._parts = [module for module in core.modules() if isinstance(module, FastMemory)]
        self._passes: dict[nn.Module, tuple[tuple[Tensor, State, Tensor], tuple[Tensor, State]]] = {}

    def __enter__(self) -> Self:
        self._hooks = [part.register_forward_hook(self._note) for part in (self._core, *self._parts)]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._passes.clear()

    def read(self) -> Memory:
        """Return the state after the last forward pass, and its change in that pass, one entry per leaf.

        At the first step of an episode the change is relative to the initial state.
        """
        (_, state, first), (_, after) = self._passes[self._core]
        before = cleared(state, first[0])
        names = self._core.state_names or [f"state {n}" for n in range(1, len(after) + 1)]
        rates = self._rates()
        return [_entry(*leaf, rates) for leaf in zip(names, before, after, strict=True)]

    def _note(self, part: nn.Module, inputs: tuple[Tensor, State, Tensor], output: tuple[Tensor, State]) -> None:
        self._passes[part] = inputs, output

    def _rates(self) -> Iterator[Tensor]:
        """Yield the rates of each matrix of the state in turn."""
        for part in self._parts:
            yield from part.write_rates(*self._passes[part][0])


def _entry(name: str, before: Tensor, after: Tensor, rates: Iterator[Tensor]) -> Matrices | Vector:
    """Return the entry of one leaf [1, ...] of the state."""
    change = after - before
    if after.dim() < 4:  # [1, num_heads, rows, keys] is a matrix
        return Vector(name, _array(after.flatten()), float(change.norm()))
    weights, change = (leaf.reshape(-1, *after.shape[-2:]) for leaf in (after, change))
    rate = next(rates, None)
    of_matrix = None if rate is None else _array(rate.reshape(len(weights), -1))
    return Matrices(name, _array(weights), _array(change.flatten(1).norm(dim=1)), of_matrix)


def _array(tensor: Tensor) -> Floats:
    return np.asarray(tensor.detach().float().cpu().numpy())
