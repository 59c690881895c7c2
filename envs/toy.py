"""Base of the toy memory tasks: episodes are drawn in advance, and a correct answer to a question earns 1."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rfwp.checks import check
from rfwp.envs.spaces import Field, Observation, check_actions
from rfwp.envs.subject import ScoreRange
from rfwp.envs.vector_env import EnvConfig, EnvSpec, EpisodeTracker, Step, VectorEnv

NO_QUESTION = -1  # as an answer: no action earns a reward at this step
CHANCE_TO_BEST = "the best without memory at 0 and the best possible at 100 %"


class Episodes(NamedTuple):
    """N episodes of up to L agent steps. The observations do not depend on the actions."""

    observation: NDArray[np.uint8]  # [N, L, K] pixels
    answer: NDArray[np.int64]  # [N, L] the action that earns a reward of 1, or NO_QUESTION
    length: NDArray[np.int64]  # [N] agent steps


@dataclass(frozen=True)
class ToyConfig(EnvConfig):
    """A task whose observation is K pixels, each 0 or 255. The file name is the task's name."""

    @property
    @abstractmethod
    def num_pixels(self) -> int:
        """K, the size of an observation."""

    @property
    @abstractmethod
    def action_names(self) -> tuple[str, ...]:
        """One name per action."""

    @property
    @abstractmethod
    def num_questions(self) -> int:
        """Questions per episode, which is the best return."""

    @abstractmethod
    def draw(self, random: np.random.Generator, count: int) -> Episodes:
        """Draw `count` episodes, in new arrays."""

    @property
    def suite(self) -> str:
        return "toy"

    @property
    def title(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    @property
    def score_range(self) -> ScoreRange:
        # Every answer is as likely as any other, and nothing that is shown with a question gives it away.
        return ScoreRange(self.num_questions / len(self.action_names), self.num_questions, CHANCE_TO_BEST)

    def spec(self) -> EnvSpec:
        return EnvSpec((Field("pixels", "image", (1, 1, self.num_pixels)),), (self.action_names,), frames_per_step=1)

    def build(self, num_envs: int, num_threads: int = 1) -> "Toy":
        return Toy(self, num_envs)  # NumPy steps all environments at once, so threads would not help


class Toy(VectorEnv):
    """E episodes of a task, stepped together."""

    def __init__(self, config: ToyConfig, num_envs: int) -> None:
        check(num_envs >= 1, "num_envs", num_envs, "1 or more")
        self.spec = config.spec()
        self.num_envs = num_envs
        self._config = config
        self._tracker = EpisodeTracker(num_envs)
        self._rows = np.arange(num_envs)

    def reset(self, seed: int) -> Step:
        self._random = np.random.default_rng(seed)
        self._episodes = self._config.draw(self._random, self.num_envs)
        self._time = np.zeros(self.num_envs, np.int64)
        return self._tracker.open(self._frame())

    def step(self, action: NDArray[np.int64]) -> Step:
        check_actions(action, self.num_envs, self.spec.action_sizes)
        reward = (action[:, 0] == self._episodes.answer[self._rows, self._time]).astype(np.float32)
        self._time += 1
        over = self._time == self._episodes.length
        if over.any():
            self._replace(over)
        return self._tracker.advance(self._frame(), reward, over, over.copy())

    def close(self) -> None:
        pass

    def _replace(self, over: NDArray[np.bool_]) -> None:
        fresh = self._config.draw(self._random, int(over.sum()))
        self._episodes.observation[over] = fresh.observation
        self._episodes.answer[over] = fresh.answer
        self._episodes.length[over] = fresh.length
        self._time[over] = 0

    def _frame(self) -> Observation:
        return (self._episodes.observation[self._rows, self._time][:, None, None],)  # [E, 1, 1, K]


def one_hot(symbol: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Encode symbols [...] as pixels [..., size]: 255 at the symbol's index, 0 elsewhere and for negative symbols."""
    return np.where(symbol[..., None] == np.arange(size), 255, 0).astype(np.uint8)
