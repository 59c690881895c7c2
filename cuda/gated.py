"""LSTM and GRU over a whole unroll, without reading the resets on the host; equations in kernels/gated.cuh.

Each step is one matrix product and one kernel for the rest. The gradient of the recurrent weights is one product at the
end.
"""

from typing import Any

import torch
from torch import Tensor

from rfwp.cuda.launch import TYPE_NAMES, Argument
from rfwp.cuda.launchers import launcher

SOURCE = "gated.cuh"
THREADS = 256


def lstm(
    from_input: Tensor, weight: Tensor, h: Tensor, c: Tensor, reset: Tensor, *, gradient_horizon: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the recurrence of an LSTM.

    from_input: the input's part of the gates i f u o, with biases [T, B, 4 * size]; weight: R [4 * size, size];
    h, c: [B, size]; reset: bool [T, B] -> h [T, B, size], h and c after the last step. All float32.
    """
    from_input, weight = from_input.to(h.dtype), weight.to(h.dtype)
    output, c, *_ = _lstm(from_input, weight, h, c, reset, gradient_horizon or 0)
    return output, output[-1], c


def gru(
    from_input: Tensor, weight: Tensor, bias: Tensor, h: Tensor, reset: Tensor, *, gradient_horizon: int | None = None
) -> tuple[Tensor, Tensor]:
    """Run the recurrence of a GRU.

    from_input: the input's part of the gates r z u, with its bias [T, B, 3 * size]; weight: R [3 * size, size];
    bias: b' [3 * size]; h: [B, size]; reset: bool [T, B] -> h [T, B, size], h after the last step. All float32.
    """
    from_input, weight, bias = (each.to(h.dtype) for each in (from_input, weight, bias))
    output, *_ = _gru(from_input, weight, bias, h, reset, gradient_horizon or 0)
    return output, output[-1]


def _run(kernel: str, like: Tensor, arguments: tuple[Argument, ...]) -> None:
    """Run a kernel with one thread per element of like [B, size]."""
    batch, size = like.shape
    blocks = -(-batch * size // THREADS)
    name = f"{kernel}<{TYPE_NAMES[like.dtype]}>"
    launcher(like.device).launch(SOURCE, name, blocks, THREADS, (*arguments, batch, size))


def _blocked(reset: Tensor, horizon: int) -> Tensor:
    """Return bool [T, B], True where no gradient crosses to the step before: at resets and every `horizon` steps."""
    if horizon == 0:
        return reset
    boundary = torch.arange(reset.shape[0], device=reset.device) % horizon == 0
    return reset | boundary.unsqueeze(1)


def _next(flags: Tensor, t: int) -> Tensor | None:
    """Return row t + 1; None for the last step, whose state leaves the unroll unchanged."""
    return flags[t + 1] if t + 1 < flags.shape[0] else None


@torch.library.custom_op("rfwp::lstm", mutates_args=())
def _lstm(
    from_input: Tensor, weight: Tensor, h: Tensor, c: Tensor, reset: Tensor, horizon: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return h [T, B, size], the last c [B, size]; and by step, gate activations, c, and h as the products read it."""
    output, after, gates, cells, past = outputs = _lstm_outputs(from_input, weight, h, c, reset, horizon)
    past[0].copy_(h.masked_fill(reset[0].unsqueeze(1), 0.0))
    cells[0].copy_(c)
    for t in range(reset.shape[0]):
        torch.addmm(from_input[t], past[t], weight.t(), out=gates[t])
        cell_states = (cells[t], cells[t + 1])
        _run("lstm_forward", h, (gates[t], *cell_states, reset[t], _next(reset, t), output[t], past[t + 1]))
    after.copy_(cells[-1])
    return outputs


def _lstm_outputs(
    from_input: Tensor, weight: Tensor, h: Tensor, c: Tensor, reset: Tensor, horizon: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    steps, (batch, size) = reset.shape[0], h.shape
    return (
        h.new_empty(steps, batch, size),
        h.new_empty(batch, size),
        h.new_empty(steps, batch, 4 * size),
        h.new_empty(steps + 1, batch, size),
        h.new_empty(steps + 1, batch, size),
    )


_lstm.register_fake(_lstm_outputs)


@torch.library.custom_op("rfwp::lstm_backward", mutates_args=())
def _lstm_backward(
    weight: Tensor, reset: Tensor, gates: Tensor, cells: Tensor, d_output: Tensor, d_after: Tensor, horizon: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients of from_input, h and c."""
    d_gates, d_h, d_c = outputs = _lstm_gradients(weight, reset, gates, cells, d_output, d_after, horizon)
    blocked = _blocked(reset, horizon)
    d_c.copy_(d_after)
    d_next = torch.zeros_like(d_h)
    for t in reversed(range(reset.shape[0])):
        saved = (gates[t], cells[t], cells[t + 1], reset[t], blocked[t], _next(blocked, t))
        _run("lstm_backward", d_h, (*saved, d_output[t], d_next, d_c, d_gates[t]))
        torch.mm(d_gates[t], weight, out=d_next)
    d_h.copy_(d_next.masked_fill(blocked[0].unsqueeze(1), 0.0))
    return outputs


def _lstm_gradients(
    weight: Tensor, reset: Tensor, gates: Tensor, cells: Tensor, d_output: Tensor, d_after: Tensor, horizon: int
) -> tuple[Tensor, Tensor, Tensor]:
    state = d_after.shape
    return gates.new_empty(gates.shape), gates.new_empty(state), gates.new_empty(state)


_lstm_backward.register_fake(_lstm_gradients)


def _lstm_save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, weight, _, _, reset, ctx.horizon = inputs
    _, _, gates, cells, past = output
    ctx.save_for_backward(weight, reset, gates, cells, past)
    ctx.set_materialize_grads(False)


def _lstm_grad(ctx: Any, d_output: Tensor | None, d_after: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    weight, reset, gates, cells, past = ctx.saved_tensors
    d_output = torch.zeros_like(past[1:]) if d_output is None else d_output
    d_after = torch.zeros_like(past[0]) if d_after is None else d_after
    d_gates, d_h, d_c = _lstm_backward(weight, reset, gates, cells, d_output, d_after, ctx.horizon)
    d_weight = d_gates.flatten(0, 1).t() @ past[:-1].flatten(0, 1)
    return d_gates, d_weight, d_h, d_c, None, None


_lstm.register_autograd(_lstm_grad, setup_context=_lstm_save)


@torch.library.custom_op("rfwp::gru", mutates_args=())
def _gru(
    from_input: Tensor, weight: Tensor, bias: Tensor, h: Tensor, reset: Tensor, horizon: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return h [T, B, size]; and by step, gate activations, and h as the products read it."""
    output, gates, past = outputs = _gru_outputs(from_input, weight, bias, h, reset, horizon)
    past[0].copy_(h.masked_fill(reset[0].unsqueeze(1), 0.0))
    from_past = torch.empty_like(from_input[0])
    for t in range(reset.shape[0]):
        torch.addmm(bias, past[t], weight.t(), out=from_past)
        _run("gru_forward", h, (from_input[t], from_past, past[t], _next(reset, t), output[t], past[t + 1], gates[t]))
    return outputs


def _gru_outputs(
    from_input: Tensor, weight: Tensor, bias: Tensor, h: Tensor, reset: Tensor, horizon: int
) -> tuple[Tensor, Tensor, Tensor]:
    steps, (batch, size) = reset.shape[0], h.shape
    return (
        h.new_empty(steps, batch, size),
        h.new_empty(steps, batch, 4 * size),
        h.new_empty(steps + 1, batch, size),
    )


_gru.register_fake(_gru_outputs)


@torch.library.custom_op("rfwp::gru_backward", mutates_args=())
def _gru_backward(
    weight: Tensor, reset: Tensor, gates: Tensor, past: Tensor, d_output: Tensor, horizon: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients of from_input, of the past's part of the gates, and of h."""
    d_input, d_past, d_h = outputs = _gru_gradients(weight, reset, gates, past, d_output, horizon)
    blocked = _blocked(reset, horizon)
    d_next, d_before = torch.zeros_like(d_h), torch.empty_like(d_h)
    for t in reversed(range(reset.shape[0])):
        asked = (_next(blocked, t), d_output[t], d_next)
        _run("gru_backward", d_h, (gates[t], past[t], *asked, d_input[t], d_past[t], d_before))
        torch.addmm(d_before, d_past[t], weight, out=d_next)
    d_h.copy_(d_next.masked_fill(blocked[0].unsqueeze(1), 0.0))
    return outputs


def _gru_gradients(
    weight: Tensor, reset: Tensor, gates: Tensor, past: Tensor, d_output: Tensor, horizon: int
) -> tuple[Tensor, Tensor, Tensor]:
    share = (*reset.shape, weight.shape[0])
    return gates.new_empty(share), gates.new_empty(share), gates.new_empty(past.shape[1:])


_gru_backward.register_fake(_gru_gradients)


def _gru_save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, weight, _, _, reset, ctx.horizon = inputs
    _, gates, past = output
    ctx.save_for_backward(weight, reset, gates, past)
    ctx.set_materialize_grads(False)


def _gru_grad(ctx: Any, d_output: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    weight, reset, gates, past = ctx.saved_tensors
    if d_output is None:
        return (None,) * 6
    d_input, d_past, d_h = _gru_backward(weight, reset, gates, past, d_output, ctx.horizon)
    d_rows = d_past.flatten(0, 1)
    return d_input, d_rows.t() @ past[:-1].flatten(0, 1), d_rows.sum(0), d_h, None, None


_gru.register_autograd(_gru_grad, setup_context=_gru_save)
