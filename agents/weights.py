"""Hands the learner's weights to whoever acts."""

import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WeightBoard:
    """The newest published weights and their version: written by the learner's thread, read by the collector's.

    A publication is a copy, so that a reader never sees half of an update; the learner goes on at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._weights: Sequence[Tensor] = ()
        self._version = -1

    def publish(self, module: nn.Module, version: int) -> None:
        """Copies the module's weights; `version` counts learner updates."""
        weights = [tensor.detach().clone() for tensor in module.state_dict().values()]
        with self._lock:
            self._weights, self._version = weights, version

    def update(self, module: nn.Module, version: int) -> int:
        """Brings a module of the same shape that holds `version` up to date; returns the version that it now holds."""
        with self._lock:
            weights, newest = self._weights, self._version
        if newest != version:
            with torch.no_grad():
                torch._foreach_copy_(list(module.state_dict().values()), list(weights))
        return newest
