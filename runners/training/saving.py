"""Saves a run at intervals and at its end, and checks that its agent is worth saving."""

import math
import sys
import time
from collections.abc import Callable

import torch

from rfwp.agents.actor_learner import ActorLearner
from rfwp.agents.collector import Diverged
from rfwp.agents.trajectory import Trajectory
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.training.best_effort import BestEffort
from rfwp.runners.training.memory_estimate import is_out_of_memory
from rfwp.runners.training.timer import Timer


class Saver:
    """Saves a run at intervals. Reports a failing disk and tries again."""

    RETRY_SECONDS = 20.0  # after a checkpoint that could not be written
    LAST_SECONDS = 4.0  # to save after a stop or a failure: SIGKILL often follows SIGTERM soon

    def __init__(self, save: Callable[[], None], seconds: float, report: Callable[[str], None]) -> None:
        """Call `save`, which writes one checkpoint, every `seconds` seconds."""
        self._save = save
        self._interval = Timer(seconds)
        self._disk = BestEffort("checkpoints cannot be written", report)

    def save_if_due(self) -> None:
        """Save if the interval has passed."""
        if self._interval.due() and not self._disk.attempt(self._save):
            self._interval.again_in(self.RETRY_SECONDS)

    def save_at_the_end(self, system: ActorLearner) -> bool:
        """Return True if a checkpoint was written.

        Retry while the disk is full: without limit after a complete run, for LAST_SECONDS after a failure or a stop.
        A full disk raises nothing, so the exception or signal that ended the run is still reported.
        """
        failed, deadline = sys.exception() is not None, math.inf
        while not self._disk.attempt(self._save):
            if failed or system.stopped:
                deadline = min(deadline, time.monotonic() + self.LAST_SECONDS)
            if time.monotonic() >= deadline:
                return False
            time.sleep(self.LAST_SECONDS / 8)
        return True


@torch.no_grad()
def check_agent(agent: ActorCritic, batch: Trajectory) -> None:
    """Raise Diverged if the agent's outputs for the first unroll of a batch are not finite.

    The newest weights may have diverged before anything has acted with them.
    """
    unroll = batch.columns(0, 1)
    agent.eval()  # dropout would draw from the generator
    try:
        output, _ = agent(unroll.observation, unroll.reward, unroll.first, unroll.state)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return  # saving matters more than this check
    finally:
        agent.train()
    if not all(each.isfinite().all() for each in output):
        raise Diverged("the policy's logits and values are no longer finite")
