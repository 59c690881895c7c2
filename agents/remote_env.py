"""A vector environment in a separate process, for code that may print, hang or crash."""

import multiprocessing.connection
import os

import numpy as np
from numpy.typing import NDArray

from rfwp.agents import slab
from rfwp.agents.actor_pool import Actor, ActorFailure
from rfwp.envs.spaces import check_actions
from rfwp.envs.vector_env import EnvConfig, Step, VectorEnv


class RemoteEnv(VectorEnv):
    """E environments in one actor process. Their methods raise ActorFailure if it fails."""

    SECONDS = 60.0  # to wait for a step
    GRACE_SECONDS = 2.0  # for the environments to close

    def __init__(self, config: EnvConfig, num_envs: int) -> None:
        self.spec = config.spec()
        self.num_envs = num_envs
        self._config = config
        self._memory = slab.allocate(num_envs, self.spec)
        self._slab = slab.view(self._memory, num_envs, self.spec)
        self._actor: Actor | None = None

    def reset(self, seed: int) -> Step:
        self.close()
        self._actor = Actor(self._config, self.spec, self._memory, self.num_envs, self.num_envs, seed, os.devnull)
        self._actor.take_place(0)
        return self._answer(self._actor)

    def step(self, action: NDArray[np.int64]) -> Step:
        check_actions(action, self.num_envs, self.spec.action_sizes)
        if self._actor is None:
            raise RuntimeError("reset the environments before stepping them")
        self._slab.action[:] = action
        self._actor.request()
        return self._answer(self._actor)

    def _answer(self, actor: Actor) -> Step:
        waited = 0.0
        while not multiprocessing.connection.wait([actor.connection], timeout=1.0):
            waited += 1.0
            if actor.is_late(waited, self.SECONDS):
                raise ActorFailure(f"did not answer within {self.SECONDS:g} s")
        actor.receive()
        observation = tuple(field.copy() for field in self._slab.observation)
        return Step(observation, *(getattr(self._slab, name).copy() for name in Step._fields[1:]))

    def close(self) -> None:
        if self._actor is not None:
            self._actor.close(self.GRACE_SECONDS)
            self._actor = None


def open_env(config: EnvConfig, num_envs: int, num_threads: int) -> VectorEnv:
    """Build environments to play in: here, or in a separate process if their code is not ours."""
    return RemoteEnv(config, num_envs) if config.foreign else config.build(num_envs, num_threads)
