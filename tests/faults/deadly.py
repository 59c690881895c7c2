"""Environments that fail: one kills its process while a row is being written, one raises. Actors import them."""

import os
import random
import signal
from dataclasses import dataclass

from rfwp.envs.vector_env import Step, VectorEnv
from rfwp.envs.worlds import delayed_cue


class DeadlyStep(Step):
    """A step; whoever reads the field called `deadly` is killed."""

    deadly = ""

    def __getattribute__(self, name):
        if name != "deadly" and name == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getattribute__(name)


class Wrapper(VectorEnv):
    """Another environment."""

    def __init__(self, env):
        self.spec, self._world = env.spec, env

    def reset(self, seed):
        return self._world.reset(seed)

    def step(self, action):
        return self._world.step(action)

    def close(self):
        self._world.close()


class Deadly(Wrapper):
    """One chance in 30 of such a step."""

    def reset(self, seed):
        self._random = random.Random(seed)
        return super().reset(seed)

    def step(self, action):
        step = DeadlyStep(*super().step(action))
        if self._random.random() < 1 / 30:
            step.deadly = self._random.choice(Step._fields)
        return step


@dataclass(frozen=True)
class Config(delayed_cue.Config):
    """delayed_cue, in processes that kill themselves."""

    def build(self, num_envs, num_threads=1):
        return Deadly(super().build(num_envs, num_threads))


class Breaking(Wrapper):
    """Lasts for 40 steps."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps > 40:
            raise RuntimeError("the game broke")
        return super().step(action)


@dataclass(frozen=True)
class BreakingConfig(delayed_cue.Config):
    """delayed_cue, in processes that fail again and again."""

    def build(self, num_envs, num_threads=1):
        return Breaking(super().build(num_envs, num_threads))
