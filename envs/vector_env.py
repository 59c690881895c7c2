"""The vector environment interface: E environments stepped together, arrays in and arrays out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rfwp.envs.spaces import Field, Observation, check_field
from rfwp.envs.subject import Subject


class Step(NamedTuple):
    """One agent step of E environments. A *learner episode* may be part of a full episode, such as one life."""

    observation: Observation  # one array per field, [E, ...]
    reward: NDArray[np.float32]  # [E] raw, arrives with observation; returns are added up before it is rounded
    first: NDArray[np.bool_]  # [E] observation is the first of a learner episode; all True after reset()
    truncated: NDArray[np.bool_]  # [E] observation is the last of an episode that was cut off; all False after reset()
    episode_over: NDArray[np.bool_]  # [E] a full episode ended at this step; all False after reset()
    episode_return: NDArray[np.float64]  # [E] raw return of the full episode that ended, else 0
    episode_length: NDArray[np.int32]  # [E] its length in agent steps, else 0


class EnvSpec(NamedTuple):
    """What an agent must know about an environment, available before it is built."""

    observation: tuple[Field, ...]
    action_names: tuple[tuple[str, ...], ...]  # an action is K independent choices: the names of each one's values
    frames_per_step: int  # emulator frames per agent step

    @property
    def action_sizes(self) -> tuple[int, ...]:
        """Number of values of each of the K choices."""
        return tuple(map(len, self.action_names))

    @property
    def interface(self) -> dict[str, Any]:
        """What the inputs and outputs of an agent stand for, in plain values."""
        fields = [{**field._asdict(), "shape": [*field.shape], "sizes": [*field.sizes]} for field in self.observation]
        return {"observations": fields, "actions": [[*names] for names in self.action_names]}


class VectorEnv(ABC):
    """E environments stepped together; a context manager that closes them on exit.

    When an episode terminates, the next one starts in the same step: its first observation comes with the last reward
    of the old episode. When an episode is truncated, that is, cut off by a limit outside the task, its last observation
    comes first, because the learner needs its value. The next action is ignored, and its step opens the next episode
    with a reward of 0.
    """

    spec: EnvSpec
    num_envs: int

    @abstractmethod
    def reset(self, seed: int) -> Step:
        """Start an episode in every environment. The same seed and actions give the same steps."""

    @abstractmethod
    def step(self, action: NDArray[np.int64]) -> Step:
        """Advance one agent step: action indices [E, K]. If one is invalid, raise ValueError and step nothing."""

    @abstractmethod
    def close(self) -> None:
        """Free the environments' resources. They cannot be used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Renderer(VectorEnv):
    """A single environment with RGB screens. It plays what `build(1)` plays."""

    num_envs = 1
    frames_per_second: int  # screens per second at normal speed

    @abstractmethod
    def screens(self) -> NDArray[np.uint8]:
        """Return the last agent step's RGB screens, [frames_per_step, H, W, 3]; after reset(), the opening screen."""


@dataclass(frozen=True)
class EnvConfig(Subject):
    """Settings of one environment; each module of `envs/worlds` holds a subclass named `Config`.

    A subclass must define `title`, `spec` and `build`. Everything else is a capability with a default.
    """

    score_name = "return"

    @abstractmethod
    def spec(self) -> EnvSpec:
        """Describe the environment without starting it."""

    @abstractmethod
    def build(self, num_envs: int, num_threads: int = 1) -> VectorEnv:
        """Build `num_envs` environments, stepped by `num_threads` threads."""

    @property
    def foreign(self) -> bool:
        """True if its code is not ours, so that it must run in separate processes, which may crash."""
        return False

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about how this environment is read, one sentence each, without a full stop."""
        return ()

    @property
    def protocols(self) -> tuple[str, ...]:
        """Every protocol that `under` accepts."""
        return ()

    def under(self, protocol: str) -> "EnvConfig":
        """Return this config under another protocol, with the same actions. Raises ValueError for an unknown one."""
        raise ValueError(f"protocol: got {protocol!r}; allowed: none, because {self.title} has no protocols")

    @property
    def lives(self) -> bool:
        """True if a lost life ends the learner episode but not the full one, so that single lives can be scored."""
        return False

    @property
    def slow_start(self) -> bool:
        """True if environments take so long to start that a spare actor process should have some ready."""
        return False

    @property
    def lowest_reward(self) -> float:
        """A lower reward in one step means that the score has wrapped round, so that returns are wrong."""
        return -math.inf

    @property
    def renderer(self) -> Callable[[], Renderer] | None:
        """Function that opens a renderer of this environment; None if it has none. Cheap to read."""
        return None

    @property
    def screened(self) -> "EnvConfig | None":
        """The same environment, one frame a step, with its RGB picture as the last field of its observations.

        For films of environments without a renderer; None if there are no pictures.
        """
        return None

    @property
    def screens_per_second(self) -> int:
        """Pictures per second of `screened` at normal speed."""
        raise NotImplementedError


class EpisodeTracker:
    """Adds up raw returns and lengths of full episodes in E environments, across learner episodes."""

    def __init__(self, num_envs: int) -> None:
        self._return = np.zeros(num_envs, np.float64)
        self._length = np.zeros(num_envs, np.int32)
        self._truncated = np.zeros(num_envs, np.bool_)

    def open(self, observation: Observation) -> Step:
        """Return the step after reset(): the observation starts an episode in every environment."""
        self._return[:], self._length[:], self._truncated[:] = 0, 0, False
        over, nothing = np.zeros(len(self._return), np.bool_), np.zeros(len(self._return))
        reward, length = nothing.astype(np.float32), nothing.astype(np.int32)
        return Step(observation, reward, ~over, over.copy(), over, nothing, length)

    def advance(
        self,
        observation: Observation,
        reward: NDArray[np.integer | np.floating],
        first: NDArray[np.bool_],
        episode_over: NDArray[np.bool_],
        truncated: NDArray[np.bool_] | None = None,
    ) -> Step:
        """Return the step with these fields. A full episode lasts until `episode_over`, whatever `first` says.

        `truncated`: by default none is. Where it is set, so is `episode_over`.
        """
        self._return += reward
        self._length += ~self._truncated  # after a truncation, a step only opens the next episode
        self._truncated = np.zeros(len(first), np.bool_) if truncated is None else truncated.copy()
        episode_return = np.where(episode_over, self._return, 0)
        episode_length = np.where(episode_over, self._length, 0).astype(np.int32)
        self._return[episode_over], self._length[episode_over] = 0, 0
        return Step(
            observation,
            reward.astype(np.float32),
            first,
            self._truncated.copy(),
            episode_over,
            episode_return,
            episode_length,
        )


def check_step(step: Step, spec: EnvSpec) -> None:
    """Raise ValueError for a reward or an observation that would poison the weights or does not fit the spec."""
    wrong = np.flatnonzero(~np.isfinite(step.reward))
    if wrong.size:
        raise ValueError(f"environment {wrong[0]} returned the reward {step.reward[wrong[0]]}; allowed: finite numbers")
    for field, value in zip(spec.observation, step.observation, strict=True):
        check_field(field, value)
