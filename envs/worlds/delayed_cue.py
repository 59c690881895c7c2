"""Toy task: repeat a cue that was shown some steps earlier."""

from dataclasses import dataclass

import numpy as np

from rfwp.checks import check
from rfwp.envs.toy import NO_QUESTION, Episodes, ToyConfig, one_hot


@dataclass(frozen=True)
class Config(ToyConfig):
    """The simplest memory task: a cue, blank observations, then a signal that asks for the cue.

    Return: at best 1; a random policy gets 1 / num_cues, which is also the best possible without memory.
    """

    delay: int = 6
    """Blank agent steps between the cue and the signal."""

    num_cues: int = 4
    """Number of cues and of actions."""

    def __post_init__(self) -> None:
        check(self.delay >= 0, "delay", self.delay, "0 or more")
        check(self.num_cues >= 2, "num_cues", self.num_cues, "2 or more")

    @property
    def num_pixels(self) -> int:
        return self.num_cues + 1  # the last one is the signal

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(f"CUE_{cue}" for cue in range(self.num_cues))

    @property
    def num_questions(self) -> int:
        return 1

    def draw(self, random: np.random.Generator, count: int) -> Episodes:
        cue = random.integers(self.num_cues, size=count)
        symbol = np.full((count, self.delay + 2), -1)
        symbol[:, 0], symbol[:, -1] = cue, self.num_cues
        answer = np.full_like(symbol, NO_QUESTION)
        answer[:, -1] = cue
        return Episodes(one_hot(symbol, self.num_pixels), answer, length=np.full(count, self.delay + 2))
