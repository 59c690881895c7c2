"""The agent's network: encoder, memory core, policy head and value head."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rfwp.models import factored
from rfwp.models.core import CoreConfig, State
from rfwp.models.observation_encoder import Observation, ObservationEncoder
from rfwp.models.value_head import NormalisedValue, ValueHead


class AgentInput(NamedTuple):
    """What an agent reads: an unroll [T, B], or the newest step of B environments, without T."""

    observation: Observation  # fields [T, B, ...]
    last_action: Tensor  # int64 [T, B, K]  the action before the observation; any at the start of an episode
    reward: Tensor  # float32 [T, B]  raw, arrives with the observation
    first: Tensor  # bool [T, B]  the observation is the first of an episode

    def map(self, function: Callable[[Tensor], Tensor]) -> "AgentInput":
        """Apply a function to every tensor."""
        return AgentInput(tuple(map(function, self.observation)), *map(function, self[1:]))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, in order."""
        return (*self.observation, *self[1:])

    def copy_(self, other: "AgentInput") -> None:
        """Copy every tensor of `other`; from page-locked memory to a GPU, the copies are only queued."""
        for mine, theirs in zip(self.tensors, other.tensors, strict=True):
            mine.copy_(theirs, non_blocking=True)


class AgentOutput(NamedTuple):
    """Policy and value for each observation."""

    logits: Tensor  # float32 [T, B, ΣA] of an action's K choices, side by side; see rfwp.models.factored
    value: Tensor  # float32 [T, B]


class ActorCritic(nn.Module):
    """Encoder, core, and two linear heads on the core's output.

    The core reads the features, the reward, scaled and clamped to -1..1 (Irie et al. 2021), and optionally the last
    action, one-hot (Espeholt et al. 2018). Whatever the encoder's precision, features, state, core and heads are
    float32.
    """

    def __init__(
        self,
        encoder: ObservationEncoder,
        core_config: CoreConfig,
        action_sizes: tuple[int, ...],
        reads_last_action: bool = False,
        reward_scale: float = 1.0,
        normalises_values: bool = False,
    ) -> None:
        """Take the number of values of each of an action's K choices. `reward_scale` is a factor of raw rewards."""
        super().__init__()
        self.action_sizes = action_sizes
        self.reads_last_action = reads_last_action
        self.reward_scale = reward_scale
        self.encoder = encoder
        self.core_input_size = encoder.output_size + 1 + (sum(action_sizes) if reads_last_action else 0)
        self.core = core_config.build(self.core_input_size)
        self.policy = nn.Linear(self.core.output_size, sum(action_sizes))
        self.value = (NormalisedValue if normalises_values else ValueHead)(self.core.output_size)

    def acting_copy(self) -> "ActorCritic":
        """Return a copy that acts exactly as this agent does, but cannot learn.

        It stores the encoder's weights in the encoder's precision, so that autocast does not round them in every step.
        """
        acting = copy.deepcopy(self).requires_grad_(False).eval()
        for module in (module for part in acting.encoder.reduced for module in part.modules()):
            if isinstance(module, (nn.Conv2d, nn.Linear)):  # what autocast rounds
                module.to(acting.encoder.precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return acting

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return the core's state at the start of an episode, each leaf [B, ...]."""
        return self.core.initial_state(batch_size, device)

    def forward(self, inputs: AgentInput, state: State) -> tuple[AgentOutput, State]:
        """Run T agent steps of B environments from `state`, [B, ...]; return the heads' outputs and the final state."""
        observation, last_action, reward, first = inputs
        flat = tuple(field.flatten(0, 1) for field in observation)
        features = self.encoder(flat).view(*reward.shape, -1)  # [T, B, D]
        read = [features, (self.reward_scale * reward).clamp(-1, 1).unsqueeze(-1)]
        if self.reads_last_action:
            read.append(factored.one_hot(last_action, self.action_sizes) * ~first.unsqueeze(-1))
        memory, state = self.core(torch.cat(read, -1), state, first)
        return AgentOutput(self.policy(memory), self.value(memory).squeeze(-1)), state
