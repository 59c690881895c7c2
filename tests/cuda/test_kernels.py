"""The kernels compute what the cores' steps define: outputs, final states and gradients."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rfwp.models.core import Core, State

Run = Callable[[Core, Tensor, State, Tensor], tuple[Tensor, State]]

FAST_WEIGHT_CORES = ("delta_net", "delta_rnn", "gated_delta_net", "linear_transformer", "rdn")
GATED_CORES = ("gru", "lstm")
CORES = (*FAST_WEIGHT_CORES, *GATED_CORES)
INPUT_SIZE = 5


def build(name: str, head_size: int = 32, num_heads: int = 2, **settings: Any) -> Core:
    config = importlib.import_module(f"rfwp.models.cores.{name}").Config
    if name in GATED_CORES:
        return config(hidden_size=head_size + 3, num_layers=2, **settings).build(INPUT_SIZE)
    sizes = {"hidden_size": num_heads * head_size, "num_heads": num_heads, "head_size": head_size}
    return config(**sizes, num_layers=1, feedforward_size=8, **settings).build(INPUT_SIZE)


def random_case(core: Core, steps: int, batch: int, density: float) -> tuple[Tensor, State, Tensor]:
    """Inputs, a state that is not zero, and resets."""
    dtype = next(core.parameters()).dtype
    x = torch.randn(steps, batch, INPUT_SIZE, dtype=dtype)
    state = tuple(0.5 * torch.randn(batch, *shape, dtype=dtype) for shape in core.state_shapes)
    return x, state, torch.rand(steps, batch) < density


def results(run: Run, core: Core, x: Tensor, state: State, reset: Tensor) -> list[Tensor]:
    """Outputs, final state, and the gradients of a random product with all of them."""
    x = x.clone().requires_grad_()
    state = tuple(leaf.clone().requires_grad_() for leaf in state)
    y, after = run(core, x, state, reset)
    generator = torch.Generator().manual_seed(7)
    cotangents = [torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out) for out in (y, *after)]
    gradients = torch.autograd.grad((y, *after), (x, *state, *core.parameters()), cotangents, materialize_grads=True)
    return [y, *after, *gradients]


def by_step(core: Core, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
    """The definition: a loop over `step`."""
    return Core.forward(core, x, state, reset)


def by_kernel(core: Core, x: Tensor, state: State, reset: Tensor) -> tuple[Tensor, State]:
    return core(x, state, reset)


def largest_error(actual: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference of any number, relative to the largest number of its tensor."""
    return max(
        ((given - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3)).item()
        for given, wanted in zip(actual, expected, strict=True)
    )


CASES = [  # steps, batch, heads, head size, density of resets, gradient horizon
    (1, 1, 1, 32, 0.0, None),
    (1, 3, 2, 16, 1.0, None),
    (2, 2, 2, 64, 0.5, None),
    (7, 3, 2, 32, 0.3, None),
    (7, 3, 2, 16, 0.3, 3),
    (9, 2, 1, 64, 0.2, 4),
    (12, 2, 3, 16, 1.0, None),
    (23, 2, 2, 32, 0.1, 1),
    (50, 2, 2, 32, 0.02, None),
    (200, 1, 1, 32, 0.01, None),
    (200, 1, 1, 16, 0.01, 50),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", CORES)
def test_kernel_is_the_loop_over_step(name: str, case: tuple[Any, ...], on_cpu) -> None:
    steps, batch, heads, size, density, horizon = case
    torch.manual_seed(steps)
    core = build(name, size, heads, gradient_horizon=horizon).double()
    given = random_case(core, steps, batch, density)
    exact = results(by_step, core, *given)
    assert not on_cpu.launched
    assert largest_error(results(by_kernel, core, *given), exact) < 1e-11
    assert on_cpu.launched
    single = [each.float() if each.is_floating_point() else each for each in (given[0], *given[1], given[2])]
    rounded = results(by_kernel, core.float(), single[0], tuple(single[1:-1]), single[-1])
    assert largest_error([each.double() for each in rounded], exact) < 1e-5
