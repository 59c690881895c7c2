"""The agent's network: encoder, memory core, policy head and value head."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rfwp.models.core import CoreConfig, State
from rfwp.models.encoder import Encoder


class AgentOutput(NamedTuple):
    """Policy and value for each observation."""

    logits: Tensor  # float32 [T, B, A]
    value: Tensor  # float32 [T, B]


class ActorCritic(nn.Module):
    """Encoder, core, and two linear heads on the core's output.

    The core reads the features and the reward clamped to -1..1 (Irie et al. 2021). With `encoder_precision` bfloat16,
    only the encoder runs under autocast; features, state, core and heads stay float32.
    """

    def __init__(
        self,
        encoder: Encoder,
        core_config: CoreConfig,
        num_actions: int,
        encoder_precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.encoder_precision = encoder_precision
        self.encoder = encoder
        self.core = core_config.build(encoder.output_size + 1)
        self.policy = nn.Linear(self.core.output_size, num_actions)
        self.value = nn.Linear(self.core.output_size, 1)

    def acting_copy(self) -> "ActorCritic":
        """Return a copy that acts exactly as this agent does, but cannot learn.

        It stores the encoder's weights in the encoder's precision, so that autocast does not round them in every step.
        """
        acting = copy.deepcopy(self).requires_grad_(False).eval()
        for module in acting.encoder.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):  # what autocast rounds
                module.to(self.encoder_precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return acting

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> State:
        """Return the core's state at the start of an episode, each leaf [B, ...]."""
        return self.core.initial_state(batch_size, device)

    def forward(self, observation: Tensor, reward: Tensor, first: Tensor, state: State) -> tuple[AgentOutput, State]:
        """Run T agent steps of B environments; return the heads' outputs and the final state.

        observation: uint8 [T, B, C, H, W].
        reward: float32 [T, B], unclipped; arrives with the observation.
        first: bool [T, B], True if the observation is the first of an episode.
        state: core state before observation[0].
        """
        features = self.encode(observation.flatten(0, 1)).view(*reward.shape, -1)  # [T, B, D]
        core_input = torch.cat([features, reward.clamp(-1, 1).unsqueeze(-1)], -1)  # [T, B, D + 1]
        memory, state = self.core(core_input, state, first)
        return AgentOutput(self.policy(memory), self.value(memory).squeeze(-1)), state

    def encode(self, observation: Tensor) -> Tensor:
        """Encode observations in the chosen precision: uint8 [N, C, H, W] -> float32 [N, D]."""
        autocast = self.encoder_precision != torch.float32
        with torch.autocast(observation.device.type, dtype=self.encoder_precision, enabled=autocast):
            features: Tensor = self.encoder(observation)
        return features.float()
