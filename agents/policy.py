"""Acting for one group of environments, operator by operator or as a CUDA graph."""

import warnings

import torch
from torch import Tensor

from rfwp.agents.graphs import HostWaits, graphed
from rfwp.agents.trajectory import allocate
from rfwp.envs.vector_env import EnvSpec
from rfwp.models import factored
from rfwp.models.actor_critic import ActorCritic, AgentInput
from rfwp.models.core import State


class Policy:
    """Chooses the actions of a group of environments, and holds their recurrent state."""

    def __init__(self, agent: ActorCritic, num_envs: int, generator: torch.Generator) -> None:
        """Start with the state of new episodes. `generator` samples the actions, on the agent's device."""
        self.agent = agent
        self.generator = generator
        self.state: State = agent.initial_state(num_envs)

    def act(self, arrivals: AgentInput) -> tuple[Tensor, Tensor]:
        """Take one step, [B]: return the sampled actions, int64 [B, K], and the logits that they came from [B, ΣA].

        Both tensors, and those of the state, may be overwritten by the next step.
        """
        action, logits, self.state = self._step(arrivals, self.state)
        return action, logits

    def _step(self, arrivals: AgentInput, state: State) -> tuple[Tensor, Tensor, State]:
        output, state = self.agent(arrivals.map(lambda field: field.unsqueeze(0)), state)
        logits = output.logits[0]
        return factored.sample(logits, self.agent.action_sizes, self.generator), logits, state


class GraphedPolicy(Policy):
    """Does the same on a GPU by replaying a graph of the whole step, so that the host queues one thing, not hundreds.

    The agent's weights may change in place, but not move.
    """

    def __init__(
        self,
        agent: ActorCritic,
        num_envs: int,
        generator: torch.Generator,
        spec: EnvSpec,
    ) -> None:
        """Capture a step. Raises HostWaits if a graph cannot hold it."""
        super().__init__(agent, num_envs, generator)
        device = generator.device
        self._arrivals = allocate(torch.zeros, spec, (num_envs,), device)
        self._action = torch.empty(num_envs, len(agent.action_sizes), dtype=torch.int64, device=device)
        self._logits = torch.empty(num_envs, sum(agent.action_sizes), device=device)
        start, draws = tuple(leaf.clone() for leaf in self.state), generator.get_state()
        self._replay = graphed(self._step_in_place, device, generator)
        generator.set_state(draws)
        for leaf, initial in zip(self.state, start, strict=True):
            leaf.copy_(initial)

    def act(self, arrivals: AgentInput) -> tuple[Tensor, Tensor]:
        self._arrivals.copy_(arrivals)
        self._replay()
        return self._action, self._logits

    @torch.no_grad()
    def _step_in_place(self) -> None:
        action, logits, after = self._step(self._arrivals, self.state)
        for target, source in zip((self._action, self._logits, *self.state), (action, logits, *after), strict=True):
            target.copy_(source)


def build_policy(
    agent: ActorCritic,
    num_envs: int,
    generator: torch.Generator,
    spec: EnvSpec,
    graphs: bool,
) -> Policy:
    """Build the fastest policy: as a graph on a GPU if `graphs` is set. Warns if a graph cannot hold the agent."""
    if graphs and generator.device.type == "cuda":
        try:
            return GraphedPolicy(agent, num_envs, generator, spec)
        except HostWaits as waits:
            warnings.warn(f"acting is not replayed as a CUDA graph, training will be slower: {waits}", stacklevel=2)
    return Policy(agent, num_envs, generator)
