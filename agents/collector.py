"""Acting: steps in, trajectories out. The policy acts for one group of actors while the others step."""

import time
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch

from rfwp.agents.actor_pool import ActorFailure, ActorPool
from rfwp.agents.learner import Diverged
from rfwp.agents.metrics import Episode
from rfwp.agents.phases import WAIT, Phases
from rfwp.agents.policy import build_policy
from rfwp.agents.trajectory import Trajectory
from rfwp.agents.weights import WeightBoard
from rfwp.models.actor_critic import ActorCritic, AgentInput


class CollectorStatistics(NamedTuple):
    """Time spent and actors replaced since collecting began."""

    seconds: float  # wall-clock time
    phases: dict[str, float]  # seconds of the collector's thread, by phase
    emulator_seconds: float  # spent stepping environments, summed over actor processes
    restarts: int  # actor processes replaced


class Collected(NamedTuple):
    """The result of one `collect`."""

    trajectory: Trajectory
    episodes: tuple[Episode, ...]  # full episodes that ended since the last `collect`
    failures: tuple[ActorFailure, ...]  # of actors replaced since the last `collect`
    statistics: CollectorStatistics


class _Unroll:
    """A trajectory that is being filled, for one group of actors."""

    def __init__(self, fields: Trajectory) -> None:
        self.fields = fields
        self.row = 0  # of the next observation

    @property
    def arrivals(self) -> AgentInput:
        """The row for the next observation."""
        return self.fields.inputs.map(lambda field: field[self.row])

    @property
    def complete(self) -> bool:
        return self.row == self.fields.unroll_length


class Collector:
    """Acts in all environments with one copy of the agent and cuts the steps into trajectories.

    Recurrent state and observations stay on the agent's device. Groups of actors take turns in a fixed order, so the
    result depends only on the seed and the weights.
    """

    def __init__(
        self,
        agent: ActorCritic,
        pool: ActorPool,
        unroll_length: int,
        weights: WeightBoard,
        generator: torch.Generator,
        graphs: bool = True,
    ) -> None:
        """Start an unroll in every environment. `generator` samples the actions, on the agent's device.

        On a GPU, acting replays a CUDA graph per group, unless `graphs` is False. It uses a separate stream, which goes
        before the learner's. Read trajectories on the stream that is current when the collector is built.
        """
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
        self._turn = 0
        self._inboxes = [
            AgentInput(
                tuple(map(torch.from_numpy, each.observation)),
                *map(torch.from_numpy, (each.action, each.reward, each.first)),
            )
            for each in pool.slabs
        ]
        self._truncated = [torch.from_numpy(each.truncated) for each in pool.slabs]
        self._acting: torch.cuda.Stream | None = None  # None on a CPU
        self._reading: torch.cuda.Stream | None = None
        if self.device.type == "cuda":
            self._reading = torch.cuda.current_stream(self.device)
            self._acting = torch.cuda.Stream(self.device, priority=-1)  # type: ignore[no-untyped-call]
            self._acting.wait_stream(self._reading)
        num_envs, spec = pool.envs_per_group, pool.spec
        with self._on_own_stream():
            self._policies = [build_policy(self.agent, num_envs, generator, spec, graphs) for _ in pool.groups]
            self._unrolls = [self._begin(group) for group in range(len(pool.groups))]

    def collect(self) -> Collected:
        """Act until one group's unroll is complete, and return it.

        Raises:
            ActorFailure: actors keep failing.
            Cancelled: `cancel` was called, from another thread or a signal handler.
            Diverged: the policy's logits are not finite.
        """
        while True:
            group, self._turn = self._turn, (self._turn + 1) % len(self._unrolls)
            with self._on_own_stream():
                trajectory = self._advance(group)
            if trajectory is not None:
                return self._hand_over(trajectory)

    def cancel(self) -> None:
        """Make a running `collect` raise Cancelled soon; safe to call from another thread or a signal handler."""
        self.pool.cancel()

    def _on_own_stream(self) -> AbstractContextManager[object]:
        return nullcontext() if self._acting is None else torch.cuda.stream(self._acting)

    def _hand_over(self, trajectory: Trajectory) -> Collected:
        if self._reading is not None:  # `_check_finite` has waited until the trajectory was complete
            trajectory.record_stream(self._reading)
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
            # This unroll has rows of episodes that were lost with the actor: start it again.
            self._unrolls[group] = self._begin(group)
            self._failures += failures
        trajectory = None
        with self.phases("observe"):
            self._observe(group)
            if self._unrolls[group].complete:
                trajectory = self._unrolls[group].fields
                self._unrolls[group] = self._follow(group)
        with self.phases("act"):
            self._act(group)
            if trajectory is not None:
                _check_finite(trajectory)
        return trajectory

    def _observe(self, group: int) -> None:
        """Copy a group's slab into the next row of its unroll, and record the episodes that ended."""
        # A GPU may still be copying when this returns: `_act` waits for actions that depend on it, before any actor
        # writes to the slab again.
        self._unrolls[group].arrivals.copy_(self._inboxes[group])
        slab = self.pool.slabs[group]
        for index in slab.episode_over.nonzero()[0]:
            self._episodes.append(Episode(float(slab.episode_return[index]), int(slab.episode_length[index])))

    def _act(self, group: int) -> None:
        """Sample actions for the newest row of a group's unroll, and send them to its actors."""
        self._version = self._weights.update(self.agent, self._version)
        unroll = self._unrolls[group]
        fields, row = unroll.fields, unroll.row
        action, logits = self._policies[group].act(unroll.arrivals)
        fields.action[row] = action
        fields.truncated[row].copy_(self._truncated[group], non_blocking=True)
        fields.behaviour[row] = logits
        fields.version[row] = self._version
        unroll.row += 1
        # The host waits for a GPU only here, and once per unroll in `_check_finite`.
        self.pool.act(group, action.cpu().numpy())

    def _begin(self, group: int) -> _Unroll:
        """Start an unroll with the group's present state, which the policy may overwrite."""
        state = tuple(leaf.clone() for leaf in self._policies[group].state)
        return _Unroll(
            Trajectory.empty(self.unroll_length, self.pool.envs_per_group, self.pool.spec, state, self.device)
        )

    def _follow(self, group: int) -> _Unroll:
        """Start an unroll whose first row is the last row of the group's previous one."""
        unroll = self._begin(group)
        unroll.arrivals.copy_(self._unrolls[group].arrivals)
        return unroll


def _check_finite(trajectory: Trajectory) -> None:
    """Raise Diverged if a logit is not finite. Called once per unroll, because the host waits for the answer."""
    if not trajectory.behaviour.isfinite().all():
        raise Diverged("the policy's logits are no longer finite")
