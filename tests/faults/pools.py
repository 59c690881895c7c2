"""Actor pools that play by themselves."""

import numpy as np

from rfwp.agents.actor_pool import ActorPool


def play(pool: ActorPool, steps: int) -> None:
    """Takes this many steps in every environment, always with action 0."""
    for _ in range(steps):
        for group in range(pool.config.groups):
            pool.wait(group)
            pool.act(group, np.zeros((pool.envs_per_group, 1), np.int64))
