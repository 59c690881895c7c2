"""Scores an agent: a fixed number of episodes is started, and all of them are finished."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, median, pstdev
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rfwp.agents.trajectory import Episode
from rfwp.envs.vector_env import EnvConfig, VectorEnv
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.evaluation.rollout import Policy, rollout
from rfwp.runners.machine.errors import UserError

Score = Literal["episode", "life"]

MAX_ENVS = 32  # played at once
BATCHES = 5  # of lives, over whose means the RFWP paper states mean and deviation
PATIENCE = 50  # negative lives that may be dropped for every one of a batch


@dataclass(frozen=True)
class Evaluation:
    """Scores of an agent, and how they were made."""

    env: EnvConfig  # what was played
    policy: Policy
    score: Score  # full episodes, or single lives as the RFWP paper counts them
    seed: int
    agent_steps: int  # that the agent was trained for
    frames: int  # of those steps
    episodes: list[Episode]  # (or lives), in the order of the environments that played them
    trained_protocol: str | None = None  # where the agent has learned by another one
    dropped: int = 0  # negative lives that were played and not counted

    @property
    def title(self) -> str:
        """Title of the environment."""
        return self.env.title

    @property
    def protocol(self) -> str | None:
        """Protocol under which the scores were made; None if the environment has none."""
        return self.env.protocol

    @property
    def normalised(self) -> float | None:
        """Mean score, normalised to 0 to 1 by the score range; None for lives or without a score range."""
        if self.score == "life" or self.env.score_range is None:
            return None
        return self.env.score_range.normalise(fmean(self.scores))

    @property
    def scores(self) -> list[float]:
        """Raw returns."""
        return [episode.score for episode in self.episodes]

    @property
    def batch_means(self) -> list[float]:
        """Mean score of each batch of lives; full episodes are one batch."""
        size = len(self.episodes) // (BATCHES if self.score == "life" else 1)
        return [fmean(self.scores[start : start + size]) for start in range(0, len(self.episodes), size)]

    def summary(self) -> dict[str, Any]:
        """Everything as plain values."""
        scores = self.scores
        means = {"batch_means": self.batch_means, "deviation_of_means": pstdev(self.batch_means)}
        return {
            "env": self.title,
            "protocol": self.protocol,
            **{name: value for name, value in vars(self).items() if name not in ("env", "episodes")},
            "episodes": len(scores),
            "mean": fmean(scores),
            "median": median(scores),
            "standard_deviation": pstdev(scores),
            "min": min(scores),
            "max": max(scores),
            **(means if self.score == "life" else {}),
            "length_mean": fmean(episode.length for episode in self.episodes),
            "human_normalised": None if self.normalised is None else 100 * self.normalised,
            "returns": scores,
            "lengths": [episode.length for episode in self.episodes],
        }


def evaluate(
    agent: ActorCritic,
    config: EnvConfig,
    episodes: int,
    policy: Policy = "sampled",
    score: Score = "episode",
    seed: int = 0,
    agent_steps: int = 0,
    num_threads: int = 1,
    on_progress: Callable[[int], None] = lambda finished: None,
    drop_negative: bool = False,
) -> Evaluation:
    """Play full episodes, or lives, many at once, with the core's state carried and reset as in training.

    `episodes` full episodes: how many each environment plays is fixed beforehand, or short ones would be counted more
    often. Or, as the published code of the RFWP paper scores a checkpoint, five batches of `episodes` lives each: the
    lives of a batch follow each other in one environment; `drop_negative` plays on until so many are not negative.
    UserError where almost all of them are.
    """
    if score == "life":
        quota = np.full(BATCHES, episodes)
    else:
        quota = np.full(min(MAX_ENVS, episodes), episodes // min(MAX_ENVS, episodes))
        quota[: episodes % len(quota)] += 1
    counts = NotNegative(PATIENCE * episodes) if drop_negative else _Every()
    agent.eval()
    with config.build(len(quota), num_threads) as env:
        played = play(agent, env, quota, policy, score, seed, on_progress, counts=counts)
    return Evaluation(
        env=config,
        policy=policy,
        score=score,
        seed=seed,
        agent_steps=agent_steps,
        frames=agent_steps * config.spec().frames_per_step,
        episodes=[episode for episodes in played for episode in episodes],
        dropped=counts.dropped,
    )


class _Every:
    """Counts whatever was scored."""

    dropped = 0

    def __call__(self, score: float) -> bool:
        return True


class NotNegative(_Every):
    """Counts scores that are not negative, and how many are; UserError at more than `patience` of these."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def __call__(self, score: float) -> bool:
        self.dropped += score < 0
        if self.dropped > self._patience:
            raise UserError(f"drop_negative: {self.dropped} scores were below 0; leave the option out for this agent")
        return score >= 0


def play(
    agent: ActorCritic,
    env: VectorEnv,
    quota: NDArray[np.int64],
    policy: Policy,
    score: Score,
    seed: int,
    on_progress: Callable[[int], None] = lambda finished: None,
    counts: Callable[[float], bool] = lambda score: True,
) -> list[list[Episode]]:
    """Play until each environment e has ended quota[e] episodes (or lives) that count; return those, by environment."""
    played: list[list[Episode]] = [[] for _ in quota]
    life_return, life_length = np.zeros(len(quota)), np.zeros(len(quota), dtype=np.int64)
    steps = (transition.step for transition in rollout(agent, env, policy, seed))
    while any(len(ended) < wanted for ended, wanted in zip(played, quota, strict=True)):
        step = next(steps)
        life_return += step.reward
        life_length += 1
        for index in (step.episode_over if score == "episode" else step.first).nonzero()[0]:
            if len(played[index]) < quota[index]:
                episode = Episode(float(step.episode_return[index]), int(step.episode_length[index]))
                life = Episode(float(life_return[index]), int(life_length[index]))
                ended = episode if score == "episode" else life
                if counts(ended.score):
                    played[index].append(ended)
                    on_progress(sum(map(len, played)))
        life_return[step.first], life_length[step.first] = 0, 0
    return played
