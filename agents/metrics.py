"""Training metrics: their names, meanings and groups, and their averages between two log lines."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from rfwp.agents.trajectory import Episode


class Metric(NamedTuple):
    """Description of a metric."""

    group: str  # its heading in TensorBoard
    meaning: str


RECENT_EPISODES = 100  # window of the mean return and length


class EpisodeStatistics:
    """Number of full episodes that ended, with the returns and lengths of the most recent ones."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        "episodes": Metric("episodes", "full episodes ended since the start of the run"),
        "return_mean": Metric("episodes", f"mean raw return of the last {RECENT_EPISODES} full episodes"),
        "return_max": Metric("episodes", "highest raw return among those"),
        "length_mean": Metric("episodes", "mean length of those, in agent steps"),
    }

    def __init__(self) -> None:
        self.count = 0
        self.recent: deque[Episode] = deque(maxlen=RECENT_EPISODES)

    def add(self, episodes: Iterable[Episode]) -> None:
        """Count episodes that have ended."""
        for episode in episodes:
            self.count += 1
            self.recent.append(episode)

    @property
    def return_mean(self) -> float | None:
        """Mean raw return of the recent episodes; None before the first has ended."""
        return sum(episode.score for episode in self.recent) / len(self.recent) if self.recent else None

    def metrics(self) -> dict[str, float | None]:
        """Return the values of METRICS."""
        return {
            "episodes": self.count,
            "return_mean": self.return_mean,
            "return_max": max((episode.score for episode in self.recent), default=None),
            "length_mean": sum(episode.length for episode in self.recent) / len(self.recent) if self.recent else None,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics as plain values, for `load_state_dict`."""
        return {"count": self.count, "recent": [tuple(episode) for episode in self.recent]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state written by `state_dict`."""
        self.count = int(state["count"])
        recent = (Episode(float(score), int(length)) for score, length in state["recent"])
        self.recent = deque(recent, maxlen=RECENT_EPISODES)


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
