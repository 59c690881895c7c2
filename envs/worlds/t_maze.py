"""Toy task: walk down a corridor, and turn where a sign at its start said."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfwp.checks import check
from rfwp.envs.spaces import Field, Observation, check_actions
from rfwp.envs.subject import ScoreRange
from rfwp.envs.toy import CHANCE_TO_BEST, one_hot
from rfwp.envs.vector_env import EnvConfig, EnvSpec, EpisodeTracker, Step, VectorEnv

FORWARD, LEFT, RIGHT = range(3)


@dataclass(frozen=True)
class Config(EnvConfig):
    """A T-maze (Bakker 2002): `length` sets how long the sign must be remembered.

    The agent sees the sign where it starts, then nothing, then the junction. There a turn ends the episode, and the one
    that the sign showed earns 1. Walking into a wall, by a turn in the corridor or straight on at the junction, costs
    1 / length. An episode ends after 4 * (length + 1) agent steps at the latest. Return: at best 1; without memory 1/2.
    """

    length: int = 10
    """Agent steps from the sign to the junction."""

    def __post_init__(self) -> None:
        check(self.length >= 1, "length", self.length, "1 or more")

    @property
    def suite(self) -> str:
        return "toy"

    @property
    def title(self) -> str:
        return "t_maze"

    @property
    def score_range(self) -> ScoreRange:
        return ScoreRange(1 / 2, 1, CHANCE_TO_BEST)

    def spec(self) -> EnvSpec:
        return EnvSpec((Field("pixels", "image", (1, 1, 3)),), (("FORWARD", "LEFT", "RIGHT"),), frames_per_step=1)

    def build(self, num_envs: int, num_threads: int = 1) -> "TMaze":
        return TMaze(self, num_envs)


class TMaze(VectorEnv):
    """E mazes, stepped together."""

    def __init__(self, config: Config, num_envs: int) -> None:
        check(num_envs >= 1, "num_envs", num_envs, "1 or more")
        self.spec = config.spec()
        self.num_envs = num_envs
        self._length = config.length
        self._tracker = EpisodeTracker(num_envs)

    def reset(self, seed: int) -> Step:
        self._random = np.random.default_rng(seed)
        self._turn = np.empty(self.num_envs, np.int64)  # what the sign shows, LEFT or RIGHT
        self._place = np.empty(self.num_envs, np.int64)  # agent steps from the sign
        self._time = np.empty(self.num_envs, np.int64)
        self._start(np.ones(self.num_envs, bool))
        return self._tracker.open(self._frame())

    def step(self, action: NDArray[np.int64]) -> Step:
        check_actions(action, self.num_envs, self.spec.action_sizes)
        move = action[:, 0]
        at_junction, forward = self._place == self._length, move == FORWARD
        into_wall = at_junction == forward
        reward = np.where(into_wall, -1 / self._length, at_junction & (move == self._turn)).astype(np.float32)
        self._place += forward & ~at_junction
        self._time += 1
        over = (at_junction & ~forward) | (self._time == 4 * (self._length + 1))
        self._start(over)
        return self._tracker.advance(self._frame(), reward, over, over.copy())

    def close(self) -> None:
        pass

    def _start(self, envs: NDArray[np.bool_]) -> None:
        self._turn[envs] = self._random.integers(LEFT, RIGHT + 1, size=int(envs.sum()))
        self._place[envs] = self._time[envs] = 0

    def _frame(self) -> Observation:
        """Return the pixels [E, 1, 1, 3]: sign to the left, sign to the right, junction."""
        seen = np.where(self._place == 0, self._turn - LEFT, np.where(self._place == self._length, 2, -1))
        return (one_hot(seen, 3)[:, None, None],)
