"""Rollouts: an agent playing step by step, for scores, films and the watch window."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rfwp.agents.actor_pool import ActorFailure
from rfwp.envs.vector_env import EnvConfig, Step, VectorEnv, check_step
from rfwp.models import factored
from rfwp.models.actor_critic import ActorCritic, AgentInput, AgentOutput
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.evaluations import Policy


class Transition(NamedTuple):
    """One agent step of E environments: the network's output, the action, and the step that followed."""

    output: AgentOutput  # logits [1, E, ΣA] of the action's distribution, value [1, E]
    action: NDArray[np.int64]  # [E, K]
    step: Step  # after the action


@torch.no_grad()
def rollout(agent: ActorCritic, env: VectorEnv, policy: Policy, seed: int) -> Iterator[Transition]:
    """Yield transitions without end; carry and reset the core's state as in training.

    Raise UserError if a reward is not finite, or an observation is not as the environment's spec says.
    """
    device = next(agent.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    state = agent.initial_state(env.num_envs, device)
    step, action = _checked(env.reset(seed), env), np.zeros((env.num_envs, len(agent.action_sizes)), np.int64)
    while True:
        output, state = agent(inputs_of(step, action, device), state)
        logits, sizes = output.logits[0], agent.action_sizes
        chosen = factored.greedy(logits, sizes) if policy == "greedy" else factored.sample(logits, sizes, generator)
        action = chosen.cpu().numpy()
        step = _checked(env.step(action), env)
        yield Transition(output, action, step)


@contextmanager
def naming_failures(config: EnvConfig) -> Iterator[None]:
    """Turn the failure of an environment in its process into a UserError."""
    try:
        yield
    except ActorFailure as failure:
        raise UserError(f"env: {config.title}: {str(failure).partition(chr(10))[0]}") from None


def _checked(step: Step, env: VectorEnv) -> Step:
    try:
        check_step(step, env.spec)
    except ValueError as error:
        raise UserError(f"env: {error}") from None
    return step


def inputs_of(step: Step, last_action: NDArray[np.int64], device: torch.device | str) -> AgentInput:
    """Return a step of E environments and the action before it, [E, K], as an agent reads them: [T=1, E, ...]."""
    observation = tuple(map(torch.from_numpy, step.observation))
    rest = map(torch.from_numpy, (last_action, step.reward, step.first))
    return AgentInput(observation, *rest).map(lambda field: field[None].to(device))
