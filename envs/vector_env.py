"""What a vector environment is: E environments stepped together, arrays in and arrays out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray


class Step(NamedTuple):
    """What E environments return at one agent step. A *game* is played to its end; a *learner episode* may be less."""

    observation: NDArray[np.uint8]  # [E, C, H, W]
    reward: NDArray[np.float32]  # [E] raw, received on the way into observation
    first: NDArray[np.bool_]  # [E] observation opens a learner episode; all True after reset()
    episode_over: NDArray[np.bool_]  # [E] a game ended on the way into observation; all False after reset()
    episode_return: NDArray[np.float32]  # [E] raw return of the game that ended, 0 where none did
    episode_length: NDArray[np.int32]  # [E] its length in agent steps, 0 where none ended


class EnvSpec(NamedTuple):
    """What an agent has to know about an environment before there is one."""

    observation_shape: tuple[int, int, int]  # C, H, W
    action_names: tuple[str, ...]  # one per action
    frames_per_step: int  # emulator frames per agent step


class VectorEnv(ABC):
    """E environments stepped together; a context manager that closes itself.

    An environment whose game ends starts the next one in the same step: the new game's first frame comes with the old
    game's last reward.
    """

    spec: EnvSpec
    num_envs: int

    @abstractmethod
    def reset(self, seed: int) -> Step:
        """Start a game in every environment; the same seed and actions give the same steps."""

    @abstractmethod
    def step(self, action: NDArray[np.int64]) -> Step:
        """Advance one agent step with the action indices [E]; ValueError, and nothing stepped, if one is invalid."""

    @abstractmethod
    def close(self) -> None:
        """Free what the environments hold; it cannot be used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Renderer(VectorEnv):
    """A vector environment of one that has pictures; it plays what the first environment of `build(...)` plays."""

    num_envs = 1
    frames_per_second: int  # screens a second at the real speed of the game

    @abstractmethod
    def screens(self) -> NDArray[np.uint8]:
        """Give the RGB screens of the last agent step, [frames_per_step, H, W, 3]; after reset(), the opening one."""


class ScoreRange(NamedTuple):
    """Two mean raw scores of full games that put the scores of different games on one scale."""

    low: float  # 0 on that scale
    high: float  # 1 on that scale

    def normalise(self, score: float) -> float:
        """Map a raw score linearly, `low` to 0 and `high` to 1."""
        return (score - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class EnvConfig(ABC):
    """Settings of one environment; each module of `envs/worlds` holds a subclass named `Config`.

    A subclass must define `title`, `spec` and `build`. Everything else describes what the environment can do and has a
    default: callers ask for a capability, never which environment it is.
    """

    suite: ClassVar[str | None] = None
    """Group of environments that share presets and whose normalised scores may be averaged; None: in no group."""

    title_setting: ClassVar[str | None] = None
    """Name of the setting that selects the title, in any spelling; None if the environment is a single game."""

    @property
    @abstractmethod
    def title(self) -> str:
        """Short name for run folders and tables, as in "breakout"."""

    @abstractmethod
    def spec(self) -> EnvSpec:
        """Describe the environment without starting it."""

    @abstractmethod
    def build(self, num_envs: int, num_threads: int = 1) -> VectorEnv:
        """Make the environment, with `num_envs` environments stepped by `num_threads` threads."""

    @property
    def protocol(self) -> str | None:
        """Name of the rules under which scores are made; scores of different protocols do not compare."""
        return None

    @property
    def protocols(self) -> tuple[str, ...]:
        """Every protocol that `under` accepts."""
        return ()

    def under(self, protocol: str) -> "EnvConfig":
        """Return the same game under another protocol, with the same actions; ValueError if not in `protocols`."""
        raise ValueError(f"protocol: got {protocol!r}; allowed: none, because {self.title} has no protocols")

    @property
    def lives(self) -> bool:
        """True if a lost life ends the learner episode but not the game, so that single lives can be scored."""
        return False

    @property
    def renderer(self) -> Callable[[], Renderer] | None:
        """Function that opens a renderer of this environment; None if there is nothing to see. Asking costs nothing."""
        return None

    @property
    def score_range(self) -> ScoreRange | None:
        """Scores that normalise to 0 and 1; None if there are no such scores."""
        return None

    @property
    def reference_scores(self) -> Mapping[str, float]:
        """Mean raw scores of full games to compare with, by title, in the order to show them."""
        return {}

    @property
    def reference_sources(self) -> str:
        """What the reference scores are and who published them, as a phrase to print beside them."""
        return ""


class EpisodeTracker:
    """Adds up raw returns and lengths of the full games of E environments, across learner episodes."""

    def __init__(self, num_envs: int) -> None:
        self._return = np.zeros(num_envs, np.float64)  # exact where float32 would drop points above 16.7 million
        self._length = np.zeros(num_envs, np.int32)

    def open(self, observation: NDArray[np.uint8]) -> Step:
        """Give the step after reset(): observation [E, C, H, W] opens a game everywhere."""
        self._return[:], self._length[:] = 0, 0
        zeros = np.zeros(len(observation), np.float32)
        over = np.zeros(len(observation), np.bool_)
        return Step(observation, zeros, ~over, over, zeros.copy(), np.zeros(len(observation), np.int32))

    def advance(
        self,
        observation: NDArray[np.uint8],
        reward: NDArray[np.float32],
        first: NDArray[np.bool_],
        episode_over: NDArray[np.bool_],
    ) -> Step:
        """Give the step with these fields: a game lasts until `episode_over`, whatever `first` says."""
        self._return += reward
        self._length += 1
        episode_return = np.where(episode_over, self._return, 0).astype(np.float32)
        episode_length = np.where(episode_over, self._length, 0).astype(np.int32)
        self._return[episode_over], self._length[episode_over] = 0, 0
        return Step(observation, reward, first, episode_over, episode_return, episode_length)


def check(condition: bool, field: str, value: object, allowed: str) -> None:
    """Raise ValueError naming the config field, its value and what is allowed, unless the condition holds."""
    if not condition:
        raise ValueError(f"{field}: got {value!r}; allowed: {allowed}")


def check_actions(action: NDArray[np.int64], num_envs: int, num_actions: int) -> None:
    """Raise ValueError unless `action` is a signed integer array [num_envs] of action indices."""
    allowed = f"int64 [{num_envs}] of 0 to {num_actions - 1}"
    if not isinstance(action, np.ndarray):
        raise ValueError(f"action: got {type(action).__name__}; allowed: {allowed}")
    if action.shape != (num_envs,) or action.dtype not in (np.int64, np.int32):
        raise ValueError(f"action: got {action.dtype} {list(action.shape)}; allowed: {allowed}")
    invalid = action[(action < 0) | (action >= num_actions)]
    if invalid.size:
        raise ValueError(f"action: got {invalid[0]}; allowed: {allowed}")
