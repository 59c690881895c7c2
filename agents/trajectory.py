"""The data that acting passes to learning: unrolls of T steps in B environments."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rfwp.envs.vector_env import EnvSpec
from rfwp.models.actor_critic import AgentInput
from rfwp.models.core import State
from rfwp.models.observation_encoder import Observation


class Trajectory(NamedTuple):
    """T agent steps in each of B environments, time first.

    Fields from the environment have length T + 1, fields from the agent length T. The last observation only provides
    the bootstrap value; it is also the first observation of the next unroll.
    """

    observation: Observation  # fields [T+1, B, ...]
    last_action: Tensor  # int64   [T+1, B, K]  taken before observation_t; any where an episode starts
    reward: Tensor  # float32 [T+1, B]    arrives with observation_t, unclipped
    first: Tensor  # bool    [T+1, B]    observation_t is the first of an episode
    action: Tensor  # int64   [T, B, K]   taken at observation_t
    truncated: Tensor  # bool    [T, B]      action_t did nothing: an episode was cut off at observation_t
    behaviour: Tensor  # float32 [T, B, ΣA]  logits that the action was drawn from
    version: Tensor  # int64   [T, B]      policy version that acted, in learner updates
    state: State  #         [B, ...]    core state before observation_0

    @classmethod
    def empty(cls, length: int, num_envs: int, spec: EnvSpec, state: State, device: torch.device | str) -> "Trajectory":
        """Allocate an unroll of `length` agent steps; only its starting state is set."""
        return cls(
            *allocate(torch.empty, spec, (length + 1, num_envs), device),
            action=torch.empty(length, num_envs, len(spec.action_sizes), dtype=torch.int64, device=device),
            truncated=torch.empty(length, num_envs, dtype=torch.bool, device=device),
            behaviour=torch.empty(length, num_envs, sum(spec.action_sizes), device=device),
            version=torch.empty(length, num_envs, dtype=torch.int64, device=device),
            state=state,
        )

    @property
    def unroll_length(self) -> int:
        """T, in agent steps."""
        return self.action.shape[0]

    @property
    def batch_size(self) -> int:
        """B, in unrolls."""
        return self.action.shape[1]

    @property
    def steps(self) -> int:
        """T x B, in agent steps."""
        return self.unroll_length * self.batch_size

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in order."""
        return [*self.observation, *self[1:-1], *self.state]

    @property
    def inputs(self) -> AgentInput:
        """What the agent reads, [T+1, B]."""
        return AgentInput(self.observation, self.last_action, self.reward, self.first)

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory from being reused before work that is queued on another GPU stream has read it."""
        for tensor in self.tensors:
            tensor.record_stream(stream)

    def columns(self, start: int, stop: int) -> "Trajectory":
        """Return environments start ≤ b < stop, as views."""
        inputs = self.inputs.map(lambda field: field[:, start:stop])
        rest = (field[:, start:stop] for field in (self.action, self.truncated, self.behaviour, self.version))
        return Trajectory._make([*inputs, *rest, tuple(leaf[start:stop] for leaf in self.state)])


def concatenate(parts: list[Trajectory]) -> Trajectory:
    """Join unrolls of equal length along the batch axis; a single one is returned without a copy."""
    if len(parts) == 1:
        return parts[0]
    observation = tuple(torch.cat(field, dim=1) for field in zip(*(part.observation for part in parts), strict=True))
    steps = [torch.cat(field, dim=1) for field in zip(*(part[1:-1] for part in parts), strict=True)]
    state = tuple(torch.cat(leaf) for leaf in zip(*(part.state for part in parts), strict=True))
    return Trajectory._make([observation, *steps, state])


def allocate(
    make: Callable[..., Tensor], spec: EnvSpec, lead: tuple[int, ...], device: torch.device | str
) -> AgentInput:
    """Allocate an agent's inputs, each [*lead, ...]. `make`: torch.empty or torch.zeros."""
    return AgentInput(
        tuple(
            make(*lead, *field.shape, dtype=getattr(torch, field.dtype.name), device=device)
            for field in spec.observation
        ),
        make(*lead, len(spec.action_sizes), dtype=torch.int64, device=device),
        make(*lead, device=device),
        make(*lead, dtype=torch.bool, device=device),
    )


class Batcher:
    """Cuts trajectories of any width into batches of exactly `batch_size` unrolls, in order of arrival."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._waiting: list[Trajectory] = []

    def add(self, trajectory: Trajectory) -> list[Trajectory]:
        """Add one trajectory; return the batches that are now full, often none."""
        self._waiting.append(trajectory)
        batches = []
        while sum(part.batch_size for part in self._waiting) >= self.batch_size:
            batches.append(self._take())
        return batches

    def _take(self) -> Trajectory:
        parts, missing = [], self.batch_size
        while missing:
            first = self._waiting.pop(0)
            width = min(first.batch_size, missing)
            if width < first.batch_size:
                self._waiting.insert(0, first.columns(width, first.batch_size))
            parts.append(first.columns(0, width))
            missing -= width
        return concatenate(parts)
