"""An environment that pays 1 a step and is cut off after LIMIT steps, or, as a twin, ends there. Actors import it."""

from dataclasses import dataclass

import numpy as np

from rfwp.envs.spaces import Field
from rfwp.envs.vector_env import EnvConfig, EnvSpec, EpisodeTracker, VectorEnv

LIMIT = 20


class Endless(VectorEnv):
    """The twin shows how many steps have passed; what is cut off looks the same at every step, as if it went on."""

    def __init__(self, num_envs, terminates):
        self.spec = Config(terminates).spec()
        self.num_envs = num_envs
        self.terminates = terminates
        self.tracker = EpisodeTracker(num_envs)

    def reset(self, seed):
        self.time = np.arange(self.num_envs) % LIMIT  # so that not all end together
        self.cut = np.zeros(self.num_envs, np.bool_)
        return self.tracker.open(self.observe())

    def observe(self):
        return (np.where(np.arange(LIMIT) == self.terminates * self.time[:, None], 1, 0).astype(np.float32),)

    def step(self, action):
        opens = self.cut
        self.time = np.where(opens, 0, self.time + 1)
        over = self.time == LIMIT
        if self.terminates:
            self.time[over] = 0
            return self.tracker.advance(self.observe(), np.ones(self.num_envs), over, over.copy())
        self.cut = over
        return self.tracker.advance(self.observe(), 1.0 - opens, opens.copy(), over.copy(), over.copy())

    def close(self):
        pass


@dataclass(frozen=True)
class Config(EnvConfig):
    """It has one setting."""

    terminates: bool = False
    title = "endless"

    def spec(self):
        return EnvSpec((Field("time", "vector", (LIMIT,)),), (("A", "B"),), 1)

    def build(self, num_envs, num_threads=1):
        return Endless(num_envs, self.terminates)
