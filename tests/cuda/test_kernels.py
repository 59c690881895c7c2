"""The kernels compute what the cores' steps define: outputs, final states and gradients."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from covering import pairwise
from torch import Tensor

from rfwp.models.core import Core, State

Run = Callable[[Core, Tensor, State, Tensor], tuple[Tensor, State]]

UNIT_LENGTH = {  # where a feature map is within the kernel
    "delta_rnn with l2": {"feature_map": "l2", "feedback_map": "l2"},
    "rdn with l2": {"feature_map": "l2"},
}
FAST_WEIGHT_CORES = ("delta_net", "delta_rnn", "gated_delta_net", "linear_transformer", "rdn", *UNIT_LENGTH)
GATED_CORES = ("gru", "lstm")
CORES = (*FAST_WEIGHT_CORES, *GATED_CORES)
INPUT_SIZE = 5


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def build(name: str, head_size: int = 32, num_heads: int = 2, **settings: Any) -> Core:
    config = importlib.import_module(f"rfwp.models.cores.{name.split()[0]}").Config
    settings |= UNIT_LENGTH.get(name, {})
    if name in GATED_CORES:
        return config(hidden_size=head_size + 3, num_layers=2, **settings).build(INPUT_SIZE)
    sizes = {"hidden_size": num_heads * head_size, "num_heads": num_heads}
    return config(**sizes, num_layers=1, feedforward_size=8, **settings).build(INPUT_SIZE)


def random_case(core: Core, steps: int, batch: int, density: float) -> tuple[Tensor, State, Tensor]:
    """Inputs, a state that is not zero, and resets."""
    like = next(core.parameters())
    x = torch.randn(steps, batch, INPUT_SIZE).to(like)
    state = tuple(0.5 * torch.randn(batch, *shape).to(like) for shape in core.state_shapes)
    return x, state, (torch.rand(steps, batch) < density).to(like.device)


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


LONG = [(name, 100, 1, 1, (32, 16)[number % 2], 0.02, (None, 50)[number % 2]) for number, name in enumerate(CORES)]
CASES = pairwise(
    CORES,
    (7, 1, 2, 23, 100),  # steps
    (2, 1, 3),  # batch
    (2, 1, 3),  # heads
    (32, 16, 64),  # head size
    (0.3, 0.0, 0.02, 1.0),  # density of resets
    (None, 1, 3, 50),  # gradient horizon
    given=LONG,
)


def in_float32(case: tuple[Tensor, State, Tensor]) -> tuple[Tensor, State, Tensor]:
    x, state, reset = case
    return x.float(), tuple(leaf.float() for leaf in state), reset


@pytest.mark.parametrize(("name", "steps", "batch", "heads", "size", "density", "horizon"), CASES)
def test_kernel_is_the_loop_over_step(name, steps, batch, heads, size, density, horizon, machine) -> None:
    torch.manual_seed(steps)
    core = build(name, size, heads, gradient_horizon=horizon).to(machine.device).double()
    given = random_case(core, steps, batch, density)
    exact = results(by_step, core, *given)
    assert not machine.launched
    if machine.device == "cpu":  # a GPU has kernels for float32 only
        assert largest_error(results(by_kernel, core, *given), exact) < 1e-11

    core, given = core.float(), in_float32(given)
    by_autograd = largest_error(results(by_step, core, *given), exact)
    assert largest_error(results(by_kernel, core, *given), exact) < max(1e-5, 3 * by_autograd)
    assert machine.launched


@pytest.mark.parametrize("name", FAST_WEIGHT_CORES)
def test_all_of_an_unroll_is_written_whatever_the_memory_held(name, machine, monkeypatch) -> None:
    """Outputs and gradients are allocated without being cleared; here they are full of NaN."""

    def poisoned(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return new_empty(self, *args, **kwargs).fill_(torch.nan)

    new_empty = Tensor.new_empty
    core = build(name).to(machine.device)
    given = random_case(core, 9, 3, 0.3)
    expected = results(by_kernel, core, *given)
    monkeypatch.setattr(Tensor, "new_empty", poisoned)
    assert all(map(torch.equal, results(by_kernel, core, *given), expected))


@pytest.mark.parametrize("name", CORES)
def test_any_order_of_threads_and_blocks_gives_the_same_bits(name, machine) -> None:
    core = build(name, head_size=64).to(machine.device)
    given = random_case(core, 11, 3, 0.2)
    first = results(by_kernel, core, *given)
    for machine.seed in (1, 2, 3):
        assert all(map(torch.equal, results(by_kernel, core, *given), first))


@pytest.mark.parametrize("name", FAST_WEIGHT_CORES)
def test_nothing_of_one_memory_reaches_another(name, machine) -> None:
    core = build(name, num_heads=1).to(machine.device)
    x, state, reset = random_case(core, 7, 3, 0.0)
    expected, _ = core(x, state, reset)
    for leaf in state:
        leaf[1] = torch.nan
    y, _ = core(x, state, reset)
    assert torch.equal(y[:, [0, 2]], expected[:, [0, 2]])
    assert y[:, 1].isnan().all()


@pytest.mark.parametrize("name", CORES)
def test_a_reset_clears_even_nan(name, machine) -> None:
    core = build(name).to(machine.device)
    x, state, _ = random_case(core, 4, 2, 0.0)
    reset = torch.zeros(4, 2, dtype=torch.bool, device=machine.device)
    reset[0] = True
    expected = results(by_kernel, core, x, core.initial_state(2), reset)
    state = tuple(torch.full_like(leaf, torch.nan) for leaf in state)
    y, after = core(x, state, reset)
    assert torch.equal(y, expected[0])
    assert all(map(torch.equal, after, expected[1:]))


@pytest.mark.parametrize("name", FAST_WEIGHT_CORES)
def test_bfloat16_inputs_are_rounded_once(name, machine) -> None:
    """The kernel reads bfloat16 exactly and computes in float32, so it agrees with float32 on the rounded inputs."""
    core = build(name, num_heads=2).to(machine.device)
    memory = core.blocks[0].memory
    x = torch.randn(9, 3, 64, device=machine.device)
    inputs = tuple(each.bfloat16() for each in memory.prepare(memory.project(x)))
    state = tuple(torch.randn(6, *shape[1:], device=machine.device) for shape in memory.state_shapes)
    reset = torch.rand(9, 3, device=machine.device) < 0.2
    y, after = memory.fused(inputs, state, reset)
    expected_y, expected_after = memory.fused(tuple(each.float() for each in inputs), state, reset)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected_y.bfloat16(), rtol=1e-2, atol=1e-2)
    if not name.startswith("delta_rnn"):  # whose second kernel reads the first one's rounded output
        assert torch.equal(y, expected_y.bfloat16())
        assert all(map(torch.equal, after, expected_after))


@pytest.mark.parametrize("head_size", [8, 24, 48])
def test_other_head_sizes_take_the_loop(head_size, on_cpu) -> None:
    core = build("rdn", head_size)
    results(by_kernel, core, *random_case(core, 3, 2, 0.3))
    assert not on_cpu.launched


@pytest.mark.parametrize(
    ("name", "feature_map"), [("rdn", "elu_sum_norm"), ("delta_net", "dpfp"), ("delta_rnn", "dpfp")]
)
def test_other_feature_maps_take_the_loop(name, feature_map, on_cpu) -> None:
    core = build(name, feature_map=feature_map)
    results(by_kernel, core, *random_case(core, 3, 2, 0.3))
    assert not on_cpu.launched


def test_kernels_can_be_switched_off(on_cpu, monkeypatch) -> None:
    monkeypatch.setenv("RFWP_KERNELS", "off")
    core = build("rdn")
    results(by_kernel, core, *random_case(core, 3, 2, 0.3))
    assert not on_cpu.launched


def test_without_a_gpu_the_loop_runs() -> None:
    core = build("rdn")
    given = random_case(core, 3, 2, 0.3)
    assert largest_error(results(by_kernel, core, *given), results(by_step, core, *given)) < 1e-5


@pytest.mark.parametrize("name", CORES)
def test_under_autocast_the_kernel_is_the_loop_as_near_as_bfloat16_goes(name, on_cpu) -> None:
    """Autocast hands the kernels some inputs in bfloat16 and some in float32."""
    torch.manual_seed(0)
    core = build(name)
    given = random_case(core, 5, 2, 0.3)
    expected = results(by_step, core, *given)
    with torch.autocast("cpu", torch.bfloat16):
        actual = results(by_kernel, core, *given)
    assert on_cpu.launched
    assert 1e-6 < largest_error(actual, expected) < 0.1


@pytest.mark.parametrize("name", ["rdn", "lstm"])
def test_other_types_of_state_take_the_loop(name, on_cpu) -> None:
    core = build(name).bfloat16()
    results(by_kernel, core, *random_case(core, 3, 2, 0.3))
    assert not on_cpu.launched


@pytest.mark.parametrize(
    "name", [name if name == "rdn" else pytest.param(name, marks=pytest.mark.slow) for name in CORES]
)
def test_a_core_compiles_into_one_graph(name, on_cpu) -> None:
    torch.compiler.reset()  # else the limit on recompilations of one function ends it, after enough cores
    core = build(name)
    given = random_case(core, 5, 2, 0.3)
    expected = results(by_kernel, core, *given)
    on_cpu.launched.clear()
    compiled = torch.compile(by_kernel, backend="aot_eager", fullgraph=True)
    assert largest_error(results(compiled, core, *given), expected) < 1e-6
    assert on_cpu.launched
