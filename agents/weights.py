"""Passes the learner's weights to the collector."""

import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WeightBoard:
    """The newest published weights and their version: written by the learner's thread, read by the collector's.

    Publishing makes a copy, so a reader never sees half an update and the learner can go on at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._weights: Sequence[Tensor] = ()
        self._version = -1

    def publish(self, module: nn.Module, version: int) -> None:
        """Copy the module's weights; `version` counts learner updates."""
        weights = [tensor.detach().clone() for tensor in module.state_dict().values()]
        with self._lock:
            self._weights, self._version = weights, version

    def update(self, module: nn.Module, version: int) -> int:
        """Load the newest weights into a module that holds `version`; return the version it now holds."""
        with self._lock:
            weights, newest = self._weights, self._version
        if newest != version:
            with torch.no_grad():
                torch._foreach_copy_(list(module.state_dict().values()), list(weights))
        return newest
