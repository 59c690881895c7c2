"""Builds the agent and the system of a config; refuses what does not fit this machine before allocating it."""

import torch

from rfwp.agents.actor_learner import ActorLearner
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings import components
from rfwp.runners.settings.config import TrainConfig
from rfwp.runners.training.memory_estimate import num_bytes


def build_agent(config: TrainConfig, device: torch.device) -> ActorCritic:
    """Build the agent of a config on a device, with PyTorch's initial weights. Raise UserError if it does not fit."""
    _check_agent(config, device)
    return config.build_agent(device)


def build_system(config: TrainConfig) -> ActorLearner:
    """Build the actor-learner system of a config. Raise UserError if the device or the agent does not fit."""
    _check_agent(config, resources.pick_device(config.device))
    return ActorLearner(config)


def _check_agent(config: TrainConfig, device: torch.device) -> None:
    try:
        with torch.device("meta"):  # sizes only; allocates nothing
            sizes = config.build_agent("meta")
    except ValueError as error:
        name = components.name_of(config.encoder)
        raise UserError(f"encoder: got {name}, which does not suit {config.env.title}: {error}") from None
    weights = num_bytes(sizes.parameters())
    resources.check_memory(weights, f"core.hidden_size and other sizes: the agent's {weights // 4:,} weights", device)
