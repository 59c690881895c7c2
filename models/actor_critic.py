"""The agent's network: encoder, memory core, policy head and value head."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rfwp.models.core import CoreConfig, State
from rfwp.models.observation_encoder import Observation, ObservationEncoder


class AgentOutput(NamedTuple):
    """Policy and value for each observation."""

    logits: Tensor  # float32 [T, B, ΣA] of an action's K choices, side by side; see rfwp.models.factored
    value: Tensor  # float32 [T, B]


class ActorCritic(nn.Module):
    """Encoder, core, and two linear heads on the core's output.

    The core reads the features and the reward clamped to -1..1 (Irie et al. 2021). Whatever the encoder's precision,
    features, state, core and heads are float32.
    """

    def __init__(self, encoder: ObservationEncoder, core_config: CoreConfig, action_sizes: tuple[int, ...]) -> None:
        """Take the number of values of each of an action's K choices."""
        super().__init__()
        self.action_sizes = action_sizes
        self.encoder = encoder
        self.core = core_config.build(encoder.output_size + 1)
        self.policy = nn.Linear(self.core.output_size, sum(action_sizes))
        self.value = nn.Linear(self.core.output_size, 1)

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

    def forward(
        self, observation: Observation, reward: Tensor, first: Tensor, state: State
    ) -> tuple[AgentOutput, State]:
        """Run T agent steps of B environments; return the heads' outputs and the final state.

        observation: fields [T, B, ...].
        reward: float32 [T, B], unclipped; arrives with the observation.
        first: bool [T, B], True if the observation is the first of an episode.
        state: core state before observation[0].
        """
        flat = tuple(field.flatten(0, 1) for field in observation)
        features = self.encoder(flat).view(*reward.shape, -1)  # [T, B, D]
        core_input = torch.cat([features, reward.clamp(-1, 1).unsqueeze(-1)], -1)  # [T, B, D + 1]
        memory, state = self.core(core_input, state, first)
        return AgentOutput(self.policy(memory), self.value(memory).squeeze(-1)), state
