"""Every core at the sizes that are used: an unroll equals its steps, and its gradients equal finite differences.

The axes are core, head size, unroll length and share of steps that open an episode, all in float64. Any two values of
two axes meet in some row, and every core has a long unroll with few resets, so that its state lives through many steps.
`test_cores.py` holds the rest of the contract. Finite differences are taken along random directions.
"""

from itertools import chain
from typing import NamedTuple

import pytest
import torch
from covering import pairwise
from every_core import NAMES, make_core
from torch import Tensor

from rfwp.models.core import Core, State, cleared
from rfwp.models.residual_stack import Block

INPUT_SIZE, BATCH, HEADS = 5, 3, 2
STEP = 1e-5  # of the finite differences
HEAD_SIZES, LENGTHS, DENSITIES = (32, 16, 64), (7, 50, 1, 2), (0.3, 0.01, 0, 1)
LONG = [(name, HEAD_SIZES[number % 3], 50, 0.01) for number, name in enumerate(NAMES)]

every_case = pytest.mark.parametrize(
    ("name", "head_size", "length", "density"), pairwise(NAMES, HEAD_SIZES, LENGTHS, DENSITIES, given=LONG)
)


class Unroll(NamedTuple):
    """What goes into a core, float64; every field a tuple, so that all are moved alike."""

    x: tuple[Tensor]  # [T, B, D]
    state: State  # [B, ...], from the middle of an episode
    weights: tuple[Tensor, ...]


def make(name: str, head_size: int) -> Core:
    sizes = {"hidden_size": HEADS * head_size, "num_layers": 2, "num_heads": HEADS, "feedforward_size": 8}
    return make_core(name, INPUT_SIZE, sizes)


def make_unroll(core: Core, length: int) -> Unroll:
    state = core.initial_state(BATCH)
    with torch.no_grad():
        for _ in range(3):
            _, state = core.step(torch.randn(BATCH, INPUT_SIZE, dtype=torch.float64), state)
    x = torch.randn(length, BATCH, INPUT_SIZE, dtype=torch.float64)
    return Unroll((x,), state, tuple(weight.detach() for weight in core.parameters()))


def make_reset(length: int, density: float) -> Tensor:
    """Bool [T, B] with that share of resets, at random places, and one at least unless the density is 0."""
    count = max(round(density * length * BATCH), density > 0)
    return (torch.randperm(length * BATCH) < count).view(length, BATCH)


def run(core: Core, unroll: Unroll, first: Tensor) -> tuple[Tensor, ...]:
    names = [name for name, _ in core.named_parameters()]
    weights = dict(zip(names, unroll.weights, strict=True))
    outputs, state = torch.func.functional_call(core, weights, (*unroll.x, unroll.state, first))
    return (outputs, *state)


def run_steps(core: Core, unroll: Unroll, first: Tensor) -> tuple[Tensor, ...]:
    """The same by the definition, `step`, with the core's own weights."""
    outputs, state = [], unroll.state
    for x_t, first_t in zip(unroll.x[0], first, strict=True):
        output, state = core.step(x_t, cleared(state, first_t))
        outputs.append(output)
    return (torch.stack(outputs), *state)


def dot(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> Tensor:
    products = [(a * b).sum() for a, b in zip(left, right, strict=True)]
    return torch.stack(products).sum() if products else torch.zeros((), dtype=torch.float64)


def directions(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.randn_like(tensor) for tensor in tensors)


@every_case
def test_an_unroll_is_a_loop_over_step(name: str, head_size: int, length: int, density: float) -> None:
    core, first = make(name, head_size), make_reset(length, density)
    unroll = make_unroll(core, length)._replace(weights=tuple(core.parameters()))
    sought = [leaf.requires_grad_() for leaf in chain(*unroll)]
    results = run(core, unroll, first), run_steps(core, unroll, first)
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)
    along = directions(results[0])
    gradients = [torch.autograd.grad(dot(each, along), sought, materialize_grads=True) for each in results]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


@every_case
def test_gradients_agree_with_finite_differences(name: str, head_size: int, length: int, density: float) -> None:
    core, first = make(name, head_size), make_reset(length, density)
    stay_clear_of_kinks(core)
    unroll = make_unroll(core, length)
    sought = [leaf.requires_grad_() for leaf in chain(*unroll)]
    results = run(core, unroll, first)
    along = directions(results)
    gradients = iter(torch.autograd.grad(dot(results, along), sought, materialize_grads=True))
    slopes, expected = {}, {}
    for field, tensors in unroll._asdict().items():
        direction = directions(tensors)
        slopes[field] = dot(tuple(next(gradients) for _ in tensors), direction)
        ahead, behind = (
            dot(run(core, moved(unroll, field, direction, distance), first), along) for distance in (STEP, -STEP)
        )
        expected[field] = (ahead - behind) / (2 * STEP)
    torch.testing.assert_close(slopes, expected, rtol=1e-6, atol=1e-6)


def stay_clear_of_kinks(core: Core) -> None:
    """Put every hidden unit of the feed-forward networks far from where ReLU has no slope, on one side or the other."""
    for module in core.modules():
        if isinstance(module, Block):
            inner = module.feedforward[0]
            inner.bias.data = 5 * inner.bias.sign()


def moved(unroll: Unroll, field: str, direction: tuple[Tensor, ...], distance: float) -> Unroll:
    """The unroll with one field moved a little."""
    pairs = zip(getattr(unroll, field), direction, strict=True)
    return unroll._replace(**{field: tuple(tensor.detach() + distance * towards for tensor, towards in pairs)})
