"""The kernels as PyTorch operators: registered whole, traceable, and acting on states in place."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from rfwp.cuda.delta import _delta, delta, delta_act
from rfwp.cuda.feedback import _feedback, feedback, feedback_act
from rfwp.cuda.gated import _gru, _gru_backward, _lstm, _lstm_backward
from rfwp.cuda.launchers import running
from rfwp.cuda.rdn import _rdn, rdn, rdn_act

T, B, H, D = 3, 2, 2, 16
N, P = H * B, 3 * D + 1


def numbers(*shape: int, gradient: bool = True) -> Tensor:
    return (0.3 * torch.randn(*shape, dtype=torch.float64)).requires_grad_(gradient)


def resets() -> Tensor:
    return torch.rand(T, B) < 0.3


def operators() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Every differentiable operator with arguments."""
    written = (numbers(T, N, 2, D), numbers(T, N, D))
    rate, log_decay, fast = numbers(T, N), numbers(T, N), numbers(N, D, D)
    return {
        "linear_transformer": (_delta, (*written, None, None, fast, resets(), 0)),
        "delta_net": (_delta, (*written, rate, None, fast, resets(), 0)),
        "gated_delta_net": (_delta, (*written, rate, log_decay, fast, resets(), 2)),
        "feedback": (
            _feedback,
            (numbers(T, N, D), numbers(T, N, D), numbers(T, N, D), rate, fast, numbers(N, D), resets(), "softmax", 0),
        ),
        "feedback at unit length": (
            _feedback,
            (numbers(T, N, D), numbers(T, N, D), numbers(T, N, D), rate, fast, numbers(N, D), resets(), "l2", 0),
        ),
        "rdn": (_rdn, (numbers(T, N, P), numbers(H, D, P), fast, numbers(N, D), resets(), "softmax", 0)),
        "rdn at unit length": (_rdn, (numbers(T, N, P), numbers(H, D, P), fast, numbers(N, D), resets(), "l2", 0)),
        "lstm": (_lstm, (numbers(T, B, 20), numbers(20, 5), numbers(B, 5), numbers(B, 5), resets(), 0)),
        "gru": (_gru, (numbers(T, B, 15), numbers(15, 5), numbers(15), numbers(B, 5), resets(), 2)),
    }


NAMES = tuple(operators())
FORWARD = {"feedback": "feedback_forward", "rdn": "rdn_forward"}
# The outputs that a core passes on; the others are saved for the backward pass, and no gradient goes through them.
PASSED_ON = {
    "linear_transformer": 2,
    "delta_net": 2,
    "gated_delta_net": 2,
    "feedback": 3,
    "feedback at unit length": 3,
    "rdn": 3,
    "rdn at unit length": 3,
    "lstm": 2,
    "gru": 1,
}


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_finds_no_fault_in_the_operator(name, on_cpu) -> None:
    operator, arguments = operators()[name]
    assert set(torch.library.opcheck(operator, arguments).values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_differences(name, on_cpu) -> None:
    operator, arguments = operators()[name]
    arguments = (*arguments[:-1], 0)  # a gradient horizon is not the derivative
    assert torch.autograd.gradcheck(lambda *given: operator(*given)[: PASSED_ON[name]], arguments, fast_mode=True)


def act_rdn(slots: Tensor, reset: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, Callable[[], Any]]:
    slow, recurrent = numbers(N, P, gradient=False), numbers(H, D, P, gradient=False)
    fast, last = (state[slots].clone() for state in states)
    return rdn_act(slow, recurrent, *states, slots, reset), lambda: rdn(slow[None], recurrent, fast, last, reset[None])


def act_feedback(slots: Tensor, reset: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, Callable[[], Any]]:
    given = (*(numbers(N, D, gradient=False) for _ in range(3)), numbers(N, gradient=False))
    before = [state[slots].clone() for state in states]
    unroll = [each[None] for each in given]
    return feedback_act(*given, *states, slots, reset), lambda: feedback(*unroll, *before, reset[None])


def act_delta(
    slots: Tensor, reset: Tensor, states: tuple[Tensor, ...], scalars: int = 1
) -> tuple[Tensor, Callable[[], Any]]:
    """scalars: 0 for a Linear Transformer, 1 with a rate, 2 with a decay, too."""
    given = [numbers(N, 2, D, gradient=False), numbers(N, D, gradient=False)]
    given += [numbers(N, gradient=False) for _ in range(scalars)]
    none = [None] * (2 - scalars)
    before = states[0][slots].clone()
    unroll = [each[None] for each in given]
    read = delta_act(*given, *none, states[0], slots, reset)
    return read, lambda: (*delta(*unroll, *none, before, reset[None]), states[1][slots])


ACTS = {
    "linear_transformer": partial(act_delta, scalars=0),
    "delta_net": act_delta,
    "gated_delta_net": partial(act_delta, scalars=2),
    "the second half of delta_rnn": act_feedback,  # the first is a Delta Net
    "rdn": act_rdn,
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_acting_changes_the_games_it_is_given_and_no_other(act, on_cpu) -> None:
    slots = torch.tensor([7, 0, 3, 9])
    reset = torch.tensor([False, True])
    states = (numbers(11, D, D, gradient=False), numbers(11, D, gradient=False))
    before = [state.clone() for state in states]
    read, unroll = act(slots, reset, states)
    expected_read, *expected = unroll()
    others = [slot for slot in range(11) if slot not in slots.tolist()]
    assert torch.equal(read, expected_read[0])
    for state, old, new in zip(states, before, expected, strict=True):
        assert torch.equal(state[others], old[others])
        assert torch.equal(state[slots], new)


def test_a_state_that_cannot_be_changed_in_place_is_refused(on_cpu) -> None:
    state = numbers(11, D, D, gradient=False).mT
    with pytest.raises(ValueError, match="contiguous"):
        act_delta(torch.arange(N), torch.zeros(B, dtype=torch.bool), (state, state))


@pytest.mark.parametrize("name", ["delta_act", "feedback_act", "rdn_act"])
def test_acting_operators_are_registered_whole(name, on_cpu) -> None:
    slots, reset = torch.arange(N), torch.zeros(B, dtype=torch.bool)
    fast, last = numbers(N, D, D, gradient=False), numbers(N, D, gradient=False)
    vector, scalar = numbers(N, D, gradient=False), numbers(N, gradient=False)
    operator, arguments = {
        "delta_act": (delta_act, (numbers(N, 2, D, gradient=False), vector, scalar, None, fast, slots, reset)),
        "feedback_act": (feedback_act, (vector, vector, vector, scalar, fast, last, slots, reset)),
        "rdn_act": (
            rdn_act,
            (numbers(N, P, gradient=False), numbers(H, D, P, gradient=False), fast, last, slots, reset),
        ),
    }[name]
    assert set(torch.library.opcheck(operator, arguments).values()) == {"SUCCESS"}


def test_on_a_device_without_kernels_an_operator_says_where_they_run() -> None:
    operator, arguments = operators()["rdn"]
    with pytest.raises(NotImplementedError, match="CUDA"):
        operator(*arguments)


class Recorder:
    """Runs nothing, and knows what it was asked to run."""

    def __init__(self) -> None:
        self.launched: list[str] = []

    def launch(self, source: str, kernel: str, *_: Any) -> None:
        self.launched.append(kernel.partition("<")[0])


def backward_arguments(name: str) -> tuple[Any, ...]:
    horizon, past, output = 2, numbers(T + 1, B, 5), numbers(T, B, 5)
    if name == "gru":
        return numbers(15, 5), resets(), numbers(T, B, 20), past, output, horizon
    return numbers(20, 5), resets(), numbers(T, B, 20), past, output, numbers(B, 5), horizon


def without_content(arguments: tuple[Any, ...]) -> list[Any]:
    return [each.detach().to("meta") if isinstance(each, Tensor) else each for each in arguments]


@pytest.mark.parametrize("name", NAMES)
def test_no_operator_waits_for_what_is_in_a_tensor(name) -> None:
    """Tensors on "meta" have no content: a look at one from the host, such as at a reset, raises."""
    recorder = Recorder()
    with pytest.raises(RuntimeError, match="meta"):
        bool(resets().to("meta").any())
    operator, arguments = operators()[name]
    backward = {"lstm": _lstm_backward, "gru": _gru_backward}.get(name)
    with running("meta", recorder):
        operator._init_fn(*without_content(arguments))
        if backward is not None:
            backward._init_fn(*without_content(backward_arguments(name)))
    steps = [f"{name}_{direction}" for direction in ("forward", "backward") for _ in range(T)]
    assert recorder.launched == (steps if backward is not None else [FORWARD.get(name.split()[0], "delta_forward")])
