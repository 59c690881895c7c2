"""Everything that a training run can be told, and the presets."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from rfwp.agents.config import ActorLearnerConfig
from rfwp.runners.settings import components


@dataclass(frozen=True)
class CheckpointConfig:
    """When a run is saved, and what is kept."""

    minutes: float = 5.0
    """Wall-clock minutes between checkpoints; a run that is killed loses no more than this."""
    keep: int = 3
    """Newest checkpoints that are kept; the best one is kept beside them."""

    def __post_init__(self) -> None:
        if not 0 < self.minutes < math.inf:
            raise ValueError(f"minutes: got {self.minutes}; allowed: a finite number above 0")
        if self.keep < 1:
            raise ValueError(f"keep: got {self.keep}; allowed: a whole number of at least 1")


@dataclass(frozen=True)
class TrainConfig(ActorLearnerConfig):
    """A training run. Steps are agent steps; in Atari one agent step is four frames."""

    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    final_episodes: int = 30
    """Full episodes of the evaluation at the end of the run; 0: none."""
    log_seconds: float = 5.0
    """Seconds between two lines of metrics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.final_episodes < 0:
            raise ValueError(f"final_episodes: got {self.final_episodes}; allowed: a whole number of at least 0")
        if not 0 < self.log_seconds < math.inf:
            raise ValueError(f"log_seconds: got {self.log_seconds}; allowed: a finite number above 0")


SECTIONS = ("env", "encoder", "core", "objective", "learner", "actors", "checkpoint")
FIELDS = tuple(each.name for each in dataclasses.fields(TrainConfig))
COMPONENTS = tuple(components.PACKAGES)  # sections whose settings depend on a name
FINAL_POLICY: Literal["sampled"] = "sampled"  # of the evaluation at the end of a run
FINAL_SEED = 0
# What cannot change when a run is resumed: the weights, or what they have learned, would not fit, or the setting came
# before the first step and would only be told of.
FIXED = ("env", "encoder", "core", "seed", "initialisation")

# What may differ between runs of one agent: it bears on how long, how fast or where they ran.
CIRCUMSTANCES = ("seed", "total_steps", "device", "log_seconds", "final_episodes", "checkpoint.", "actors.")

DEFAULT_ENV = "atari"

# The published hyperparameters; the defaults of the settings classes, but for these.
_PAPER = {"encoder": {"name": "impala"}, "core": {"name": "rdn"}, "env": {"name": DEFAULT_ENV}}
# Learns soon by the clock on two CPU cores; what little of it was measured is in results/first-light.
_CPU = {
    "env": {"name": DEFAULT_ENV},
    "encoder": {"name": "shallow"},
    "core": {"name": "rdn"},
    "learner": {"unroll_length": 20, "batch_size": 16, "learning_rate": 3e-4},
    "actors": {"envs": 64},
    "total_steps": 5_000_000,
    "initialisation": "orthogonal",
}
# Small and quick: toy tasks are learned in a minute or two.
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
    """Names of the presets that are used unless --preset names another."""

    on_gpu: str
    on_cpu: str


# By the suite of the environment; None: for every other environment.
DEFAULT_PRESETS = {"atari": DefaultPresets("paper", "cpu"), None: DefaultPresets("toy", "toy")}


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain nested values, with the names of the components; `rfwp train --config` reads them back."""
    values = dataclasses.asdict(config)
    for section in COMPONENTS:
        values[section] = {"name": components.name_of(getattr(config, section)), **values[section]}
    return values


def differences(old: TrainConfig, new: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Old and new value of every setting that differs, by its name on the command line; None where there is none."""
    before, after = flatten(to_dict(old)), flatten(to_dict(new))
    changed = (name for name in {**before, **after} if before.get(name) != after.get(name))
    return {name: (before.get(name), after.get(name)) for name in changed}


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by the names that they have on the command line."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            {f"{key}.{name}": setting for name, setting in value.items()} if isinstance(value, dict) else {key: value}
        )
    return flat
