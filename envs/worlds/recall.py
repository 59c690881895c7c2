"""Toy task: recall the latest value of each key, after some were overwritten."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfwp.checks import check
from rfwp.envs.toy import NO_QUESTION, Episodes, ToyConfig, one_hot


@dataclass(frozen=True)
class Config(ToyConfig):
    """Associative recall with overwriting, the case that the delta rule is made for.

    Every key is shown once with a value, in random order. Then some keys are shown again with another value. Then keys
    are shown without a value, and each asks for its latest value. Return: at best num_queries; a random policy gets
    num_queries / num_values, which is also the best possible without memory.
    """

    num_keys: int = 3
    """Number of keys; each is shown with a value."""

    num_values: int = 3
    """Number of values and of actions."""

    num_overwrites: int = 1
    """Number of keys that are shown again with a new value."""

    num_queries: int = 3
    """Number of keys that are queried, each once."""

    def __post_init__(self) -> None:
        check(self.num_keys >= 1, "num_keys", self.num_keys, "1 or more")
        check(self.num_values >= 2, "num_values", self.num_values, "2 or more")
        keys = f"{self.num_keys} (num_keys)"
        check(0 <= self.num_overwrites <= self.num_keys, "num_overwrites", self.num_overwrites, f"0 to {keys}")
        check(1 <= self.num_queries <= self.num_keys, "num_queries", self.num_queries, f"1 to {keys}")

    @property
    def num_pixels(self) -> int:
        return self.num_keys + self.num_values

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(f"VALUE_{value}" for value in range(self.num_values))

    @property
    def num_questions(self) -> int:
        return self.num_queries

    def draw(self, random: np.random.Generator, count: int) -> Episodes:
        first = random.integers(self.num_values, size=(count, self.num_keys))  # by key
        second = (first + random.integers(1, self.num_values, size=first.shape)) % self.num_values  # another one
        order = self._shuffled(random, count)
        again = self._shuffled(random, count)[:, : self.num_overwrites]
        asked = self._shuffled(random, count)[:, : self.num_queries]
        newest = first.copy()
        np.put_along_axis(newest, again, np.take_along_axis(second, again, axis=1), axis=1)
        written = [np.take_along_axis(first, order, axis=1), np.take_along_axis(second, again, axis=1)]
        key = np.concatenate([order, again, asked], axis=1)
        value = np.concatenate([*written, np.full_like(asked, -1)], axis=1)
        silent = np.full((count, self.num_keys + self.num_overwrites), NO_QUESTION)
        return Episodes(
            observation=np.concatenate([one_hot(key, self.num_keys), one_hot(value, self.num_values)], axis=2),
            answer=np.concatenate([silent, np.take_along_axis(newest, asked, axis=1)], axis=1),
            length=np.full(count, key.shape[1]),
        )

    def _shuffled(self, random: np.random.Generator, count: int) -> NDArray[np.int64]:
        return random.permuted(np.tile(np.arange(self.num_keys), (count, 1)), axis=1)
