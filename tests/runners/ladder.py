"""An environment that defines what it must and nothing else: it has no capability at all."""

from dataclasses import dataclass

import numpy as np

from rfwp.envs.spaces import Field
from rfwp.envs.vector_env import EnvConfig, EnvSpec, EpisodeTracker, VectorEnv


class Ladder(VectorEnv):
    """Environment e plays episodes of e + 1 steps with a return of e + 1: short episodes have low returns."""

    spec = EnvSpec((Field("pixels", "image", (1, 1, 3)),), (("A", "B"),), 1)

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.tracker = EpisodeTracker(num_envs)
        self.age = np.zeros(num_envs, np.int64)

    def reset(self, seed):
        return self.tracker.open((np.zeros((self.num_envs, 1, 1, 3), np.uint8),))

    def step(self, action):
        self.age += 1
        over = self.age == np.arange(1, self.num_envs + 1)
        self.age[over] = 0
        observation = np.zeros((self.num_envs, 1, 1, 3), np.uint8)
        return self.tracker.advance((observation,), np.ones(self.num_envs, np.float32), over, over)

    def close(self):
        pass


@dataclass(frozen=True)
class Config(EnvConfig):
    """A ladder has no settings."""

    title = "ladder"

    def spec(self):
        return Ladder.spec

    def build(self, num_envs, num_threads=1):
        return Ladder(num_envs)
