"""Toy task: decide at every step whether the symbol equals the one some steps earlier."""

from dataclasses import dataclass

import numpy as np

from rfwp.checks import check
from rfwp.envs.toy import NO_QUESTION, Episodes, ToyConfig, one_hot


@dataclass(frozen=True)
class Config(ToyConfig):
    """The n-back task of psychology: the memory must be rewritten at every step. Half of the symbols match.

    The first `distance` steps ask nothing. Return: at best num_steps - distance; a random policy gets half of that,
    which is also the best possible without memory.
    """

    distance: int = 2
    """Agent steps between the two symbols that are compared."""

    num_symbols: int = 4
    """Number of symbols."""

    num_steps: int = 16
    """Agent steps per episode."""

    def __post_init__(self) -> None:
        check(self.distance >= 1, "distance", self.distance, "1 or more")
        check(self.num_symbols >= 2, "num_symbols", self.num_symbols, "2 or more")
        check(self.num_steps > self.distance, "num_steps", self.num_steps, f"more than {self.distance} (distance)")

    @property
    def num_pixels(self) -> int:
        return self.num_symbols

    @property
    def action_names(self) -> tuple[str, ...]:
        return ("NO_MATCH", "MATCH")

    @property
    def num_questions(self) -> int:
        return self.num_steps - self.distance

    def draw(self, random: np.random.Generator, count: int) -> Episodes:
        symbol = random.integers(self.num_symbols, size=(count, self.num_steps))
        answer = random.integers(2, size=symbol.shape)
        answer[:, : self.distance] = NO_QUESTION
        other = random.integers(1, self.num_symbols, size=symbol.shape)
        for t in range(self.distance, self.num_steps):
            apart = np.where(answer[:, t] == 1, 0, other[:, t])
            symbol[:, t] = (symbol[:, t - self.distance] + apart) % self.num_symbols
        return Episodes(one_hot(symbol, self.num_pixels), answer, length=np.full(count, self.num_steps))
