"""Advice to a user whose settings hide the rewards from the learner."""

import math

from rfwp.agents.actor_learner import Update
from rfwp.runners.settings.config import AgentRunConfig

LOOK_EVERY = 50  # updates; on a GPU, a look makes the host wait
ENOUGH_REWARDS = 1000  # rewards other than 0 before the clip is judged
EARLY = 0.1  # of a run, after which a policy should no longer be uniform


class Advice:
    """Looks at updates for rewards that are mostly clipped, and for a policy that stays uniform. Says each once."""

    def __init__(self, config: AgentRunConfig) -> None:
        self._config = config
        self._rewards = self._clipped = 0
        # Where a protocol sets the rules, clipped rewards are one of them.
        self._judges_clip = config.env.protocol is None
        self._judges_entropy = True

    def look(self, update: Update) -> str | None:
        """Return advice, without a full stop, if this update gives reason to."""
        if update.version % LOOK_EVERY:
            return None
        return self._on_rewards(update) or self._on_entropy(update)

    def _on_rewards(self, update: Update) -> str | None:
        if not self._judges_clip:
            return None
        clip, scale = self._config.objective.reward_clip, self._config.reward_scale
        reward = (scale * update.batch.reward[1:]).abs()
        self._rewards += int((reward > 0).sum())
        self._clipped += int((reward > clip * (1 + 1e-6)).sum())
        if self._rewards < ENOUGH_REWARDS:
            return None
        self._judges_clip = False
        share = self._clipped / self._rewards
        if share < 0.5:
            return None
        return (
            f"{share:.0%} of the rewards are beyond objective.reward_clip {clip:g}, so the learner sees them alike;"
            f" a --reward_scale below {scale:g} makes them smaller"
        )

    def _on_entropy(self, update: Update) -> str | None:
        if not self._judges_entropy or update.agent_steps < EARLY * self._config.total_steps:
            return None
        self._judges_entropy = False
        most = sum(map(math.log, self._config.env.spec().action_sizes))
        entropy = float(update.metrics["entropy"])
        largest = float(update.batch.reward[1:].abs().max())
        if entropy < 0.99 * most:
            return None
        finding = f"after {EARLY:.0%} of the run, the policy is still random (entropy {entropy:.3f} of {most:.3f} nats)"
        if self._config.normalise_values:
            return f"{finding}; it may need more steps, or a lower objective.entropy_cost"
        return (
            f"{finding}; if rewards are small (the largest of an update is {largest:.3g}), --normalise_values or a"
            f" --reward_scale above {self._config.reward_scale:g} lets them outweigh objective.entropy_cost"
        )
