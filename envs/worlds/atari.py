"""Atari 2600 games, stepped in batches under a named protocol."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from rfwp.checks import check
from rfwp.envs import published
from rfwp.envs.ale import FRAME_SHAPE, FRAMES_PER_STEP, PROTOCOLS, Protocol, game_seeds, game_spec
from rfwp.envs.games import GAMES, resolve
from rfwp.envs.spaces import check_actions
from rfwp.envs.subject import ScoreRange
from rfwp.envs.vector_env import (
    EnvConfig,
    EnvSpec,
    EpisodeTracker,
    Renderer,
    Step,
    VectorEnv,
)

# atari/5 predicts the median over all games best among sets of five games (Aitchison et al. 2023).
TITLE_SETS = {
    "atari/5": ("battle_zone", "double_dunk", "name_this_game", "phoenix", "qbert"),
    "atari/57": tuple(GAMES),
}


@dataclass(frozen=True)
class Config(EnvConfig):
    """An Atari game and its protocol. Observations are the last four agent steps' frames, grey, 84 x 84.

    At the start of a game its first frame is stacked four times.
    """

    title_setting: ClassVar[str] = "game"
    title_sets = TITLE_SETS

    game: str = "breakout"
    """One of the 57 games, in any common spelling; stored as snake_case."""

    protocol: Literal["dqn", "machado"] = "dqn"
    """dqn: minimal actions, FIRE and no-ops at the start, a lost life ends a learner episode. machado: all actions,
    sticky with probability 0.25."""

    max_frames: int = 108_000
    """Emulator frames after which a game is cut off; the learner treats this as any other end. 108,000 frames are half
    an hour."""

    actions: Literal["minimal", "full"] | None = None
    """Action set: minimal (those that the game uses), full (all of the console) or null (set by the protocol)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "game", resolve(self.game))
        check(self.protocol in PROTOCOLS, "protocol", self.protocol, ", ".join(PROTOCOLS))
        check(self.actions in ("minimal", "full", None), "actions", self.actions, "minimal, full, null")
        check(1 <= self.max_frames < 2**31, "max_frames", self.max_frames, f"1 to {2**31 - 1}")

    @property
    def title(self) -> str:
        return self.game

    @property
    def suite(self) -> str:
        return "atari"

    @property
    def rules(self) -> Protocol:
        """The rules of the protocol, with the chosen action set."""
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
        from rfwp.envs.screen import Screen  # loads OpenCV, which actors do not need

        return partial(Screen, self.game, self.rules, self.max_frames)

    @property
    def score_range(self) -> ScoreRange:
        return ScoreRange(*GAMES[self.game], "random play at 0 and a professional tester at 100 %")

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

    @property
    def slow_start(self) -> bool:
        return True  # each emulator computes a table of colours for a tenth of a second, and again when it is seeded

    @property
    def lowest_reward(self) -> float:
        # Counters wrap at 100,000 or 1,000,000; the largest penalty of a game is that of Skiing, about 10,000.
        return -50_000

    def spec(self) -> EnvSpec:
        return game_spec(self.game, self.rules)

    def build(self, num_envs: int, num_threads: int = 1) -> "Atari":
        return Atari(self, num_envs, num_threads)


class Atari(VectorEnv):
    """E environments of one ROM, stepped by the emulator's own threads; other Python threads run meanwhile."""

    def __init__(self, config: Config, num_envs: int, num_threads: int = 1) -> None:
        check(num_envs >= 1, "num_envs", num_envs, "1 or more")
        check(num_threads >= 1, "num_threads", num_threads, "1 or more")  # 0 would use every core of the machine
        self.spec = config.spec()
        self.num_envs = num_envs
        self._tracker = EpisodeTracker(num_envs)
        self._emulators = _emulators(config, num_envs, num_threads)

    def reset(self, seed: int) -> Step:
        observation, info = self._emulators.reset(seed=game_seeds(seed, self.num_envs))
        self._first_frame = _first_frame(info)
        self._black = np.full(self.num_envs, FRAME_SHAPE[0] - 1)
        return self._tracker.open((_filled(observation, self._black),))

    def step(self, action: NDArray[np.int64]) -> Step:
        # An invalid action would kill an emulator thread, and step() would wait for ever.
        check_actions(action, self.num_envs, self.spec.action_sizes)
        observation, reward, terminated, truncated, info = self._emulators.step(action[:, 0])
        # A lost life also sets `terminated`, and `lives` already belongs to the new game (or is always 0, as in Pong).
        before, self._first_frame = self._first_frame, _first_frame(info)
        episode_over = self._first_frame != before
        self._black = np.where(episode_over, FRAME_SHAPE[0] - 1, np.maximum(self._black - 1, 0))
        observation = _filled(observation, self._black)
        return self._tracker.advance((observation,), reward, terminated | truncated, episode_over)

    def close(self) -> None:
        # AtariVectorEnv.close() leaks its threads and emulators; deleting the object ends them.
        vars(self).pop("_emulators", None)


def _filled(stacks: NDArray[np.uint8], black: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Overwrite the `black` [E] black frames at the start of each stack [E, 4, H, W] with the first frame, in place.

    A network that has learned to detect motion would see black frames as a flash of the whole screen: at the start of
    a game, its activations would be forty times their usual size.
    """
    for env in np.flatnonzero(black):
        stacks[env, : black[env]] = stacks[env, black[env]]
    return stacks


def _emulators(config: Config, num_envs: int, num_threads: int) -> AtariVectorEnv:
    """Create the emulators. Every option is explicit, because the defaults depend on how the environment is made."""
    rules = config.rules
    return AtariVectorEnv(
        config.game,
        num_envs,
        num_threads=num_threads,
        max_num_frames_per_episode=config.max_frames,
        repeat_action_probability=rules.sticky,
        full_action_space=rules.full_actions,
        continuous=False,
        # The new game's first frame comes with the old game's last reward; no step is lost between them.
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
        # The learner clips rewards; clipping here would hide the score.
        reward_clipping=False,
        use_fire_reset=rules.fire_reset,
    )


def _first_frame(info: dict[str, NDArray[np.int32]]) -> NDArray[np.int32]:
    """Return the emulator's frame count [E] at the start of the current game. It changes only when a game begins."""
    return info["frame_number"] - info["episode_frame_number"]
