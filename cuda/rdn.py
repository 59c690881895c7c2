"""Recurrent Delta Net over a whole unroll in one kernel; equations in kernels/rdn.cuh."""

from typing import Any

import torch
from torch import Tensor

from rfwp.cuda.launch import FEATURE_MAPS, TYPE_NAMES, check_state, input_type
from rfwp.cuda.launchers import launcher

SOURCE = "rdn.cuh"


def rdn(
    slow: Tensor,
    recurrent: Tensor,
    fast: Tensor,
    last_read: Tensor,
    reset: Tensor,
    *,
    feature_map: str = "softmax",
    gradient_horizon: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the recurrence. The feature map is softmax or l2.

    slow: q, k, v and the rate before R is added [T, N, 3D + 1]; recurrent: R [num_heads, D, 3D + 1]; fast: W [N, D, D],
    one row per value; last_read: y [N, D]; reset: bool [T, B] -> y [T, N, D], W and y after the last step. The memories
    N = num_heads * B are ordered heads first. D is 16, 32 or 64. slow is float32 or bfloat16, the rest float32.
    """
    slow, recurrent = slow.to(input_type(fast, slow)), recurrent.to(fast.dtype)
    read, after, read_after, *_ = _rdn(slow, recurrent, fast, last_read, reset, feature_map, gradient_horizon or 0)
    return read, after, read_after


def _kernel(slow: Tensor, fast: Tensor, feature_map: str) -> str:
    parameters = (TYPE_NAMES[fast.dtype], TYPE_NAMES[slow.dtype], str(fast.shape[-1]), FEATURE_MAPS[feature_map])
    return f"rdn_forward<{', '.join(parameters)}>"


def _slow_weights_bytes(fast: Tensor) -> int:
    """Return the bytes of a head's R in shared memory: three parts of D lines, with the pitch of rdn.cuh."""
    size = fast.shape[-1]
    return 3 * size * (size + 4) * fast.element_size()


def _forward_bytes(fast: Tensor) -> int:
    return _slow_weights_bytes(fast) if fast.shape[-1] > 32 else 0  # else R is in registers


@torch.library.custom_op("rfwp::rdn", mutates_args=())
def _rdn(
    slow: Tensor, recurrent: Tensor, fast: Tensor, last_read: Tensor, reset: Tensor, feature_map: str, horizon: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return y [T, N, D]; the last W [N, D, D] and y [N, D]; q and k [T, N, 2, D], e [T, N, D], β [T, N], s, and
    what l2 keeps of q and k [T, N, 2]."""
    read, after, read_after, *saved = outputs = _rdn_outputs(
        slow, recurrent, fast, last_read, reset, feature_map, horizon
    )
    steps, memories, size = read.shape
    inputs = (slow, recurrent, fast, after, last_read, read_after, reset, None)
    sizes = (steps, memories, reset.shape[1])
    launcher(slow.device).launch(
        SOURCE, _kernel(slow, fast, feature_map), memories, size, (*inputs, read, *saved, *sizes), _forward_bytes(fast)
    )
    return outputs


def _rdn_outputs(
    slow: Tensor, recurrent: Tensor, fast: Tensor, last_read: Tensor, reset: Tensor, feature_map: str, horizon: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    steps, memories, size = slow.shape[0], *last_read.shape
    return (
        slow.new_empty(steps, memories, size),
        fast.new_empty(fast.shape),
        fast.new_empty(last_read.shape),
        fast.new_empty(steps, memories, 2, size),
        fast.new_empty(steps, memories, size),
        fast.new_empty(steps, memories),
        fast.new_empty(steps, memories, size),
        fast.new_empty(steps, memories, 2 if feature_map == "l2" else 0),
    )


_rdn.register_fake(_rdn_outputs)


@torch.library.custom_op("rfwp::rdn_backward", mutates_args=())
def _rdn_backward(
    recurrent: Tensor,
    fast: Tensor,
    after: Tensor,
    reset: Tensor,
    query_key: Tensor,
    error: Tensor,
    rate: Tensor,
    feedback: Tensor,
    kept: Tensor,
    d_read: Tensor,
    d_after: Tensor,
    d_read_after: Tensor,
    feature_map: str,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients of slow, fast and last_read, all in fast's type."""
    saved = (recurrent, fast, after, reset, query_key, error, rate, feedback, kept)
    outputs = _gradients(*saved, d_read, d_after, d_read_after, feature_map, horizon)
    steps, memories, size = error.shape
    asked = (d_read.to(fast.dtype), d_after, d_read_after)
    kernel = f"rdn_backward<{TYPE_NAMES[fast.dtype]}, {size}, {FEATURE_MAPS[feature_map]}>"
    sizes = (steps, memories, reset.shape[1], horizon)
    launcher(fast.device).launch(
        SOURCE, kernel, memories, size, (*saved, *asked, *outputs, *sizes), _slow_weights_bytes(fast)
    )
    return outputs


def _gradients(
    recurrent: Tensor,
    fast: Tensor,
    after: Tensor,
    reset: Tensor,
    query_key: Tensor,
    error: Tensor,
    rate: Tensor,
    feedback: Tensor,
    kept: Tensor,
    d_read: Tensor,
    d_after: Tensor,
    d_read_after: Tensor,
    feature_map: str,
    horizon: int,
) -> tuple[Tensor, Tensor, Tensor]:
    steps, memories, size = error.shape
    d_slow = fast.new_empty(steps, memories, 3 * size + 1)
    return d_slow, fast.new_empty(fast.shape), fast.new_empty(memories, size)


_rdn_backward.register_fake(_gradients)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    slow, recurrent, fast, _, reset, ctx.feature_map, ctx.horizon = inputs
    read, after, _, *saved = output
    ctx.slow_dtype, ctx.read_shape = slow.dtype, read.shape
    ctx.save_for_backward(recurrent, fast, after, reset, *saved)
    ctx.set_materialize_grads(False)


def _backward(
    ctx: Any, d_read: Tensor | None, d_after: Tensor | None, d_read_after: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    recurrent, fast, after, *_, feedback, _ = saved
    d_read = fast.new_zeros(ctx.read_shape) if d_read is None else d_read
    d_after = torch.zeros_like(after) if d_after is None else d_after
    d_read_after = fast.new_zeros(ctx.read_shape[1:]) if d_read_after is None else d_read_after
    d_slow, d_fast, d_last_read = _rdn_backward(*saved, d_read, d_after, d_read_after, ctx.feature_map, ctx.horizon)
    # One product per step and head, then a sum over the steps: a single product over all steps would keep few
    # multiprocessors busy.
    heads = recurrent.shape[0]
    d_recurrent = (feedback.unflatten(1, (heads, -1)).mT @ d_slow.unflatten(1, (heads, -1))).sum(0)
    return d_slow.to(ctx.slow_dtype), d_recurrent, d_fast, d_last_read, None, None, None


_rdn.register_autograd(_backward, setup_context=_save)


@torch.library.custom_op("rfwp::rdn_act", mutates_args=("state", "last_read"))
def rdn_act(
    slow: Tensor,
    recurrent: Tensor,
    state: Tensor,
    last_read: Tensor,
    slots: Tensor,
    reset: Tensor,
    feature_map: str = "softmax",
) -> Tensor:
    """Advance the memories at `slots` in state and last_read by one step, in place.

    state: W [slots, D, D]; last_read: y [slots, D]; slots: int64 [N], all different; reset: bool [B]; the rest as in
    `rdn`, without the time axis -> y [N, D].
    """
    check_state(state, last_read)
    memories, size = slow.shape[0], state.shape[-1]
    read = slow.new_empty(memories, size)
    states = (state, state, last_read, last_read)
    nothing_saved = (None,) * 5
    launcher(slow.device).launch(
        SOURCE,
        _kernel(slow, state, feature_map),
        memories,
        size,
        (slow, recurrent, *states, reset, slots, read, *nothing_saved, 1, memories, reset.shape[0]),
        _forward_bytes(state),
    )
    return read


@rdn_act.register_fake
def _rdn_act_output(
    slow: Tensor,
    recurrent: Tensor,
    state: Tensor,
    last_read: Tensor,
    slots: Tensor,
    reset: Tensor,
    feature_map: str = "softmax",
) -> Tensor:
    return slow.new_empty(slow.shape[0], state.shape[-1])
