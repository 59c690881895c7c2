"""Unrolls in chunks: where the contract tests of cores do not reach."""

import pytest
import torch
from torch import Tensor

from rfwp.models.core import Core, unroll
from rfwp.models.cores import gated_delta_net
from rfwp.models.fast_weights import delta_rule
from rfwp.models.linear_memory import CHUNK, Inputs, delta_chunks

T, N, D = 3 * CHUNK + 5, 4, 16


def case(dtype: torch.dtype = torch.float64) -> tuple[Inputs, Tensor, Tensor]:
    """Inputs, W and resets."""
    query_key = torch.randn(T, N, 2, D, dtype=dtype).softmax(-1)
    rate, log_decay = torch.rand(T, N, 1, dtype=dtype), -torch.rand(T, N, 1, dtype=dtype)
    inputs = Inputs(query_key, torch.randn(T, N, D, dtype=dtype), rate, log_decay)
    return inputs, torch.randn(N, D, D, dtype=dtype), resets()


def resets() -> Tensor:
    """One in the middle of a chunk, one at its end, one at the next one's start, one at the very end."""
    first = torch.zeros(T, N, dtype=torch.bool)
    first[[CHUNK // 2, CHUNK - 1, CHUNK, T - 1], [0, 1, 2, 3]] = True
    return first


def by_loop(inputs: Inputs, fast: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    def step(inputs: tuple[Tensor, ...], state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        query_key, value, rate, log_decay = inputs
        read, fast = delta_rule(log_decay.exp().unsqueeze(2) * state[0], query_key, value, rate)
        return read, (fast,)

    read, (after,) = unroll(step, inputs, (fast,), first)
    return read, after


def test_chunks_join_where_resets_fall_on_their_edges() -> None:
    torch.manual_seed(0)
    inputs, fast, first = case()
    sought = [each.requires_grad_() for each in (*inputs, fast) if each is not None]
    results = [run(inputs, fast, first) for run in (delta_chunks, by_loop)]
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)
    along = [torch.randn_like(each) for each in results[0]]
    gradients = [torch.autograd.grad(each, sought, along) for each in results]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_a_memory_that_forgets_all_at_once_costs_no_precision() -> None:
    """Sums of log α reach thousands, next to steps that forget almost nothing."""
    torch.manual_seed(0)
    inputs, fast, first = case(torch.float32)
    inputs = inputs._replace(log_decay=torch.where(torch.rand(T, N, 1) < 0.2, -500.0, -1e-3))
    exact = by_loop(inputs.map(Tensor.double), fast.double(), first)
    for actual, expected in zip(delta_chunks(inputs, fast, first), exact, strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_an_input_that_is_not_finite_spoils_its_episode_and_nothing_else(bad: float) -> None:
    torch.manual_seed(0)
    given = case()
    expected, expected_after = delta_chunks(*given)
    given[0].value[3, 0] = bad
    read, after = delta_chunks(*given)
    assert not read[3 : CHUNK // 2, 0].isfinite().any()
    read[3 : CHUNK // 2, 0] = expected[3 : CHUNK // 2, 0]
    assert torch.equal(read, expected)
    assert torch.equal(after, expected_after)


def test_a_core_is_the_same_in_chunks_and_in_a_loop() -> None:
    torch.manual_seed(0)
    core = gated_delta_net.Config(feedforward_size=8).build(5).double()
    x, state, first = torch.randn(T, 2, 5, dtype=torch.float64), core.initial_state(2), resets()[:, :2]
    for actual, expected in zip(core(x, state, first), Core.forward(core, x, state, first), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
