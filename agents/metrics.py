"""Training metrics: their names, meanings and groups, and statistics of episodes."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple


class Metric(NamedTuple):
    """Description of a metric."""

    group: str  # its heading in TensorBoard
    meaning: str


class Episode(NamedTuple):
    """A full episode that ended; on Atari a whole game, even if a lost life ends the learner's episode."""

    score: float  # raw return, unclipped
    length: int  # agent steps


RECENT_EPISODES = 100  # window of the mean return and length


class EpisodeStatistics:
    """Number and total return of the full episodes that ended, with returns and lengths of the most recent ones."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        "episodes": Metric("episodes", "full episodes ended since the start of the run"),
        "return_total": Metric("episodes", "sum of their raw returns"),
        "return_mean": Metric("episodes", f"mean raw return of the last {RECENT_EPISODES} full episodes"),
        "return_max": Metric("episodes", "highest raw return among those"),
        "length_mean": Metric("episodes", "mean length of those, in agent steps"),
    }

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.recent: deque[Episode] = deque(maxlen=RECENT_EPISODES)

    def add(self, episodes: Iterable[Episode]) -> None:
        """Count episodes that have ended."""
        for episode in episodes:
            self.count += 1
            self.total += episode.score
            self.recent.append(episode)

    @property
    def return_mean(self) -> float | None:
        """Mean raw return of the recent episodes; None before the first has ended."""
        return sum(episode.score for episode in self.recent) / len(self.recent) if self.recent else None

    def metrics(self) -> dict[str, float | None]:
        """Return the values of METRICS."""
        return {
            "episodes": self.count,
            "return_total": self.total,
            "return_mean": self.return_mean,
            "return_max": max((episode.score for episode in self.recent), default=None),
            "length_mean": sum(episode.length for episode in self.recent) / len(self.recent) if self.recent else None,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics as plain values, for `load_state_dict`."""
        return {"count": self.count, "total": self.total, "recent": [tuple(episode) for episode in self.recent]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state written by `state_dict`."""
        self.count, self.total = int(state["count"]), float(state["total"])
        recent = (Episode(float(score), int(length)) for score, length in state["recent"])
        self.recent = deque(recent, maxlen=RECENT_EPISODES)
