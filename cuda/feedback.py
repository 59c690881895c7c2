"""The recurrent half of the Delta RNN over a whole unroll in one kernel; equations in kernels/feedback.cuh."""

from typing import Any

import torch
from torch import Tensor

from rfwp.cuda.launch import FEATURE_MAPS, TYPE_NAMES, check_state, input_type
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
    feature_map: str = "softmax",
    gradient_horizon: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Add to each read the product of a second fast weight matrix with the feature map of the previous output.

    The feature map is softmax or l2.

    read: z [T, N, D]; key: k [T, N, D]; value: v [T, N, D]; rate: β [T, N]; back: R [N, D, D], one row per value;
    last_output: y [N, D]; reset: bool [T, B], memory n belongs to sequence n % B -> y [T, N, D], R and y after the last
    step. D is 16, 32 or 64. Inputs are float32 or bfloat16, back and last_output are float32.
    """
    dtype = input_type(back, read, key, value, rate)
    read, key, value, rate = (each.to(dtype) for each in (read, key, value, rate))
    output, after, output_after, *_ = _feedback(
        read, key, value, rate, back, last_output, reset, feature_map, gradient_horizon or 0
    )
    return output, after, output_after


def _kernel(direction: str, key: Tensor, back: Tensor, feature_map: str) -> str:
    parameters = (TYPE_NAMES[back.dtype], TYPE_NAMES[key.dtype], str(key.shape[-1]), FEATURE_MAPS[feature_map])
    return f"feedback_{direction}<{', '.join(parameters)}>"


@torch.library.custom_op("rfwp::feedback", mutates_args=())
def _feedback(
    read: Tensor,
    key: Tensor,
    value: Tensor,
    rate: Tensor,
    back: Tensor,
    last_output: Tensor,
    reset: Tensor,
    feature_map: str,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return y [T, N, D]; R [N, D, D] and y [N, D] after the last step; s and e [T, N, D], and what l2 keeps [T, N]."""
    output, *after_and_saved = outputs = _feedback_outputs(
        read, key, value, rate, back, last_output, reset, feature_map, horizon
    )
    after, output_after, *saved = after_and_saved
    steps, memories, size = read.shape
    inputs = (read, key, value, rate, back, after, last_output, output_after, reset, None)
    sizes = (steps, memories, reset.shape[1])
    launcher(read.device).launch(
        SOURCE, _kernel("forward", key, back, feature_map), memories, size, (*inputs, output, *saved, *sizes)
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
    feature_map: str,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        read.new_empty(read.shape),
        back.new_empty(back.shape),
        back.new_empty(last_output.shape),
        back.new_empty(read.shape),
        back.new_empty(read.shape),
        back.new_empty(rate.shape if feature_map == "l2" else 0),
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
    kept: Tensor,
    d_output: Tensor,
    d_after: Tensor,
    d_output_after: Tensor,
    feature_map: str,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return gradients of read, key, value, rate, back and last_output, all in back's type."""
    saved = (key, rate, back, after, reset, query, error, kept)
    outputs = _gradients(*saved, d_output, d_after, d_output_after, feature_map, horizon)
    steps, memories, size = key.shape
    asked = (d_output.to(back.dtype), d_after, d_output_after)
    sizes = (steps, memories, reset.shape[1], horizon)
    launcher(key.device).launch(
        SOURCE, _kernel("backward", key, back, feature_map), memories, size, (*saved, *asked, *outputs, *sizes)
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
    kept: Tensor,
    d_output: Tensor,
    d_after: Tensor,
    d_output_after: Tensor,
    feature_map: str,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    d_read, d_key, d_value = (back.new_empty(key.shape) for _ in range(3))
    return d_read, d_key, d_value, back.new_empty(rate.shape), back.new_empty(back.shape), back.new_empty(key.shape[1:])


_feedback_backward.register_fake(_gradients)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, key, _, rate, back, _, reset, ctx.feature_map, ctx.horizon = inputs
    _, after, _, *saved = output
    ctx.save_for_backward(key, rate, back, after, reset, *saved)
    ctx.set_materialize_grads(False)


def _backward(
    ctx: Any, d_output: Tensor | None, d_after: Tensor | None, d_output_after: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    key, rate, _, after, _, query, *_ = saved
    d_output = torch.zeros_like(query) if d_output is None else d_output
    d_after = torch.zeros_like(after) if d_after is None else d_after
    d_output_after = torch.zeros_like(query[0]) if d_output_after is None else d_output_after
    *d_inputs, d_rate, d_back, d_last_output = _feedback_backward(
        *saved, d_output, d_after, d_output_after, ctx.feature_map, ctx.horizon
    )
    d_read, d_key, d_value = (each.to(key.dtype) for each in d_inputs)
    return d_read, d_key, d_value, d_rate.to(rate.dtype), d_back, d_last_output, None, None, None


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
    feature_map: str = "softmax",
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
        _kernel("forward", key, state, feature_map),
        memories,
        size,
        (read, key, value, rate, *states, reset, slots, output, None, None, None, 1, memories, reset.shape[0]),
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
    feature_map: str = "softmax",
) -> Tensor:
    return read.new_empty(read.shape)
