"""Alternatives to time the fused kernels against: the same recurrences, all with one signature."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from rfwp.models.core import Core, State, unroll
from rfwp.models.fast_weights import FastMemory
from rfwp.models.gated import GatedCore
from rfwp.runners.machine.errors import UserError

# Inputs, each [T, ...], the state before, bool resets [T, B] -> outputs [T, ...], the state after.
Way = Callable[[tuple[Tensor, ...], State, Tensor], tuple[Tensor, State]]

PAPER_MODULE = "reinforcement_learning/torchbeast/rec_update_fwm_tanh/__init__.py"
WITHOUT_RESETS = ("cudnn", "fla", "paper")


def memory_of(core: Core) -> FastMemory:
    """Return the memory of a fast weight core's first layer."""
    memory = core.get_submodule("blocks.0.memory")
    assert isinstance(memory, FastMemory)
    return memory


def kernel(core: Core) -> Way:
    """Return the fused kernels of a core."""
    if isinstance(core, GatedCore):
        cell = core.layers[0]
        return lambda inputs, state, first: core.fused(cell, core.project(cell, inputs[0]), state, first)
    return memory_of(core).fused


def loop(core: Core, compiled: bool = False) -> Way:
    """Return a Python loop over the step, which torch.compile may fuse into a few kernels."""
    wrap = partial(torch.compile, dynamic=False) if compiled else lambda step: step
    if isinstance(core, GatedCore):
        cell = core.layers[0]
        step = wrap(partial(core.advance_and_read, cell))
        return lambda inputs, state, first: unroll(step, (core.project(cell, inputs[0]),), state, first)
    memory = memory_of(core)
    advance = wrap(memory.advance)
    return lambda inputs, state, first: unroll(advance, inputs, state, first.repeat(1, memory.num_heads))


def cudnn_lstm(core: Core) -> Way:
    """Return PyTorch's LSTM over whole unrolls. It does not support resets."""
    module = _torch_lstm(core)

    def run(inputs: tuple[Tensor, ...], state: State, first: Tensor) -> tuple[Tensor, State]:
        return _advance(module, inputs[0], state)

    return run


def packed_lstm(core: Core) -> Way:
    """Return PyTorch's LSTM over episodes cut at the resets and packed; the host must read the resets to cut them."""
    module = _torch_lstm(core)

    def run(inputs: tuple[Tensor, ...], state: State, first: Tensor) -> tuple[Tensor, State]:
        (x,) = inputs
        segments = segments_of(first.cpu())
        pieces = [x[start:end, b] for b, start, end, _ in segments]
        padded = nn.utils.rnn.pack_sequence(pieces, enforce_sorted=False)
        goes_on = torch.tensor([not fresh for *_, fresh in segments], device=x.device).unsqueeze(1)
        sequence = torch.tensor([b for b, *_ in segments], device=x.device)
        packed, after = _advance(module, padded, tuple(torch.where(goes_on, leaf[sequence], 0.0) for leaf in state))
        outputs = nn.utils.rnn.unpack_sequence(packed)
        last = [i for i, (*_, end, _) in enumerate(segments) if end == first.shape[0]]
        by_sequence = [
            torch.cat([outputs[i] for i, (owner, *_) in enumerate(segments) if owner == b])
            for b in range(first.shape[1])
        ]
        return torch.stack(by_sequence, 1), tuple(leaf[last] for leaf in after)

    return run


def _torch_lstm(core: Core) -> nn.LSTM:
    """Return PyTorch's LSTM with the weights of a core's first layer."""
    cell = core.get_submodule("layers.0")
    assert isinstance(cell, nn.LSTMCell)
    module = nn.LSTM(cell.input_size, cell.hidden_size).to(cell.weight_hh.device)
    for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        module.register_parameter(f"{part}_l0", getattr(cell, part))
    module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]
    return module


def _advance(module: nn.LSTM, x: Any, state: State) -> tuple[Any, State]:
    """Run PyTorch's LSTM over a tensor or packed sequences, in float32 like the others."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        output, after = module(x, tuple(leaf.unsqueeze(0) for leaf in state))
    return output, tuple(leaf.squeeze(0) for leaf in after)


def segments_of(first: Tensor) -> list[tuple[int, int, int, bool]]:
    """Cut resets [T, B] into (sequence, first step, end, True if a reset starts it), by sequence, then by time."""
    steps, batch = first.shape
    segments = []
    for b in range(batch):
        starts = sorted({0, *first[:, b].nonzero().flatten().tolist()})
        for start, end in zip(starts, [*starts[1:], steps], strict=True):
            segments.append((b, start, end, bool(first[start, b])))
    return segments


def flash_linear_attention(core: Core) -> Way | None:
    """Return flash-linear-attention's fused recurrent delta rule if installed. It does not support resets."""
    try:
        from fla.ops.delta_rule import fused_recurrent_delta_rule  # type: ignore[import-not-found]
    except ImportError:
        return None
    heads = memory_of(core).num_heads

    def run(inputs: tuple[Tensor, ...], state: State, first: Tensor) -> tuple[Tensor, State]:
        query_key, value, rate = (
            torch.unflatten(each, 1, (heads, -1)).transpose(0, 2) for each in inputs
        )  # [B, H, T, ...]
        query, key = query_key.unbind(-2)
        fast = torch.unflatten(state[0], 0, (heads, -1)).transpose(0, 1).mT  # [B, H, keys, values]
        by_time = [each.transpose(1, 2).contiguous() for each in (query, key, value, rate.squeeze(-1))]
        read, fast = fused_recurrent_delta_rule(
            *by_time, scale=1.0, initial_state=fast.contiguous(), output_final_state=True
        )
        return read.permute(1, 2, 0, 3).flatten(1, 2), (fast.mT.transpose(0, 1).flatten(0, 1),)

    return run


def paper(core: Core, checkout: Path) -> Way:
    """Return the paper's kernel over a whole unroll, from a checkout of its code. It does not support resets.

    It changes its input state in place and has no gradient for it.
    """
    function = _load(checkout / PAPER_MODULE).rec_update_fwm_tanh
    memory = memory_of(core)
    heads, parts = memory.num_heads, [*[memory.state_shapes[1][-1]] * 3, 1]

    def run(inputs: tuple[Tensor, ...], state: State, first: Tensor) -> tuple[Tensor, State]:
        slow = inputs[0].permute(2, 1, 0, 3).split_with_sizes(parts, -1)  # from [T, H, B, ...] to [B, H, T, ...]
        *recurrent, rate = memory.get_parameter("recurrent").unsqueeze(0).split_with_sizes(parts, -1)
        fast = (
            torch.unflatten(state[0].detach(), 0, (heads, -1)).transpose(0, 1).mT.contiguous()
        )  # [B, H, keys, values]
        last = (
            torch.unflatten(state[1].detach(), 0, (heads, -1)).transpose(0, 1).unsqueeze(2).contiguous()
        )  # [B, H, 1, D]
        read = function(*(each.contiguous() for each in (*slow, *recurrent, rate.mT)), fast, last)
        by_rows = read.permute(2, 1, 0, 3).flatten(1, 2)  # [T, N, D]
        return by_rows, (fast.mT.transpose(0, 1).flatten(0, 1), by_rows[-1])

    return run


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("paper_kernel", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"paper: there is no {path}; allowed: a checkout of the paper's code")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def peers(name: str, core: Core, wanted: Sequence[str], checkout: Path | None) -> dict[str, Way]:
    """Return the alternatives for a core by name, the slow twin first."""
    ways: dict[str, Way | None] = {"loop": loop(core)}
    if "compiled" in wanted:
        ways["compiled"] = loop(core, compiled=True)
    if name == "lstm" and "cudnn" in wanted:
        ways["cudnn"] = cudnn_lstm(core)
    if name == "lstm" and "packed" in wanted:
        ways["packed"] = packed_lstm(core)
    if name == "delta_net" and "fla" in wanted:
        ways["fla"] = flash_linear_attention(core)
    if name == "rdn" and checkout is not None:
        ways["paper"] = paper(core, checkout)
    return {each: way for each, way in ways.items() if way is not None}
