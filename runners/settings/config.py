"""All settings of a training run."""

import math
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from rfwp.agents.config import ActorLearnerConfig
from rfwp.agents.supervised import SupervisedConfig
from rfwp.agents.system import SystemConfig
from rfwp.checks import check
from rfwp.envs.subject import Subject
from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings import components


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written, and how many are kept."""

    minutes: float = 5.0
    """Wall-clock minutes between checkpoints; a killed run loses at most this."""
    keep: int = 3
    """Number of newest checkpoints to keep; the best one is always kept as well."""

    def __post_init__(self) -> None:
        check(0 < self.minutes < math.inf, "minutes", self.minutes, "a finite number above 0")
        check(self.keep >= 1, "keep", self.keep, "a whole number of at least 1")


@dataclass(frozen=True, kw_only=True)
class RunConfig(SystemConfig, ABC):
    """What `rfwp train` adds to the settings of any training."""

    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log_seconds: float = 5.0
    """Seconds between two lines of metrics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.log_seconds < math.inf, "log_seconds", self.log_seconds, "a finite number above 0")

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name of a run: what is learned, and the core."""

    @property
    @abstractmethod
    def subject(self) -> Subject:
        """The environment or the task."""

    @property
    @abstractmethod
    def sizes(self) -> str:
        """The settings that decide how much memory a run needs, and their values."""


@dataclass(frozen=True)
class AgentRunConfig(ActorLearnerConfig, RunConfig):
    """Settings of a run that trains an agent. Steps are agent steps; in Atari one agent step is four frames."""

    _: KW_ONLY
    final_episodes: int = 30
    """Full episodes in the evaluation at the end of the run; 0: no evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.final_episodes >= 0, "final_episodes", self.final_episodes, "a whole number of at least 0")

    @property
    def name(self) -> str:
        return f"{self.env.title}-{components.name_of(self.core)}"

    @property
    def subject(self) -> Subject:
        return self.env

    @property
    def sizes(self) -> str:
        learner, envs = self.learner, self.actors.envs
        return (
            f"actors.envs {envs}, learner.batch_size {learner.batch_size}, learner.unroll_length"
            f" {learner.unroll_length} and core {components.name_of(self.core)}"
        )


@dataclass(frozen=True)
class SequenceRunConfig(SupervisedConfig, RunConfig):
    """Settings of a run that trains a sequence model on a supervised task. Steps are updates."""

    _: KW_ONLY
    validation_interval: int = 157
    """Updates between two scores on the validation split, each with a checkpoint; `best` is the one that scores best.
    157 updates are an epoch of the published algorithmic tasks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        interval = self.validation_interval
        check(interval >= 1, "validation_interval", interval, "a whole number of at least 1")

    @property
    def name(self) -> str:
        return f"{self.task.title}-{components.name_of(self.core)}"

    @property
    def subject(self) -> Subject:
        return self.task

    @property
    def sizes(self) -> str:
        learner = self.learner
        return (
            f"learner.batch_size {learner.batch_size}, learner.segment_length {learner.segment_length} and core"
            f" {components.name_of(self.core)}"
        )


FINAL_POLICY: Literal["sampled"] = "sampled"  # of the evaluation at the end of an agent's run
FINAL_SEED = 0


def agent_config(config: RunConfig) -> AgentRunConfig:
    """Return the config as that of an agent. Raise UserError if the run is on a supervised task."""
    if not isinstance(config, AgentRunConfig):
        raise UserError(f"run: {config.name} is on a supervised task; allowed: a run of an agent in an environment")
    return config


def sequence_config(config: RunConfig) -> SequenceRunConfig:
    """Return the config as that of a sequence model. Raise UserError if the run is of an agent."""
    if not isinstance(config, SequenceRunConfig):
        raise UserError(f"run: {config.name} trains an agent; allowed: a run on a supervised task")
    return config
