"""Encodes observations of one or more fields: a part for each, joined by a linear layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rfwp.models.encoder import Encoder

Observation = tuple[Tensor, ...]  # one tensor per field


class Vector(Encoder):
    """A linear layer and ReLU on normalised numbers: float32 [N, size of the field] -> [N, D].

    Each number is normalised by the mean and the variance of all its values that `measure` has seen, and clamped to
    -10..10. The statistics are saved with the weights.
    """

    reduced_precision = False
    count: Tensor  # float64 [] observations measured
    mean: Tensor  # float64 [size of the field]
    variance: Tensor  # float64 [size of the field]

    def __init__(self, input_size: int, size: int) -> None:
        super().__init__()
        self.output_size = size
        self.linear = nn.Linear(input_size, size)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(input_size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(input_size, dtype=torch.float64))

    @torch.no_grad()
    def measure(self, observation: Tensor) -> None:
        """Add observations [..., size of the field] to the statistics, in place (Chan et al. 1979)."""
        values = observation.flatten(0, -2).double()
        variance, mean = torch.var_mean(values, 0, correction=0)
        before, added = self.count.clone(), len(values)
        share = added / self.count.add_(added)
        difference = mean - self.mean
        self.variance.lerp_(variance, share).add_(difference.square() * share * before / self.count)
        self.mean.lerp_(mean, share)

    def forward(self, observation: Tensor) -> Tensor:
        scale = (self.variance + 1e-8).rsqrt()
        normalised = (observation - self.mean.float()) * scale.float()
        return torch.relu(self.linear(normalised.clamp(-10, 10)))


class Categories(Encoder):
    """A learned vector for each value of each category, summed, and ReLU: int64 [N, K] -> [N, D].

    This is a linear layer on the one-hot categories.
    """

    reduced_precision = False
    first_row: Tensor

    def __init__(self, sizes: Sequence[int], size: int) -> None:
        super().__init__()
        self.output_size = size
        self.table = nn.EmbeddingBag(sum(sizes), size, mode="sum")
        starts = [sum(sizes[:category]) for category in range(len(sizes))]
        self.register_buffer("first_row", torch.tensor(starts), persistent=False)  # [K] of each category in the table

    def forward(self, observation: Tensor) -> Tensor:
        return torch.relu(self.table(observation + self.first_row))


class ObservationEncoder(nn.Module):
    """Maps each observation to a feature vector, independently of time.

    The features of a single field are used as they are. Those of several are joined by a linear layer and ReLU.
    """

    def __init__(self, parts: Sequence[Encoder], size: int, precision: torch.dtype = torch.float32) -> None:
        """Take one part per field. `size`: features after joining. `precision`: of the parts that may be reduced."""
        super().__init__()
        self.precision = precision
        self.parts = nn.ModuleList(parts)
        together = sum(part.output_size for part in parts)
        self.join = nn.Sequential(nn.Linear(together, size), nn.ReLU()) if len(parts) > 1 else nn.Identity()
        self.output_size = size if len(parts) > 1 else together

    @property
    def reduced(self) -> list[nn.Module]:
        """The parts that run in `precision`; all else is float32."""
        return [part for part in self.parts if part.reduced_precision]

    def measure(self, observation: Observation) -> None:
        """Add observations, fields [..., size], to the statistics by which vectors are normalised."""
        for part, field in zip(self.parts, observation, strict=True):
            if isinstance(part, Vector):
                part.measure(field)

    def forward(self, observation: Observation) -> Tensor:
        """Encode observations: fields [N, ...] -> float32 [N, output_size]."""
        features = torch.cat([self._encode(*each) for each in zip(self.parts, observation, strict=True)], dim=-1)
        joined: Tensor = self.join(features)
        return joined

    def _encode(self, part: nn.Module, field: Tensor) -> Tensor:
        autocast = self.precision != torch.float32 and bool(part.reduced_precision)
        with torch.autocast(field.device.type, dtype=self.precision, enabled=autocast):
            features: Tensor = part(field)
        return features.float()
