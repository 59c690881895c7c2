"""Builds the agent that a config describes."""

import torch

from rfwp.models.actor_critic import ActorCritic
from rfwp.runners import components, machine
from rfwp.runners.config import TrainConfig
from rfwp.runners.errors import UserError
from rfwp.runners.sizes import num_bytes


def build_agent(config: TrainConfig, device: torch.device) -> ActorCritic:
    """The agent of a config on a device, its weights as PyTorch initialises them; UserError if it does not fit."""
    spec = config.env.spec()
    precision = machine.pick_precision(config.precision, device)
    try:
        with torch.device("meta"):  # sizes without memory
            sizes = ActorCritic(config.encoder.build(spec.frame_shape), config.core, len(spec.action_names), precision)
    except ValueError as error:
        name = components.name_of(config.encoder)
        raise UserError(f"encoder: got {name}, which does not suit {config.env.title}: {error}") from None
    weights = num_bytes(sizes.parameters())
    machine.check_memory(weights, f"core.hidden_size and other sizes: the agent's {weights // 4:,} weights", device)
    encoder = config.encoder.build(spec.frame_shape)
    return ActorCritic(encoder, config.core, len(spec.action_names), precision).to(device)
