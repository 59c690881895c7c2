"""Scores an agent over a fixed number of episodes, all of which are finished."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median, pstdev
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rfwp.agents.metrics import Episode
from rfwp.agents.remote_env import open_env
from rfwp.envs.vector_env import EnvConfig, Step, VectorEnv
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.evaluation.rollout import naming_failures, rollout
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.evaluations import Policy

Score = Literal["episode", "life"]

MAX_ENVS = 32  # played at once
BATCHES = 5  # of lives; the RFWP paper reports mean and deviation of their means
PATIENCE = 50  # negative lives that may be dropped per life in a batch


@dataclass(frozen=True)
class Evaluation:
    """Scores of an agent, and how they were made."""

    env: EnvConfig  # what was played
    policy: Policy
    score: Score  # full episodes, or single lives as the RFWP paper counts them
    seed: int
    steps: int  # of training
    frames: int  # of those steps
    episodes: list[Episode]  # or lives, in the order of the environments that played them
    changed: Mapping[str, Any] = field(default_factory=dict)  # settings of `env` that differ from those of training
    dropped: int = 0  # negative lives that were not counted
    wraps: int = 0  # steps at which the score has wrapped round

    @property
    def title(self) -> str:
        """Title of the environment."""
        return self.env.title

    @property
    def protocol(self) -> str | None:
        """Protocol of the scores; None if the environment has none."""
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
        """Return everything as plain values."""
        scores = self.scores
        means = {"batch_means": self.batch_means, "deviation_of_means": pstdev(self.batch_means)}
        return {
            "env": self.title,
            "protocol": self.protocol,
            "packages": dict(self.env.packages),
            **{name: value for name, value in vars(self).items() if name not in ("env", "episodes")},
            "episodes": len(scores),
            "mean": fmean(scores),
            "median": median(scores),
            "standard_deviation": pstdev(scores),
            "min": min(scores),
            "max": max(scores),
            **(means if self.score == "life" else {}),
            "length_mean": fmean(episode.length for episode in self.episodes),
            "normalised_percent": None if self.normalised is None else 100 * self.normalised,
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
    steps: int = 0,
    num_threads: int = 1,
    on_progress: Callable[[int], None] = lambda finished: None,
    drop_negative: bool = False,
) -> Evaluation:
    """Score an agent over full episodes or lives, many at once; carry and reset the core's state as in training.

    For full episodes, each environment plays a number fixed in advance, because otherwise short episodes would count
    more often. For lives, play five batches of `episodes` lives, as the RFWP paper's published code does; the lives
    of a batch follow each other in one environment. `drop_negative` replaces negative lives by further ones; raise
    UserError if almost all are negative, or if the environment fails.
    """
    if score == "life":
        quota = np.full(BATCHES, episodes)
    else:
        quota = np.full(min(MAX_ENVS, episodes), episodes // min(MAX_ENVS, episodes))
        quota[: episodes % len(quota)] += 1
    counts = NotNegative(PATIENCE * episodes) if drop_negative else _Every()
    wraps = 0

    def look_for_wraps(step: Step) -> None:
        nonlocal wraps
        wraps += int((step.reward < config.lowest_reward).sum())

    agent.eval()
    with naming_failures(config), open_env(config, len(quota), num_threads) as env:
        played = play(agent, env, quota, policy, score, seed, on_progress, counts, look_for_wraps)
    return Evaluation(
        env=config,
        policy=policy,
        score=score,
        seed=seed,
        steps=steps,
        frames=steps * config.spec().frames_per_step,
        episodes=[episode for episodes in played for episode in episodes],
        dropped=counts.dropped,
        wraps=wraps,
    )


class _Every:
    """Counts every score."""

    dropped = 0

    def __call__(self, score: float) -> bool:
        return True


class NotNegative(_Every):
    """Counts scores of 0 or more and drops negative ones; raises UserError after more than `patience` drops."""

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
    on_step: Callable[[Step], None] = lambda step: None,
) -> list[list[Episode]]:
    """Play until each environment e has quota[e] episodes (or lives) that count; return them by environment."""
    played: list[list[Episode]] = [[] for _ in quota]
    life_return, life_length = np.zeros(len(quota)), np.zeros(len(quota), dtype=np.int64)
    steps = (transition.step for transition in rollout(agent, env, policy, seed))
    while any(len(ended) < wanted for ended, wanted in zip(played, quota, strict=True)):
        step = next(steps)
        on_step(step)
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
