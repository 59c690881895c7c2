"""Acting: steps in, trajectories out. Runs the policy for one group of actors while the others step."""

import time
from typing import NamedTuple

import torch
from torch import Tensor

from rfwp.agents.actor_pool import ActorFailure, ActorPool
from rfwp.agents.phases import WAIT, Phases
from rfwp.agents.trajectory import Episode, Trajectory
from rfwp.agents.weights import WeightBoard
from rfwp.models.actor_critic import ActorCritic
from rfwp.models.core import State


class Diverged(Exception):
    """The agent computes infinities: its weights have become useless."""


class CollectorStatistics(NamedTuple):
    """What collecting has cost since it began."""

    seconds: float  # of wall clock
    phases: dict[str, float]  # seconds of the collector's thread, by phase
    emulator_seconds: float  # spent stepping environments, by all actor processes together
    restarts: int  # actor processes that were replaced


class Collected(NamedTuple):
    """What `collect` hands over."""

    trajectory: Trajectory
    episodes: tuple[Episode, ...]  # that ended since the last time
    failures: tuple[ActorFailure, ...]  # of actors that were replaced since the last time
    statistics: CollectorStatistics


class _Arrivals(NamedTuple):
    """What the environments of a group have sent: one row of a trajectory."""

    observation: Tensor  # uint8 [B, C, H, W]
    reward: Tensor  # float32 [B]
    first: Tensor  # bool [B]

    @classmethod
    def pinned(cls, num_envs: int, observation_shape: tuple[int, int, int]) -> "_Arrivals":
        """Page-locked memory of the host: a copy from there to a GPU does not hold up the host."""
        return cls(
            observation=torch.empty(num_envs, *observation_shape, dtype=torch.uint8, pin_memory=True),
            reward=torch.empty(num_envs, pin_memory=True),
            first=torch.empty(num_envs, dtype=torch.bool, pin_memory=True),
        )


class _Unroll:
    """A trajectory in the making, of one group of actors."""

    def __init__(self, fields: Trajectory) -> None:
        self.fields = fields
        self.row = 0  # that the next observation goes to
        self.state = fields.state  # before that observation

    @property
    def arrivals(self) -> _Arrivals:
        """Where the next observation goes to."""
        return _Arrivals(*(getattr(self.fields, name)[self.row] for name in _Arrivals._fields))

    @property
    def complete(self) -> bool:
        return self.row == self.fields.unroll_length


class Collector:
    """Acts in all environments with one copy of the agent and cuts what happens into trajectories.

    Recurrent state and observations stay on the agent's device. Groups of actors take turns in a fixed order, so the
    result depends on the seed and the weights alone.
    """

    def __init__(
        self,
        agent: ActorCritic,
        pool: ActorPool,
        unroll_length: int,
        weights: WeightBoard,
        generator: torch.Generator,
    ) -> None:
        """Begin an unroll in every environment. `generator`, on the agent's device, draws the actions."""
        self.agent = agent.eval()
        self.pool = pool
        self.unroll_length = unroll_length
        self.device = next(agent.parameters()).device
        self.phases = Phases()
        self._began = time.perf_counter()
        self._episodes: list[Episode] = []
        self._failures: list[ActorFailure] = []
        self._weights = weights
        self._version = -1
        self._generator = generator
        self._turn = 0
        # One copy of each field to a GPU instead of one for every process; on the CPU slabs are copied straight.
        on_gpu = self.device.type == "cuda"
        self._staging = _Arrivals.pinned(pool.envs_per_group, pool.spec.observation_shape) if on_gpu else None
        self._unrolls = [self._begin(agent.initial_state(pool.envs_per_group, self.device)) for _ in pool.groups]

    def collect(self) -> Collected:
        """Play on until a group's unroll is complete.

        Raises:
            ActorFailure: actors fail over and over.
            Cancelled: by the pool's `cancel`, from another thread or a signal.
            Diverged: the policy's logits are not finite any more.
        """
        while True:
            group, self._turn = self._turn, (self._turn + 1) % len(self._unrolls)
            trajectory = self._advance(group)
            if trajectory is not None:
                return self._hand_over(trajectory)

    def cancel(self) -> None:
        """End a `collect` under way in another thread, or interrupted by a signal, soon: it raises Cancelled."""
        self.pool.cancel()

    def _hand_over(self, trajectory: Trajectory) -> Collected:
        statistics = CollectorStatistics(
            seconds=time.perf_counter() - self._began,
            phases=self.phases.snapshot(),
            emulator_seconds=self.pool.busy_seconds,
            restarts=self.pool.restarts,
        )
        collected = Collected(trajectory, tuple(self._episodes), tuple(self._failures), statistics)
        self._episodes, self._failures = [], []
        return collected

    @torch.no_grad()
    def _advance(self, group: int) -> Trajectory | None:
        with self.phases(WAIT):
            failures = self.pool.wait(group)
        if failures:
            # Rows of this unroll belong to episodes that are lost: begin it anew from here.
            self._unrolls[group] = self._begin(self._unrolls[group].state)
            self._failures += failures
        trajectory = None
        with self.phases("observe"):
            self._observe(group)
            if self._unrolls[group].complete:
                trajectory = self._unrolls[group].fields
                _check_finite(trajectory)
                self._unrolls[group] = self._follow(self._unrolls[group])
        with self.phases("act"):
            self._act(group)
        return trajectory

    def _observe(self, group: int) -> None:
        """Copy the slabs of a group into the next row of its unroll, and note the episodes that ended."""
        row = self._unrolls[group].arrivals
        inbox = self._staging or row
        for rows, slab in self.pool.slabs(group):
            for name in _Arrivals._fields:
                getattr(inbox, name)[rows].copy_(torch.from_numpy(getattr(slab, name)))
            for index in slab.episode_over.nonzero()[0]:
                self._episodes.append(Episode(float(slab.episode_return[index]), int(slab.episode_length[index])))
        if self._staging is not None:
            # The staging area is free again when the actions, which depend on it, are on the host: see `_act`.
            for staged, target in zip(self._staging, row, strict=True):
                target.copy_(staged, non_blocking=True)

    def _act(self, group: int) -> None:
        """Answer the newest row of a group's unroll with actions, and let its actors go on."""
        self._version = self._weights.update(self.agent, self._version)
        unroll = self._unrolls[group]
        fields, row = unroll.fields, unroll.row
        now = slice(row, row + 1)
        output, unroll.state = self.agent(fields.observation[now], fields.reward[now], fields.first[now], unroll.state)
        action = sample(output.logits[0], self._generator)
        fields.action[row] = action
        fields.behaviour[row] = output.logits[0]
        fields.version[row] = self._version
        unroll.row += 1
        # Here, and in `_check_finite` once an unroll, the host waits for a GPU.
        self.pool.act(group, action.cpu().numpy())

    def _begin(self, state: State) -> _Unroll:
        spec, num_envs = self.pool.spec, self.pool.envs_per_group
        num_actions = len(spec.action_names)
        return _Unroll(
            Trajectory.empty(self.unroll_length, num_envs, spec.observation_shape, num_actions, state, self.device)
        )

    def _follow(self, previous: _Unroll) -> _Unroll:
        """The unroll that opens with the last row of the previous one."""
        unroll = self._begin(previous.state)
        for first, last in zip(unroll.arrivals, previous.arrivals, strict=True):
            first.copy_(last)
        return unroll


def _check_finite(trajectory: Trajectory) -> None:
    """Raises Diverged. Once an unroll, for the host has to wait for the answer."""
    if not trajectory.behaviour.isfinite().all():
        raise Diverged("the policy's logits are not finite any more")


def sample(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw an action for each environment: logits [B, A] -> int64 [B]; any valid action where the logits are NaN.

    What torch.multinomial draws, by the same race of exponential variables, without its checks, for which the host
    would have to wait.
    """
    policy = logits.softmax(dim=-1)
    return (policy / torch.empty_like(policy).exponential_(generator=generator)).argmax(dim=-1)
