"""What every memory core promises: these tests run over each file in models/cores.

That an unroll is a loop over `step`, and that its gradients are finite differences, is in `test_core_grid.py`.
"""

import pytest
import torch
from every_core import NAMES, config_class, fields, make_core
from torch import Tensor

from rfwp.models.core import Core, State

SMALL = {"hidden_size": 6, "num_layers": 2, "num_heads": 2, "feedforward_size": 5}
INPUT_SIZE, BATCH, LENGTH = 4, 3, 6


def make(name: str, **settings: object) -> Core:
    return make_core(name, INPUT_SIZE, SMALL, **settings)


def inputs(length: int = LENGTH, batch: int = BATCH) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(length, batch, INPUT_SIZE, dtype=torch.float64, generator=generator)


def resets(*where: tuple[int, int], length: int = LENGTH, batch: int = BATCH) -> Tensor:
    first = torch.zeros(length, batch, dtype=torch.bool)
    for t, b in where:
        first[t, b] = True
    return first


def used_state(core: Core, batch: int = BATCH) -> State:
    """A state from the middle of an episode."""
    with torch.no_grad():
        return core(inputs(4, batch).flip(0), core.initial_state(batch), resets(length=4, batch=batch))[1]


def gradients(core: Core, outputs: Tensor, state: State, *others: Tensor) -> list[Tensor]:
    """Gradients of every weight and of `others`, through a fixed random projection of outputs and final state."""
    generator = torch.Generator().manual_seed(2)
    loss = sum(
        (leaf * torch.randn(leaf.shape, dtype=leaf.dtype, generator=generator)).sum() for leaf in (outputs, *state)
    )
    return list(torch.autograd.grad(loss, [*core.parameters(), *others], materialize_grads=True))


def assert_close(actual: object, expected: object) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


every_core = pytest.mark.parametrize("name", NAMES)
every_memory = pytest.mark.parametrize("name", [name for name in NAMES if make(name).state_shapes])
every_horizon = pytest.mark.parametrize("name", [name for name in NAMES if "gradient_horizon" in fields(name)])


@every_core
def test_outputs_and_state_have_the_declared_shapes(name: str) -> None:
    core = make(name)
    state = core.initial_state(BATCH)
    outputs, after = core(inputs(), state, resets())
    assert outputs.shape == (LENGTH, BATCH, core.output_size)
    for leaves in (state, after):
        assert tuple(tuple(leaf.shape) for leaf in leaves) == tuple((BATCH, *shape) for shape in core.state_shapes)
    output, after = core.step(inputs()[0], state)
    assert output.shape == (BATCH, core.output_size)
    assert tuple(tuple(leaf.shape) for leaf in after) == tuple((BATCH, *shape) for shape in core.state_shapes)


@every_core
def test_initial_state_is_zero_and_every_sequence_has_its_own(name: str) -> None:
    for leaf in make(name).initial_state(BATCH):
        assert leaf.count_nonzero() == 0
        leaf[0] = 1
        assert leaf[1:].count_nonzero() == 0


@every_core
def test_a_core_as_configured_by_default_stays_in_float32(name: str) -> None:
    core = config_class(name)().build(INPUT_SIZE)
    outputs, state = core(inputs().float(), core.initial_state(BATCH), resets((2, 1)))
    assert {leaf.dtype for leaf in (outputs, *state)} == {torch.float32}


@every_core
def test_an_unroll_may_be_split_anywhere(name: str) -> None:
    core, x, first = make(name), inputs(), resets((1, 0), (3, 2))
    before = used_state(core)
    outputs, after = core(x, before, first)
    for cut in range(1, LENGTH):
        head, state = core(x[:cut], before, first[:cut])
        tail, state = core(x[cut:], state, first[cut:])
        assert_close((torch.cat([head, tail]), state), (outputs, after))


@every_core
def test_a_reset_equals_a_fresh_start(name: str) -> None:
    core, x = make(name), inputs()
    outputs, state = core(x, used_state(core), resets((0, 0), (0, 1), (0, 2)))
    assert_close((outputs, state), core(x, core.initial_state(BATCH), resets()))


@every_core
def test_two_episodes_in_one_unroll_are_two_unrolls(name: str) -> None:
    core, x = make(name), inputs(batch=1).requires_grad_()
    outputs, state = core(x, core.initial_state(1), resets((2, 0), batch=1))
    first, _ = core(x[:2], core.initial_state(1), resets(length=2, batch=1))
    second, after = core(x[2:], core.initial_state(1), resets(length=LENGTH - 2, batch=1))
    assert_close((outputs, state), (torch.cat([first, second]), after))
    assert_close(gradients(core, outputs, state, x), gradients(core, torch.cat([first, second]), after, x))


@every_core
def test_sequences_in_a_batch_do_not_mix(name: str) -> None:
    core, x, first = make(name), inputs(), resets((2, 1))
    before = used_state(core)
    outputs, after = core(x, before, first)
    for b in range(BATCH):
        alone, state = core(x[:, b : b + 1], tuple(leaf[b : b + 1] for leaf in before), first[:, b : b + 1])
        assert_close((alone[:, 0], *(leaf[0] for leaf in state)), (outputs[:, b], *(leaf[b] for leaf in after)))


@every_core
def test_the_state_that_goes_in_is_left_alone(name: str) -> None:
    core = make(name)
    before = used_state(core)
    copy = tuple(leaf.clone() for leaf in before)
    core(inputs(), before, resets((0, 0), (2, 1)))
    core.step(inputs()[0], before)
    assert all(torch.equal(leaf, kept) for leaf, kept in zip(before, copy, strict=True))


@every_memory
def test_the_gradient_reaches_back_to_the_last_reset_and_no_further(name: str) -> None:
    core, x = make(name), inputs().requires_grad_()
    before = tuple(leaf.requires_grad_() for leaf in used_state(core))
    outputs, _ = core(x, before, resets((2, 0)))
    # Squares, because the sum of a LayerNorm's output is constant.
    loss = outputs[5, :2].square().sum()
    of_input, *of_state = torch.autograd.grad(loss, [x, *before], materialize_grads=True)
    reached = of_input.abs().sum(-1) > 0  # [T, B]
    assert reached[:, 0].tolist() == [False, False, True, True, True, True]
    assert reached[:, 1].all()
    assert not reached[:, 2].any()
    assert all(leaf[0].count_nonzero() == 0 for leaf in of_state)
    assert any(leaf[1].count_nonzero() > 0 for leaf in of_state)


@every_horizon
@pytest.mark.parametrize("horizon", [1, 4, None])
def test_gradient_horizon_cuts_the_unroll_into_pieces(name: str, horizon: int | None) -> None:
    core, x = make(name, gradient_horizon=horizon), inputs().requires_grad_()
    before = tuple(leaf.requires_grad_() for leaf in used_state(core))
    outputs, _ = core(x, before, resets())
    assert_close(outputs, make(name)(x, before, resets())[0])
    for t, output in enumerate(outputs):
        of_input, *of_state = torch.autograd.grad(output.sum(), [x, *before], retain_graph=True, materialize_grads=True)
        piece_start = 0 if horizon is None else t // horizon * horizon
        reached = of_input.abs().sum((1, 2)) > 0
        assert reached.tolist() == [piece_start <= at <= t for at in range(LENGTH)]
        assert any(leaf.count_nonzero() > 0 for leaf in of_state) == (horizon is None)


@every_horizon
def test_gradient_horizon_gives_the_gradients_of_short_unrolls(name: str) -> None:
    core, x, first = make(name, gradient_horizon=3), inputs(), resets((1, 0), (3, 2), (5, 1))
    state = used_state(core)
    outputs, after = core(x, state, first)
    pieces, whole = [], make(name)
    for start in range(0, LENGTH, 3):
        piece, state = whole(x[start : start + 3], tuple(leaf.detach() for leaf in state), first[start : start + 3])
        pieces.append(piece)
    assert_close(gradients(core, outputs, after), gradients(whole, torch.cat(pieces), state))


@every_memory
def test_nan_stays_in_its_own_game_and_ends_with_its_episode(name: str) -> None:
    core, x, first = make(name), inputs(), resets((3, 1))
    clean = used_state(core)
    poisoned = tuple(leaf.clone() for leaf in clean)
    for leaf in poisoned:
        leaf[1] = torch.nan
    outputs, after = core(x, poisoned, first)
    expected, expected_after = core(x, clean, first)
    assert outputs[:3, 1].isnan().all()
    others = [0, 2]
    assert torch.equal(outputs[:, others], expected[:, others])
    assert torch.equal(outputs[3:, 1], expected[3:, 1])
    assert all(torch.equal(leaf, kept) for leaf, kept in zip(after, expected_after, strict=True))


@every_memory
def test_the_past_changes_the_present(name: str) -> None:
    core, x = make(name), inputs()
    changed = x.clone()
    changed[0] += 1
    state = core.initial_state(BATCH)
    difference = core(x, state, resets())[0][-1] - core(changed, state, resets())[0][-1]
    assert (difference.abs().amax(-1) > 1e-6).all()


@pytest.mark.parametrize("name", [name for name in NAMES if "dropout" in fields(name)])
def test_dropout_acts_in_training_mode_only(name: str) -> None:
    core, x = make(name, dropout=0.5), inputs()
    state = core.initial_state(BATCH)
    assert not torch.equal(core(x, state, resets())[0], core(x, state, resets())[0])
    core.eval()
    assert_close(core(x, state, resets())[0], make(name)(x, state, resets())[0])


@every_core
def test_settings_that_make_no_sense_are_refused_by_name(name: str) -> None:
    for field, value in [("num_layers", 0), ("hidden_size", 0), ("gradient_horizon", 0)]:
        if field in fields(name):
            with pytest.raises(ValueError, match=f"^{field}: got {value}; allowed: "):
                config_class(name)(**{field: value})


@pytest.mark.slow
@every_memory
def test_ten_thousand_steps_of_loud_inputs_leave_every_state_finite(name: str) -> None:
    torch.manual_seed(0)
    core = config_class(name)().build(INPUT_SIZE)
    state = core.initial_state(2)
    with torch.no_grad():
        for _ in range(100):
            outputs, state = core(10 * torch.randn(100, 2, INPUT_SIZE), state, resets(length=100, batch=2))
            assert all(leaf.isfinite().all() for leaf in (outputs, *state))
