"""The value head: a linear layer, or one that learns in units of its targets' deviation."""

import torch
from torch import Tensor, nn

SLOWEST = 0.01  # share of the newest targets in the statistics; in the first 1 / SLOWEST updates, all count alike
SMALLEST = 1e-4  # deviation; below it, targets are as good as equal


class ValueHead(nn.Linear):
    """A linear layer with one output V."""

    def __init__(self, input_size: int) -> None:
        super().__init__(input_size, 1)

    @property
    def scale(self) -> Tensor | float:
        """Unit of values and advantages in the loss."""
        return 1.0

    def adapt(self, mean: Tensor, deviation: Tensor) -> None:
        """Take account of the mean and the deviation of new value targets."""


class NormalisedValue(ValueHead):
    """A linear layer with one output V = σ (w·x + b) + μ: μ and σ are mean and deviation of the value targets.

    Losses in units of σ have the same size whatever the rewards are, and a new agent need not learn what all values
    have in common. This is PopArt (Hessel et al. 2019, section 3) without its correction of w and b, which would keep
    that from the values.
    """

    updates: Tensor  # float64 []
    mean: Tensor  # float64 []
    square: Tensor  # float64 []  mean square

    def __init__(self, input_size: int) -> None:
        super().__init__(input_size)
        for name, value in (("updates", 0.0), ("mean", 0.0), ("square", 1.0)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))

    @property
    def deviation(self) -> Tensor:
        """σ, float64 []."""
        return (self.square - self.mean.square()).clamp(min=SMALLEST**2).sqrt()

    @property
    def scale(self) -> Tensor:
        return self.deviation.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * super().forward(x) + self.mean.float()

    @torch.no_grad()
    def adapt(self, mean: Tensor, deviation: Tensor) -> None:
        """Add the mean and the deviation of new targets to the statistics, in place. Ignore what is not finite."""
        square = mean.double().square() + deviation.double().square()
        finite = square.isfinite()
        share = (1 / self.updates.add_(finite).clamp(min=1)).clamp(min=SLOWEST)
        self.mean.lerp_(torch.where(finite, mean.double(), self.mean), share)
        self.square.lerp_(torch.where(finite, square, self.square), share)
