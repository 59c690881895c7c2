"""Passes the learner's weights to the collector."""

import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WeightBoard:
    """The newest published weights and their version: written by the learner's thread, read by the collector's.

    Publishing makes a copy, so a reader never sees half an update and the learner can go on at once. On a GPU, the
    two may use different streams.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._weights: Sequence[Tensor] = ()
        self._copied: torch.cuda.Event | None = None  # on a GPU: the copy is complete
        self._version = -1

    def publish(self, module: nn.Module, version: int) -> None:
        """Copy the module's weights; `version` counts learner updates."""
        weights = [tensor.detach().clone() for tensor in module.state_dict().values()]
        copied = None
        if weights[0].device.type == "cuda":
            copied = torch.cuda.current_stream(weights[0].device).record_event()
        with self._lock:
            self._weights, self._copied, self._version = weights, copied, version

    def update(self, module: nn.Module, version: int) -> int:
        """Load the newest weights into a module that holds `version`; return the version it now holds."""
        with self._lock:
            weights, copied, newest = self._weights, self._copied, self._version
        if newest != version:
            if copied is not None:
                stream = torch.cuda.current_stream(weights[0].device)
                stream.wait_event(copied)
                for tensor in weights:
                    tensor.record_stream(stream)  # keeps its memory from being reused before this stream has read it
            # One by one: for weights of several types, some versions of torch._foreach_copy_ write nonsense on a GPU.
            for mine, newer in zip(module.state_dict().values(), weights, strict=True):
                mine.copy_(newer)
        return newest
