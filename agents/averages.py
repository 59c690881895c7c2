"""Averages of the metrics of updates between two log lines."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Averages:
    """Averages of the update metrics since the last `take`, kept on their device so that the host does not wait."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Add the scalar metrics of one update; they must have the same names each time."""
        values = torch.stack(list(metrics.values()))
        self._names = list(metrics)
        self._sum = values if self._sum is None else self._sum + values
        self._count += 1

    def take(self) -> dict[str, float]:
        """Return the averages and start again; {} if nothing was added."""
        if self._sum is None:
            return {}
        means: list[float] = (self._sum / self._count).tolist()
        self._sum, self._count = None, 0
        return dict(zip(self._names, means, strict=True))
