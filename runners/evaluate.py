"""Scores an agent: a fixed number of games is started, and all of them are finished."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rfwp.agents.collector import Game
from rfwp.envs.games import human_normalised
from rfwp.envs.world import World, WorldConfig
from rfwp.envs.worlds import atari
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.files import write_whole
from rfwp.runners.play import Policy, moments

Score = Literal["game", "life"]

MAX_ENVS = 32  # played at once


@dataclass(frozen=True)
class Evaluation:
    """Scores of an agent, and the protocol that they were made by."""

    game: str
    protocol: str | None  # of Atari games
    policy: Policy
    score: Score  # full games, or single lives as the RFWP paper counts them
    seed: int
    agent_steps: int  # that the agent was trained for
    frames: int  # of those steps
    games: list[Game]  # (or lives), in the order of the environments that played them

    @property
    def scores(self) -> list[float]:
        """Raw returns."""
        return [game.score for game in self.games]

    def summary(self) -> dict[str, Any]:
        """Everything as plain values."""
        scores = self.scores
        comparable = self.protocol is not None and self.score == "game"
        return {
            **{name: value for name, value in asdict(self).items() if name != "games"},
            "episodes": len(scores),
            "mean": fmean(scores),
            "median": median(scores),
            "standard_deviation": pstdev(scores),
            "min": min(scores),
            "max": max(scores),
            "length_mean": fmean(game.length for game in self.games),
            "human_normalised": human_normalised(self.game, fmean(scores)) if comparable else None,
            "returns": scores,
            "lengths": [game.length for game in self.games],
        }

    def write(self, path: Path) -> None:
        """The summary as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(self.summary(), indent=2) + "\n")


def evaluate(
    agent: ActorCritic,
    config: WorldConfig,
    episodes: int,
    policy: Policy = "sampled",
    score: Score = "game",
    seed: int = 0,
    agent_steps: int = 0,
    num_threads: int = 1,
    on_progress: Callable[[int], None] = lambda finished: None,
) -> Evaluation:
    """Plays `episodes` full games (or lives), many at once, with the core's state carried and reset as in training.

    Every environment plays a number of games that is fixed beforehand, so that short ones are not counted more often.
    """
    # Lives of one game follow each other, as in the paper's scores; games stand alone.
    num_envs = min(MAX_ENVS, episodes if score == "game" else -(-episodes // 5))
    quota = np.full(num_envs, episodes // num_envs)
    quota[: episodes % num_envs] += 1
    agent.eval()
    with config.build(num_envs, num_threads) as world:
        played = play(agent, world, quota, policy, score, seed, on_progress)
    return Evaluation(
        game=config.title,
        protocol=config.protocol if isinstance(config, atari.Config) else None,
        policy=policy,
        score=score,
        seed=seed,
        agent_steps=agent_steps,
        frames=agent_steps * config.spec().frames_per_step,
        games=[game for games in played for game in games],
    )


def play(
    agent: ActorCritic,
    world: World,
    quota: NDArray[np.int64],
    policy: Policy,
    score: Score,
    seed: int,
    on_progress: Callable[[int], None] = lambda finished: None,
) -> list[list[Game]]:
    """Plays until each environment e has ended quota[e] games (or lives); returns those, by environment."""
    played: list[list[Game]] = [[] for _ in quota]
    life_return, life_length = np.zeros(len(quota)), np.zeros(len(quota), dtype=np.int64)
    steps = (moment.step for moment in moments(agent, world, policy, seed))
    while any(len(games) < wanted for games, wanted in zip(played, quota, strict=True)):
        step = next(steps)
        life_return += step.reward
        life_length += 1
        for env in (step.game_over if score == "game" else step.reset).nonzero()[0]:
            if len(played[env]) < quota[env]:
                game = Game(float(step.game_return[env]), int(step.game_length[env]))
                played[env].append(game if score == "game" else Game(float(life_return[env]), int(life_length[env])))
                on_progress(sum(map(len, played)))
        life_return[step.reset], life_length[step.reset] = 0, 0
    return played
