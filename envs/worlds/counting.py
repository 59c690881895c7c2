"""Toy task: count marks among blank frames, then give their number."""

from dataclasses import dataclass

import numpy as np

from rfwp.envs.toy import NO_QUESTION, Episodes, ToyConfig
from rfwp.envs.vector_env import check


@dataclass(frozen=True)
class Config(ToyConfig):
    """Some frames carry a mark; a signal at the end asks how many there were. Episodes differ in length.

    The number of marks is uniform, whatever the length. Return: at best 1, at random 1 / (max_count + 1), which is also
    the best without memory.
    """

    max_count: int = 3
    """Most marks in an episode; there is an action for each number from 0."""

    max_steps: int = 8
    """Most agent steps before the signal; there are at least max_count."""

    def __post_init__(self) -> None:
        check(self.max_count >= 1, "max_count", self.max_count, "1 or more")
        check(self.max_steps >= self.max_count, "max_steps", self.max_steps, f"{self.max_count} (max_count) or more")

    @property
    def num_pixels(self) -> int:
        return 2  # mark, signal

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(f"COUNT_{number}" for number in range(self.max_count + 1))

    def draw(self, random: np.random.Generator, count: int) -> Episodes:
        steps = random.integers(self.max_count, self.max_steps + 1, size=count)
        marks = random.integers(self.max_count + 1, size=count)
        # The marks go to the steps with the lowest lots; those after the signal draw none.
        lot = random.random((count, self.max_steps + 1))
        lot[np.arange(self.max_steps + 1) >= steps[:, None]] = 1
        marked = lot.argsort(axis=1).argsort(axis=1) < marks[:, None]
        signal = np.arange(self.max_steps + 1) == steps[:, None]
        return Episodes(
            observation=np.where(np.stack([marked, signal], axis=2), 255, 0).astype(np.uint8),
            answer=np.where(signal, marks[:, None], NO_QUESTION),
            length=steps + 1,
        )
