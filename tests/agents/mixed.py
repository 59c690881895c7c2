"""A bandit whose observations have every kind of field and whose actions have three choices. Actors import it."""

from dataclasses import dataclass

import numpy as np

from rfwp.envs.spaces import Field, check_actions
from rfwp.envs.vector_env import EnvConfig, EnvSpec, EpisodeTracker, VectorEnv

SPEC = EnvSpec(
    observation=(
        Field("lamp", "image", (1, 1, 2)),
        Field("weather", "vector", (2,)),
        Field("cards", "categories", (2,), sizes=(3, 4)),
    ),
    action_names=(("DARK", "BRIGHT"), ("COLD", "HOT"), ("CLUBS", "HEARTS", "SPADES")),
    frames_per_step=1,
)


class Mixed(VectorEnv):
    """Every step is an episode. Each choice has one field to answer, and earns a third if it does."""

    spec = SPEC

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.tracker = EpisodeTracker(num_envs)

    def reset(self, seed):
        self.random = np.random.default_rng(seed)
        return self.tracker.open(self.draw())

    def draw(self):
        self.answer = self.random.integers(SPEC.action_sizes, size=(self.num_envs, 3))
        lamp, hot, suit = self.answer.T
        image = np.stack([255 * lamp, self.random.integers(256, size=self.num_envs)], 1).astype(np.uint8)
        degrees = np.stack([2 * hot - 1, self.random.normal(size=self.num_envs)], 1).astype(np.float32)
        return image[:, None, None], degrees, np.stack([suit, self.random.integers(4, size=self.num_envs)], 1)

    def step(self, action):
        check_actions(action, self.num_envs, SPEC.action_sizes)
        reward, over = (action == self.answer).mean(1), np.ones(self.num_envs, np.bool_)
        return self.tracker.advance(self.draw(), reward, over, over)

    def close(self):
        pass


@dataclass(frozen=True)
class Config(EnvConfig):
    """It has no settings."""

    title = "mixed"

    def spec(self):
        return SPEC

    def build(self, num_envs, num_threads=1):
        return Mixed(num_envs)
