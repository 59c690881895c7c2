"""What trains a model, whatever it learns from: the common part of `ActorLearner` and `Supervised`."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any, Generic, Self, TypeVar

import torch

from rfwp.agents.device import pick_device, prepare_cpu, random_state, set_random_state
from rfwp.agents.learner import Learner
from rfwp.checks import check


@dataclass(frozen=True, kw_only=True)
class SystemConfig:
    """Settings of every kind of training."""

    total_steps: int
    """Length of the run in its steps."""
    seed: int = 1
    """Seed of everything random in the run."""
    device: str = "auto"
    """Device to train on: auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""

    def __post_init__(self) -> None:
        check(self.total_steps >= 1, "total_steps", self.total_steps, "a whole number of at least 1")
        check(0 <= self.seed < 2**31, "seed", self.seed, f"a whole number from 0 to {2**31 - 1}")


AnyUpdate = TypeVar("AnyUpdate")


class System(ABC, Generic[AnyUpdate]):
    """A model in training. Enter it and iterate over it: each item is a learner update.

    Iteration ends after total_steps or after `stop`. It raises Stuck if the gradients stay non-finite.

    The constructor changes settings of the whole process: PyTorch's global seed and those of `prepare_cpu`.
    """

    learner: Learner[Any, Any]

    def __init__(self, config: SystemConfig, threads: int) -> None:
        """Prepare the process to train, on a CPU with this many threads. Raises ValueError for an unusable device."""
        self.device = pick_device(config.device)
        self._total_steps = config.total_steps
        self._seed = config.seed
        self._stopping = Event()
        prepare_cpu(threads if self.device.type == "cpu" else 1)
        torch.backends.cudnn.benchmark = True  # shapes stay the same: time the algorithms once, and keep the fastest
        torch.manual_seed(config.seed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    @abstractmethod
    def __iter__(self) -> Iterator[AnyUpdate]: ...

    @property
    def done(self) -> bool:
        """True once the learner has done total_steps steps."""
        return self.learner.steps >= self._total_steps

    def stop(self) -> None:
        """End the iteration after the current update; safe to call from a signal handler or another thread."""
        self._stopping.set()

    @property
    def stopped(self) -> bool:
        """True once `stop` was called."""
        return self._stopping.is_set()

    def state_dict(self) -> dict[str, Any]:
        """Return all training state except the model's weights, as tensors and plain values."""
        return {
            "learner": self.learner.state_dict(),
            "device": self.device.type,
            "random": random_state(self.device),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state written by `state_dict`. On another type of device, random generators start afresh."""
        self.learner.load_state_dict(state["learner"])
        if state["device"] == self.device.type:
            set_random_state(self.device, state["random"])
        else:
            torch.manual_seed(self._seed + self.learner.version)
