"""The recurrent-state interface: what every memory core is, and the loop over time that they share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]
"""What a core carries from one agent step to the next: a flat tuple, every leaf [B, ...], never mutated."""


@dataclass(frozen=True)
class CoreConfig(ABC):
    """Settings of one core; each module of `models/cores` holds a subclass named `Config`."""

    @abstractmethod
    def build(self, input_size: int) -> "Core":
        """Make the core for inputs of `input_size` numbers an agent step."""


class Core(nn.Module, ABC):
    """A memory: reads one vector an agent step, returns one, and carries a state in between.

    A subclass sets the three attributes and defines `step`. It may override `forward` with something faster that gives
    the same outputs, final state and gradients.
    """

    output_size: int
    state_shapes: tuple[tuple[int, ...], ...]  # one per leaf of the state, without the batch axis
    state_names: tuple[str, ...] = ()  # what people call each leaf; () where they have no names
    gradient_horizon: int | None = None  # see `unroll`

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Give the state at the start of an episode: zeros [B, ...], by default where the weights are."""
        weight = next(self.parameters(), torch.empty(0))
        device = weight.device if device is None else device
        return tuple(torch.zeros(batch_size, *shape, dtype=weight.dtype, device=device) for shape in self.state_shapes)

    @abstractmethod
    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one agent step: x [B, D] -> y [B, output_size], new state. This is the definition of the core."""

    def forward(self, x: Tensor, state: State, first: Tensor) -> tuple[Tensor, State]:
        """Advance T agent steps: x [T, B, D], bool first [T, B] -> y [T, B, output_size], final state.

        Where first[t, b] is set, the state is initial again before x[t, b] is read. Acting is T = 1.
        """
        return unroll(lambda inputs, before: self.step(inputs[0], before), (x,), state, first, self.gradient_horizon)


def unroll(
    step: Callable[[tuple[Tensor, ...], State], tuple[Tensor, State]],
    inputs: tuple[Tensor, ...],
    state: State,
    first: Tensor,
    gradient_horizon: int | None = None,
) -> tuple[Tensor, State]:
    """Loop `output, state = step(inputs at t, state)` over time, with resets.

    inputs: each [T, N, ...]; state: each leaf [N, ...]; first: bool [T, N] -> outputs [T, N, ...], final state.

    gradient_horizon=n detaches the state before steps 0, n, 2n, ... so that no gradient crosses those boundaries; n = 1
    gives every step the one-step gradient of the published reinforcement learning code of fast weight programmers.
    None lets gradients through the whole unroll, and into the state that it started from.
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
    """Return the state with the rows where first [N] is set initial again, whatever they held (NaN included)."""
    return tuple(torch.where(first.view(-1, *[1] * (leaf.dim() - 1)), 0.0, leaf) for leaf in state)


def _may_start(first: Tensor) -> list[bool]:
    """Tell for each step whether it can have a reset; only the CPU can look without waiting for a device."""
    if first.device.type == "cpu":
        return [bool(any_first) for any_first in first.any(1).tolist()]
    return [True] * first.shape[0]


def check(condition: bool, field: str, value: object, allowed: str) -> None:
    """Raise ValueError naming the config field, its value and what is allowed, unless the condition holds."""
    if not condition:
        raise ValueError(f"{field}: got {value}; allowed: {allowed}")


def check_horizon(gradient_horizon: int | None) -> None:
    """Raise ValueError unless gradient_horizon is None or a number of agent steps."""
    check(gradient_horizon is None or gradient_horizon >= 1, "gradient_horizon", gradient_horizon, "1 or more, or null")
