"""The recurrent half of the Delta RNN over a whole unroll in one kernel; equations in kernels/feedback.cuh."""

from typing import Any

import torch
from torch import Tensor

from rfwp.cuda.launch import TYPE_NAMES, check_state, input_type
from rfwp.cuda.launchers import launcher

SOURCE = "feedback.cuh"


def feedback(
    read: Tensor,
    key: Tensor,
    value: Tensor,
    rate: Tensor,
    back: Tensor,
    last_output: Tensor,
    reset: Tensor,
    *,
    gradient_horizon: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Add to each read the product of a second fast weight matrix with the softmax of the previous output.

    read: z [T, N, D]; key: k [T, N, D]; value: v [T, N, D]; rate: β [T, N]; back: R [N, D, D], one row per value;
    last_output: y [N, D]; reset: bool [T, B], memory n belongs to sequence n % B -> y [T, N, D], R and y after the last
    step. D is 16, 32 or 64. Inputs are float32 or bfloat16, back and last_output are float32.
    """
    dtype = input_type(back, read, key, value, rate)
    read, key, value, rate = (each.to(dtype) for each in (read, key, value, rate))
    output, after, output_after, *_ = _feedback(read, key, value, rate, back, last_output, reset, gradient_horizon or 0)
    return output, after, output_after


def _kernel(direction: str, key: Tensor, back: Tensor) -> str:
    return f"feedback_{direction}<{TYPE_NAMES[back.dtype]}, {TYPE_NAMES[key.dtype]}, {key.shape[-1]}>"


@torch.library.custom_op("rfwp::feedback", mutates_args=())
def _feedback(
    read: Tensor,
    key: Tensor,
    value: Tensor,
    rate: Tensor,
    back: Tensor,
    last_output: Tensor,
    reset: Tensor,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return y [T, N, D], R [N, D, D] and y [N, D] after the last step; s and e [T, N, D]."""
    output, *after_and_saved = outputs = _feedback_outputs(read, key, value, rate, back, last_output, reset, horizon)
    after, output_after, *saved = after_and_saved
    steps, memories, size = read.shape
    inputs = (read, key, value, rate, back, after, last_output, output_after, reset, None)
    sizes = (steps, memories, reset.shape[1])
    launcher(read.device).launch(
        SOURCE, _kernel("forward", key, back), memories, size, (*inputs, output, *saved, *sizes)
    )
    return outputs


def _feedback_outputs(
    read: Tensor,
    key: Tensor,
    value: Tensor,
    rate: Tensor,
    back: Tensor,
    last_output: Tensor,
    reset: Tensor,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        read.new_empty(read.shape),
        back.new_empty(back.shape),
        back.new_empty(last_output.shape),
        back.new_empty(read.shape),
        back.new_empty(read.shape),
    )


_feedback.register_fake(_feedback_outputs)


@torch.library.custom_op("rfwp::feedback_backward", mutates_args=())
def _feedback_backward(
    key: Tensor,
    rate: Tensor,
    back: Tensor,
    after: Tensor,
    reset: Tensor,
    query: Tensor,
    error: Tensor,
    d_output: Tensor,
    d_after: Tensor,
    d_output_after: Tensor,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return gradients of read, key, value, rate, back and last_output, all in back's type."""
    outputs = _gradients(key, rate, back, after, reset, query, error, d_output, d_after, d_output_after, horizon)
    steps, memories, size = key.shape
    saved = (key, rate, back, after, reset, query, error)
    asked = (d_output.to(back.dtype), d_after, d_output_after)
    sizes = (steps, memories, reset.shape[1], horizon)
    launcher(key.device).launch(
        SOURCE, _kernel("backward", key, back), memories, size, (*saved, *asked, *outputs, *sizes)
    )
    return outputs


def _gradients(
    key: Tensor,
    rate: Tensor,
    back: Tensor,
    after: Tensor,
    reset: Tensor,
    query: Tensor,
    error: Tensor,
    d_output: Tensor,
    d_after: Tensor,
    d_output_after: Tensor,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    d_read, d_key, d_value = (back.new_empty(key.shape) for _ in range(3))
    return d_read, d_key, d_value, back.new_empty(rate.shape), back.new_empty(back.shape), back.new_empty(key.shape[1:])


_feedback_backward.register_fake(_gradients)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, key, _, rate, back, _, reset, ctx.horizon = inputs
    _, after, _, query, error = output
    ctx.save_for_backward(key, rate, back, after, reset, query, error)
    ctx.set_materialize_grads(False)


def _backward(
    ctx: Any, d_output: Tensor | None, d_after: Tensor | None, d_output_after: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    key, rate, back, after, reset, query, error = ctx.saved_tensors
    d_output = torch.zeros_like(query) if d_output is None else d_output
    d_after = torch.zeros_like(after) if d_after is None else d_after
    d_output_after = torch.zeros_like(query[0]) if d_output_after is None else d_output_after
    *d_inputs, d_rate, d_back, d_last_output = _feedback_backward(
        key, rate, back, after, reset, query, error, d_output, d_after, d_output_after, ctx.horizon
    )
    d_read, d_key, d_value = (each.to(key.dtype) for each in d_inputs)
    return d_read, d_key, d_value, d_rate.to(rate.dtype), d_back, d_last_output, None, None


_feedback.register_autograd(_backward, setup_context=_save)


@torch.library.custom_op("rfwp::feedback_act", mutates_args=("state", "last_output"))
def feedback_act(
    read: Tensor,
    key: Tensor,
    value: Tensor,
    rate: Tensor,
    state: Tensor,
    last_output: Tensor,
    slots: Tensor,
    reset: Tensor,
) -> Tensor:
    """Advance the memories at `slots` in state and last_output by one step, in place.

    state: R [slots, D, D]; last_output: y [slots, D]; slots: int64 [N], all different; reset: bool [B]; the rest as
    in `feedback`, without the time axis -> y [N, D].
    """
    check_state(state, last_output)
    memories, size = key.shape
    output = read.new_empty(read.shape)
    states = (state, state, last_output, last_output)
    launcher(read.device).launch(
        SOURCE,
        _kernel("forward", key, state),
        memories,
        size,
        (read, key, value, rate, *states, reset, slots, output, None, None, 1, memories, reset.shape[0]),
    )
    return output


@feedback_act.register_fake
def _feedback_act_output(
    read: Tensor,
    key: Tensor,
    value: Tensor,
    rate: Tensor,
    state: Tensor,
    last_output: Tensor,
    slots: Tensor,
    reset: Tensor,
) -> Tensor:
    return read.new_empty(read.shape)
