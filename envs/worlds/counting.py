"""Toy task: count the marks in a sequence, then report the number."""

from dataclasses import dataclass

import numpy as np

from rfwp.checks import check
from rfwp.envs.toy import NO_QUESTION, Episodes, ToyConfig


@dataclass(frozen=True)
class Config(ToyConfig):
    """Some observations carry a mark; a signal at the end asks how many there were. Episodes vary in length.

    The number of marks is uniform for every length. Return: at best 1; a random policy gets 1 / (max_count + 1), which
    is also the best possible without memory.
    """

    max_count: int = 3
    """Maximum number of marks in an episode; there is one action per number, from 0."""

    max_steps: int = 8
    """Maximum agent steps before the signal; the minimum is max_count."""

    def __post_init__(self) -> None:
        check(self.max_count >= 1, "max_count", self.max_count, "1 or more")
        check(self.max_steps >= self.max_count, "max_steps", self.max_steps, f"{self.max_count} (max_count) or more")

    @property
    def num_pixels(self) -> int:
        return 2  # mark, signal

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(f"COUNT_{number}" for number in range(self.max_count + 1))

    @property
    def num_questions(self) -> int:
        return 1

    def draw(self, random: np.random.Generator, count: int) -> Episodes:
        steps = random.integers(self.max_count, self.max_steps + 1, size=count)
        marks = random.integers(self.max_count + 1, size=count)
        # The steps with the lowest random numbers get the marks; steps from the signal on get none.
        lot = random.random((count, self.max_steps + 1))
        lot[np.arange(self.max_steps + 1) >= steps[:, None]] = 1
        marked = lot.argsort(axis=1).argsort(axis=1) < marks[:, None]
        signal = np.arange(self.max_steps + 1) == steps[:, None]
        return Episodes(
            observation=np.where(np.stack([marked, signal], axis=2), 255, 0).astype(np.uint8),
            answer=np.where(signal, marks[:, None], NO_QUESTION),
            length=steps + 1,
        )
