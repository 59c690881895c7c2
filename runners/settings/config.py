"""All settings of a training run, and the presets."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from rfwp.agents.config import ActorLearnerConfig
from rfwp.checks import check
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


@dataclass(frozen=True)
class TrainConfig(ActorLearnerConfig):
    """Settings of a training run. Steps are agent steps; in Atari one agent step is four frames."""

    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    final_episodes: int = 30
    """Full episodes in the evaluation at the end of the run; 0: no evaluation."""
    log_seconds: float = 5.0
    """Seconds between two lines of metrics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.final_episodes >= 0, "final_episodes", self.final_episodes, "a whole number of at least 0")
        check(0 < self.log_seconds < math.inf, "log_seconds", self.log_seconds, "a finite number above 0")


SECTIONS = ("env", "encoder", "core", "objective", "learner", "actors", "checkpoint")
FIELDS = tuple(each.name for each in dataclasses.fields(TrainConfig))
COMPONENTS = tuple(components.PACKAGES)  # sections whose settings depend on a name
FINAL_POLICY: Literal["sampled"] = "sampled"  # of the evaluation at the end of a run
FINAL_SEED = 0
# Settings and sections that cannot change when a run is resumed: the weights, what they learned or the state of the
# optimiser would not fit, or the setting only has an effect before the first step.
FIXED = ("env", "encoder", "core", "seed", "initialisation", "learner.optimiser")

# May differ between runs of one agent: these affect only how long, how fast or where they ran.
CIRCUMSTANCES = ("seed", "total_steps", "device", "log_seconds", "final_episodes", "checkpoint.", "actors.")

DEFAULT_ENV = "atari"

# The published hyperparameters: the defaults of the settings classes, plus these names.
_PAPER = {"encoder": {"name": "impala"}, "core": {"name": "rdn"}, "env": {"name": DEFAULT_ENV}}
# Learns quickly in wall-clock time on two CPU cores; results/first-light has a few measurements.
_CPU = {
    "env": {"name": DEFAULT_ENV},
    "encoder": {"name": "shallow"},
    "core": {"name": "rdn"},
    "learner": {"unroll_length": 20, "batch_size": 16, "learning_rate": 3e-4},
    "actors": {"envs": 64},
    "total_steps": 5_000_000,
    "initialisation": "orthogonal",
}
# Small and quick: learns a toy task in a minute or two.
_TOY = {
    "env": {"name": "recall"},
    "encoder": {"name": "flat"},
    "core": {"name": "rdn"},
    "objective": {"discount": 0.9},
    "learner": {"unroll_length": 16, "batch_size": 16, "learning_rate": 2e-3},
    "actors": {"envs": 32},
    "total_steps": 500_000,
    "initialisation": "orthogonal",
}
PRESETS: dict[str, dict[str, Any]] = {"paper": _PAPER, "cpu": _CPU, "toy": _TOY}


class DefaultPresets(NamedTuple):
    """Names of the presets used without --preset."""

    on_gpu: str
    on_cpu: str


# By suite of the environment; None: every other environment.
DEFAULT_PRESETS = {"atari": DefaultPresets("paper", "cpu"), None: DefaultPresets("toy", "toy")}


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Return plain nested values with the names of the components, which `rfwp train --config` reads back."""
    values = dataclasses.asdict(config)
    for section in COMPONENTS:
        values[section] = {"name": components.name_of(getattr(config, section)), **values[section]}
    return values


def differences(old: TrainConfig, new: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Return (old, new) of every setting that differs, by its name on the command line; None for a missing one."""
    before, after = flatten(to_dict(old)), flatten(to_dict(new))
    changed = (name for name in {**before, **after} if before.get(name) != after.get(name))
    return {name: (before.get(name), after.get(name)) for name in changed}


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings by their names on the command line."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            {f"{key}.{name}": setting for name, setting in value.items()} if isinstance(value, dict) else {key: value}
        )
    return flat
