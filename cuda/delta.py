"""Linear Transformer, Delta Net, Gated Delta Net: a whole unroll in one kernel; equations in kernels/delta.cuh."""

from typing import Any

import torch
from torch import Tensor

from rfwp.cuda.launch import TYPE_NAMES, check_state, input_type
from rfwp.cuda.launchers import launcher

SOURCE = "delta.cuh"


def delta(
    query_key: Tensor,
    value: Tensor,
    rate: Tensor | None,
    log_decay: Tensor | None,
    fast: Tensor,
    reset: Tensor,
    *,
    gradient_horizon: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Write value at key, then read at query, at every step.

    query_key: q and k [T, N, 2, D]; value: v [T, N, D]; rate: β [T, N], or None to add without correcting; log_decay:
    log α [T, N], or None for no decay (needs a rate); fast: W [N, D, D], one row per value; reset: bool [T, B], memory
    n belongs to sequence n % B -> y [T, N, D], W after the last step. D is 16, 32 or 64. Inputs are float32 or
    bfloat16, fast is float32.
    """
    dtype = input_type(fast, query_key, value, rate, log_decay)
    query_key, value = query_key.to(dtype), value.to(dtype)
    rate, log_decay = (None if each is None else each.to(dtype) for each in (rate, log_decay))
    read, after, _ = _delta(query_key, value, rate, log_decay, fast, reset, gradient_horizon or 0)
    return read, after


def _kernel(direction: str, value: Tensor, fast: Tensor, rate: Tensor | None, log_decay: Tensor | None) -> str:
    flags = ", ".join(str(each is not None).lower() for each in (rate, log_decay))
    return f"delta_{direction}<{TYPE_NAMES[fast.dtype]}, {TYPE_NAMES[value.dtype]}, {value.shape[-1]}, {flags}>"


@torch.library.custom_op("rfwp::delta", mutates_args=())
def _delta(
    query_key: Tensor,
    value: Tensor,
    rate: Tensor | None,
    log_decay: Tensor | None,
    fast: Tensor,
    reset: Tensor,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y [T, N, D], W after the last step [N, D, D], e [T, N, D] (empty without a rate)."""
    read, after, error = outputs = _delta_outputs(query_key, value, rate, log_decay, fast, reset, horizon)
    steps, memories, size = value.shape
    kernel = _kernel("forward", value, fast, rate, log_decay)
    inputs = (query_key, value, rate, log_decay, fast, after, reset, None)
    sizes = (steps, memories, reset.shape[1])
    launcher(value.device).launch(SOURCE, kernel, memories, size, (*inputs, read, error, *sizes))
    return outputs


def _delta_outputs(
    query_key: Tensor,
    value: Tensor,
    rate: Tensor | None,
    log_decay: Tensor | None,
    fast: Tensor,
    reset: Tensor,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor]:
    error = fast.new_empty(value.shape if rate is not None else (0,))
    return value.new_empty(value.shape), fast.new_empty(fast.shape), error


_delta.register_fake(_delta_outputs)


@torch.library.custom_op("rfwp::delta_backward", mutates_args=())
def _delta_backward(
    query_key: Tensor,
    value: Tensor,
    rate: Tensor | None,
    log_decay: Tensor | None,
    fast: Tensor,
    after: Tensor,
    reset: Tensor,
    read: Tensor,
    error: Tensor,
    d_read: Tensor,
    d_after: Tensor,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return gradients of query_key, value, rate, log_decay (empty if absent) and fast, all in fast's type."""
    outputs = _gradients(query_key, value, rate, log_decay, fast, after, reset, read, error, d_read, d_after, horizon)
    steps, memories, size = value.shape
    kernel = _kernel("backward", value, fast, rate, log_decay)
    saved = (query_key, value, rate, log_decay, fast, after, reset, read, error, d_read.to(fast.dtype), d_after)
    sizes = (steps, memories, reset.shape[1], horizon)
    launcher(value.device).launch(SOURCE, kernel, memories, size, (*saved, *outputs, *sizes))
    return outputs


def _gradients(
    query_key: Tensor,
    value: Tensor,
    rate: Tensor | None,
    log_decay: Tensor | None,
    fast: Tensor,
    after: Tensor,
    reset: Tensor,
    read: Tensor,
    error: Tensor,
    d_read: Tensor,
    d_after: Tensor,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    scalars = value.shape[:2]
    d_rate = fast.new_empty(scalars if rate is not None else (0,))
    d_log_decay = fast.new_empty(scalars if log_decay is not None else (0,))
    return fast.new_empty(query_key.shape), fast.new_empty(value.shape), d_rate, d_log_decay, fast.new_empty(fast.shape)


_delta_backward.register_fake(_gradients)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.horizon = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, d_read: Tensor | None, d_after: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    query_key, value, rate, log_decay, fast, reset, read, after, error = ctx.saved_tensors
    d_read = torch.zeros_like(read) if d_read is None else d_read
    d_after = torch.zeros_like(after) if d_after is None else d_after
    d_query_key, d_value, d_rate, d_log_decay, d_fast = _delta_backward(
        query_key, value, rate, log_decay, fast, after, reset, read, error, d_read, d_after, ctx.horizon
    )
    return (
        d_query_key.to(query_key.dtype),
        d_value.to(value.dtype),
        d_rate.to(rate.dtype) if rate is not None else None,
        d_log_decay.to(log_decay.dtype) if log_decay is not None else None,
        d_fast,
        None,
        None,
    )


_delta.register_autograd(_backward, setup_context=_save)


@torch.library.custom_op("rfwp::delta_act", mutates_args=("state",))
def delta_act(
    query_key: Tensor,
    value: Tensor,
    rate: Tensor | None,
    log_decay: Tensor | None,
    state: Tensor,
    slots: Tensor,
    reset: Tensor,
) -> Tensor:
    """Advance the memories at `slots` in state [slots, D, D] by one step, in place.

    slots: int64 [N], all different; reset: bool [B]; the rest as in `delta`, without the time axis -> y [N, D].
    """
    check_state(state)
    memories, size = value.shape
    read = value.new_empty(value.shape)
    kernel = _kernel("forward", value, state, rate, log_decay)
    inputs = (query_key, value, rate, log_decay, state, state, reset, slots)
    launcher(value.device).launch(SOURCE, kernel, memories, size, (*inputs, read, None, 1, memories, reset.shape[0]))
    return read


@delta_act.register_fake
def _delta_act_output(
    query_key: Tensor,
    value: Tensor,
    rate: Tensor | None,
    log_decay: Tensor | None,
    state: Tensor,
    slots: Tensor,
    reset: Tensor,
) -> Tensor:
    return value.new_empty(value.shape)
