"""Builds the systems of configs; refuses what does not fit this machine before allocating it."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from rfwp.agents.actor_learner import ActorLearner
from rfwp.agents.supervised import Supervised
from rfwp.envs.vector_env import EnvConfig, EnvSpec
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings import components
from rfwp.runners.settings.config import AgentRunConfig, SequenceRunConfig
from rfwp.runners.training.memory_estimate import num_bytes


def build_agent(config: AgentRunConfig, device: torch.device) -> ActorCritic:
    """Build the agent of a config on a device, with PyTorch's initial weights. Raise UserError if it does not fit."""
    _check_agent(config, device)
    return config.build_agent(device)


def build_system(config: AgentRunConfig) -> ActorLearner:
    """Build the actor-learner system of a config. Raise UserError if the device or the agent does not fit."""
    _check_agent(config, resources.pick_device(config.device))
    return ActorLearner(config)


def build_sequence_system(config: SequenceRunConfig) -> Supervised:
    """Load the data of a config and build its system. Raise UserError if they, the device or the sizes do not fit."""
    device = resources.pick_device(config.device)
    with _named("core"), _sizes_only():
        config.core.build(config.model.embedding_size)
    with _named("task"):
        data = config.task.load()
    with _named("model"), _sizes_only():
        sizes = config.model.build(config.core, len(data.tokens), len(data.classes))
    _check_weights("model", sizes, device)
    with _named("learner"):
        return Supervised(config, data)


def spec_of(env: EnvConfig) -> EnvSpec:
    """Return what an agent must know about an environment. Raise UserError if that cannot be found out."""
    with _named("env"):
        return env.spec()


@contextlib.contextmanager
def _named(section: str) -> Iterator[None]:
    """Turn a ValueError, which names a setting, into a UserError that names its section as well."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{section}.{error}") from None


@contextlib.contextmanager
def _sizes_only() -> Iterator[None]:
    """Build modules without allocating anything. Raise UserError if PyTorch cannot even count their weights."""
    try:
        with torch.device("meta"):
            yield
    except (RuntimeError, TypeError, OverflowError) as error:
        if "overflow" not in str(error).lower():
            raise
        raise UserError(
            "core.hidden_size and other sizes: the weights are too many to count; use smaller ones"
        ) from None


def _check_agent(config: AgentRunConfig, device: torch.device) -> None:
    spec_of(config.env)
    try:
        with _sizes_only():
            sizes = config.build_agent("meta")
    except ValueError as error:
        name = components.name_of(config.encoder)
        raise UserError(f"encoder: got {name}, which does not suit {config.env.title}: {error}") from None
    _check_weights("agent", sizes, device)


def _check_weights(what: str, sizes: nn.Module, device: torch.device) -> None:
    """Raise UserError if the weights of a module on the meta device do not fit."""
    weights = num_bytes(sizes.parameters())
    resources.check_memory(weights, f"core.hidden_size and other sizes: the {what}'s {weights // 4:,} weights", device)
