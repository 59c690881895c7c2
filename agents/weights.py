"""Passes the learner's weights to the collector."""

import threading

import torch
from torch import Tensor, nn


class WeightBoard:
    """The newest published weights and their version: written by the learner's thread, read by the collector's.

    Publishing makes a copy, so a reader never sees half an update and the learner can go on at once. On a GPU, the
    two may use different streams. All weights of a type are copied in one piece: a GPU takes longer to be told of 60
    copies than to make them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._weights: dict[torch.dtype, Tensor] = {}  # all of a type, flat, in the order of the module's state
        self._types: list[torch.dtype] = []  # of the module's state
        self._copied: torch.cuda.Event | None = None  # on a GPU: the copy is complete
        self._version = -1

    def publish(self, module: nn.Module, version: int) -> None:
        """Copy the module's weights; `version` counts learner updates."""
        tensors, copied = list(module.state_dict().values()), None
        types = [tensor.dtype for tensor in tensors]
        weights = {
            dtype: torch.cat([tensor.flatten() for tensor in tensors if tensor.dtype == dtype]) for dtype in set(types)
        }
        if tensors[0].device.type == "cuda":
            copied = torch.cuda.current_stream(tensors[0].device).record_event()
        with self._lock:
            self._weights, self._types, self._copied, self._version = weights, types, copied, version

    def update(self, module: nn.Module, version: int) -> int:
        """Load the newest weights into a module that holds `version`; return the version it now holds."""
        with self._lock:
            weights, types, copied, newest = self._weights, self._types, self._copied, self._version
        if newest != version:
            mine = list(module.state_dict().values())
            if copied is not None:
                stream = torch.cuda.current_stream(mine[0].device)
                stream.wait_event(copied)
                for flat in weights.values():
                    flat.record_stream(stream)  # keeps its memory from being reused before this stream has read it
            for dtype, flat in weights.items():
                _fill([tensor for tensor, its in zip(mine, types, strict=True) if its == dtype], flat)
        return newest


def _fill(tensors: list[Tensor], flat: Tensor) -> None:
    """Copy a flat tensor into several, in order; they may be of other types."""
    sizes = [tensor.numel() for tensor in tensors]
    for dtype in {tensor.dtype for tensor in tensors}:
        # Cast first: between types, some versions of torch._foreach_copy_ write nonsense on a GPU.
        parts = zip(tensors, torch.split(flat.to(dtype), sizes), strict=True)
        pairs = [(tensor, part.view_as(tensor)) for tensor, part in parts if tensor.dtype == dtype]
        torch._foreach_copy_([target for target, _ in pairs], [source for _, source in pairs])
