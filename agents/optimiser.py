"""The optimiser's settings: RMSProp or Adam, the learning rate over time, and the clip."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rfwp.checks import check, check_choice

Optimiser = Literal["rmsprop", "adam"]
Schedule = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True)
class OptimiserConfig:
    """RMSProp or Adam. The defaults are the published hyperparameters of reinforcement learning."""

    optimiser: Optimiser = "rmsprop"
    """rmsprop or adam."""
    learning_rate: float = 6e-4
    """Learning rate at the start, or after the warm-up."""
    schedule: Schedule = "linear"
    """linear: the learning rate falls to 0 over total_steps; cosine: it falls to 0 along half a cosine; constant."""
    warmup: int = 0
    """Updates at the start over which the learning rate rises linearly to its value."""
    rmsprop_decay: float = 0.99
    """Decay of RMSProp's mean square (alpha in PyTorch)."""
    rmsprop_epsilon: float = 0.01
    """Added to the square root of RMSProp's mean square."""
    adam_beta1: float = 0.9
    """Decay of Adam's mean of the gradient."""
    adam_beta2: float = 0.999
    """Decay of Adam's mean square."""
    adam_epsilon: float = 1e-8
    """Added to the square root of Adam's mean square."""
    gradient_clip: float | None = 40.0
    """Maximum global norm of the gradient; null for no clip."""

    def __post_init__(self) -> None:
        check_choice("optimiser", self.optimiser, Optimiser)
        check_choice("schedule", self.schedule, Schedule)
        for field in ("learning_rate", "rmsprop_epsilon", "adam_epsilon"):
            check(0 < getattr(self, field) < math.inf, field, getattr(self, field), "a number above 0")
        check(self.warmup >= 0, "warmup", self.warmup, "a whole number of at least 0")
        check(0 <= self.rmsprop_decay <= 1, "rmsprop_decay", self.rmsprop_decay, "a number from 0 to 1")
        for field in ("adam_beta1", "adam_beta2"):
            check(0 <= getattr(self, field) < 1, field, getattr(self, field), "0 up to, not including, 1")
        clip = self.gradient_clip
        check(clip is None or 0 < clip < math.inf, "gradient_clip", clip, "a number above 0, or null")

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Build the optimiser of these parameters."""
        if self.optimiser == "rmsprop":
            return torch.optim.RMSprop(parameters, lr=self.learning_rate, **self.group_settings)
        return torch.optim.Adam(parameters, lr=self.learning_rate, **self.group_settings)

    @property
    def group_settings(self) -> dict[str, Any]:
        """What PyTorch's optimiser takes besides the learning rate."""
        if self.optimiser == "rmsprop":
            return {"alpha": self.rmsprop_decay, "eps": self.rmsprop_epsilon}
        return {"betas": (self.adam_beta1, self.adam_beta2), "eps": self.adam_epsilon}

    def rate(self, updates: int, progress: float) -> float:
        """Return the learning rate after this many updates, at a progress of 0 to 1 through total_steps."""
        rising = min(1.0, (updates + 1) / self.warmup) if self.warmup else 1.0
        left = max(0.0, 1.0 - progress)
        falling = {"linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left)), "constant": 1.0}[self.schedule]
        return self.learning_rate * rising * falling
