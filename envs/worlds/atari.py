"""Atari 2600 games in batches, under a named protocol."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rfwp.envs import published
from rfwp.envs.ale import FRAME_SHAPE, FRAMES_PER_STEP, PROTOCOLS, Protocol, game_seeds, game_spec
from rfwp.envs.games import GAMES, resolve
from rfwp.envs.vector_env import (
    EnvConfig,
    EnvSpec,
    EpisodeTracker,
    Renderer,
    ScoreRange,
    Step,
    VectorEnv,
    check,
    check_actions,
)


@dataclass(frozen=True)
class Config(EnvConfig):
    """An Atari game and the protocol it is played by. Frames are grey, 84 x 84, the last four agent steps stacked.

    A game opens with its first frame four times.
    """

    suite: ClassVar[str] = "atari"
    title_setting: ClassVar[str] = "game"

    game: str = "breakout"
    """One of the 57 games, in any usual spelling; kept as snake_case."""

    protocol: Literal["dqn", "machado"] = "dqn"
    """dqn: minimal actions, FIRE and no-ops at the start, a lost life ends a learner episode. machado: all actions,
    sticky with probability 0.25."""

    max_frames: int = 108_000
    """Emulator frames after which a game is ended, which the learner takes for any other end; 108,000 are half an
    hour."""

    actions: Literal["minimal", "full"] | None = None
    """Actions that the agent has: those that the game uses, or all of the console; null: those of the protocol."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "game", resolve(self.game))
        check(self.protocol in PROTOCOLS, "protocol", self.protocol, ", ".join(PROTOCOLS))
        check(self.actions in ("minimal", "full", None), "actions", self.actions, "minimal, full, null")
        check(1 <= self.max_frames < 2**31, "max_frames", self.max_frames, f"1 to {2**31 - 1}")

    @property
    def title(self) -> str:
        return self.game

    @property
    def rules(self) -> Protocol:
        """What the protocol's name stands for, with the actions that the agent has."""
        rules = PROTOCOLS[self.protocol]
        return rules._replace(full_actions=self.actions == "full") if self.actions else rules

    @property
    def protocols(self) -> tuple[str, ...]:
        return tuple(PROTOCOLS)

    def under(self, protocol: str) -> "Config":
        settings: dict[str, Any] = {"protocol": protocol, "actions": "full" if self.rules.full_actions else "minimal"}
        return replace(self, **settings)

    @property
    def lives(self) -> bool:
        return self.rules.life_ends_episode

    @property
    def renderer(self) -> Callable[[], Renderer]:
        from rfwp.envs.screen import Screen  # loads OpenCV, which actors do without

        return partial(Screen, self.game, self.rules, self.max_frames)

    @property
    def score_range(self) -> ScoreRange:
        """Random play and the human tester."""
        return ScoreRange(low=GAMES[self.game].random, high=GAMES[self.game].human)

    @property
    def reference_scores(self) -> Mapping[str, float]:
        others = published.under(self.protocol)
        return {
            **GAMES[self.game]._asdict(),
            **{f"{other.title} (50M)": published.scores(name)[self.game] for name, other in others.items()},
        }

    @property
    def reference_sources(self) -> str:
        sources = "; ".join(other.source for other in published.under(self.protocol).values())
        return (
            "random play and a professional tester (Wang et al. 2016), and published agents after 50 million agent"
            f" steps under the same protocol: {sources}"
        )

    def spec(self) -> EnvSpec:
        return game_spec(self.game, self.rules)

    def build(self, num_envs: int, num_threads: int = 1) -> "Atari":
        return Atari(self, num_envs, num_threads)


class Atari(VectorEnv):
    """E games of one ROM, stepped by threads of the emulator's own; other Python threads run meanwhile."""

    def __init__(self, config: Config, num_envs: int, num_threads: int = 1) -> None:
        check(num_envs >= 1, "num_envs", num_envs, "1 or more")
        check(num_threads >= 1, "num_threads", num_threads, "1 or more")  # 0 would take every core of the machine
        self.spec = config.spec()
        self.num_envs = num_envs
        self._tracker = EpisodeTracker(num_envs)
        self._emulators = _emulators(config, num_envs, num_threads)

    def reset(self, seed: int) -> Step:
        observation, info = self._emulators.reset(seed=game_seeds(seed, self.num_envs))
        self._first_frame = _first_frame(info)
        self._black = np.full(self.num_envs, FRAME_SHAPE[0] - 1)
        return self._tracker.open(_filled(observation, self._black))

    def step(self, action: NDArray[np.int64]) -> Step:
        # An invalid action would kill a thread of the emulator, and the answer would be awaited for ever.
        check_actions(action, self.num_envs, len(self.spec.action_names))
        observation, reward, terminated, truncated, info = self._emulators.step(action)
        # `terminated` is also set by a lost life, and `lives` is the new game's already (or always 0, as in Pong).
        before, self._first_frame = self._first_frame, _first_frame(info)
        episode_over = self._first_frame != before
        self._black = np.where(episode_over, FRAME_SHAPE[0] - 1, np.maximum(self._black - 1, 0))
        observation = _filled(observation, self._black)
        return self._tracker.advance(observation, reward.astype(np.float32), terminated | truncated, episode_over)

    def close(self) -> None:
        # AtariVectorEnv.close() leaves its threads and emulators behind; they end with the object.
        vars(self).pop("_emulators", None)


def _filled(stacks: NDArray[np.uint8], black: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Write a game's first frame over the `black` ones [E] that stand before it in its stack [E, 4, H, W], in place.

    To a network that has learned to see what moves, a black frame is a flash over the whole screen: activations forty
    times their usual size, at the start of games only.
    """
    for env in np.flatnonzero(black):
        stacks[env, : black[env]] = stacks[env, black[env]]
    return stacks


def _emulators(config: Config, num_envs: int, num_threads: int) -> AtariVectorEnv:
    """Every option that bears on the game is spelt out: the defaults differ by how the environment is made."""
    rules = config.rules
    return AtariVectorEnv(
        config.game,
        num_envs,
        num_threads=num_threads,
        max_num_frames_per_episode=config.max_frames,
        repeat_action_probability=rules.sticky,
        full_action_space=rules.full_actions,
        continuous=False,
        # The new game's first frame comes with the old one's last reward; no step is lost between them.
        autoreset_mode=AutoresetMode.SAME_STEP,
        img_height=FRAME_SHAPE[1],
        img_width=FRAME_SHAPE[2],
        grayscale=True,
        stack_num=FRAME_SHAPE[0],
        frameskip=FRAMES_PER_STEP,
        maxpool=True,
        noop_max=rules.noop_max,
        # `episodic_life` would restart the whole game at every lost life.
        episodic_life=False,
        life_loss_info=rules.life_ends_episode,
        # The learner clips; here it would hide the score.
        reward_clipping=False,
        use_fire_reset=rules.fire_reset,
    )


def _first_frame(info: dict[str, NDArray[np.int32]]) -> NDArray[np.int32]:
    """Give the emulator's frame count [E] at the start of the current game, which changes only when a game begins."""
    return info["frame_number"] - info["episode_frame_number"]
