"""The recurrent-state interface: the base class of all memory cores, and their shared loop over time."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rfwp.checks import check

State = tuple[Tensor, ...]
"""A core's recurrent state: a flat tuple of leaves [B, ...]. Never mutated."""


@dataclass(frozen=True)
class CoreConfig(ABC):
    """Settings of one core; each module of `models/cores` holds a subclass named `Config`."""

    @abstractmethod
    def build(self, input_size: int) -> "Core":
        """Build the core for input vectors of length `input_size`."""


class Core(nn.Module, ABC):
    """A memory core: reads and returns one vector per agent step, and carries a state between steps.

    A subclass sets the attributes and defines `step`. It may override `forward` with a faster version that gives the
    same outputs, final state and gradients.
    """

    output_size: int
    state_shapes: tuple[tuple[int, ...], ...]  # one per leaf of the state, without the batch axis
    state_names: tuple[str, ...] = ()  # display name of each leaf; () if they have none
    gradient_horizon: int | None = None  # see `unroll`

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return the state at the start of an episode: zeros [B, ...], by default on the weights' device."""
        weight = next(self.parameters(), torch.empty(0))
        device = weight.device if device is None else device
        return tuple(torch.zeros(batch_size, *shape, dtype=weight.dtype, device=device) for shape in self.state_shapes)

    @abstractmethod
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one agent step: x [B, D] -> y [B, output_size], new state. This defines the core."""

    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        """Advance T agent steps: x [T, B, D], bool first [T, B] -> y [T, B, output_size], final state.

        Where first[t, b] is set, the state returns to its initial value before x[t, b] is read. Acting uses T = 1.
        """
        return unroll(lambda inputs, before: self.step(inputs[0], before), (x,), state, first, self.gradient_horizon)


def unroll(
    step: Callable[[tuple[Tensor, ...], State], tuple[Tensor, State]],
    inputs: tuple[Tensor, ...],
    state: State,
    first: Tensor,
    gradient_horizon: int | None = None,
) -> tuple[Tensor, State]:
    """Loop `output, state = step(inputs at t, state)` over time, and clear the state where `first` is set.

    inputs: each [T, N, ...]; state: each leaf [N, ...]; first: bool [T, N] -> outputs [T, N, ...], final state.

    gradient_horizon=n detaches the state before steps 0, n, 2n, ..., so no gradient crosses those boundaries. n = 1
    gives every step the one-step gradient of the published reinforcement learning code of fast weight programmers.
    With None, gradients flow through the whole unroll and into its starting state.
    """
    outputs = []
    steps = zip(*(each.unbind() for each in inputs), strict=True)
    for t, (inputs_t, first_t, may_start) in enumerate(zip(steps, first.unbind(), _may_start(first), strict=True)):
        if gradient_horizon is not None and t % gradient_horizon == 0:
            state = tuple(leaf.detach() for leaf in state)
        if may_start:
            state = cleared(state, first_t)
        output, state = step(inputs_t, state)
        outputs.append(output)
    return torch.stack(outputs), state


def cleared(state: State, first: Tensor) -> State:
    """Return the state with zeros in the rows where first [N] is set, even if they held NaN."""
    return tuple(torch.where(first.view(-1, *[1] * (leaf.dim() - 1)), 0.0, leaf) for leaf in state)


def _may_start(first: Tensor) -> list[bool]:
    """Return, for each step, True if an episode may start there. On a GPU all are True, which avoids a wait."""
    if first.device.type == "cpu":
        return [bool(any_first) for any_first in first.any(1).tolist()]
    return [True] * first.shape[0]


def check_horizon(gradient_horizon: int | None) -> None:
    """Raise ValueError unless gradient_horizon is None or at least 1 agent step."""
    check(gradient_horizon is None or gradient_horizon >= 1, "gradient_horizon", gradient_horizon, "1 or more, or null")
