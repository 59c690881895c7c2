"""IMPALA: actors collect trajectories with a copy of the agent while the learner trains it (Espeholt et al. 2018).

```
actor processes ── steps ──> collector ── unrolls ──> source ── batches ──> learner
        └───── actions ──────────┘ <────────── weights, version ───────────────┘
```
"""

import copy
from collections.abc import Iterator
from contextlib import ExitStack
from threading import Event
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from rfwp.agents import host
from rfwp.agents.actor_pool import ActorFailure, ActorPool, Cancelled
from rfwp.agents.actor_process import end_if_this_is_an_actor
from rfwp.agents.collector import Collected, Collector, CollectorStatistics
from rfwp.agents.config import ActorLearnerConfig
from rfwp.agents.device import pick_device
from rfwp.agents.learner import Learner
from rfwp.agents.phases import WAIT
from rfwp.agents.sources import Background, InTurn, Source
from rfwp.agents.trajectory import Batcher, Episode, Trajectory
from rfwp.agents.weights import WeightBoard
from rfwp.models.initialisation import initialise


class Update(NamedTuple):
    """One update of the learner, and what else happened since the one before."""

    version: int  # learner updates so far
    agent_steps: int  # learned from so far
    metrics: dict[str, Tensor]  # scalars on the learner's device; see METRICS of the objective and of Learner
    batch: Trajectory  # that was learned from
    episodes: tuple[Episode, ...]  # that ended
    failures: tuple[ActorFailure, ...]  # of actor processes that were replaced


class ActorLearner:
    """Trains an agent. A context manager, whose actor processes live within it; iterate over it to train:

    ```
    with ActorLearner(config) as system:
        for update in system:
            ...
    ```

    Iteration ends after total_steps or after `stop`. It raises ActorFailure if environments fail over and over,
    Diverged if the policy's logits are not finite, and Stuck if gradients are not finite any more.

    The threads and the memory allocator of the whole process are set for training, and PyTorch's global seed too.
    """

    def __init__(self, config: ActorLearnerConfig) -> None:
        """Build agent and learner, and start nothing. ValueError for a device or an encoder that does not fit."""
        end_if_this_is_an_actor()
        self.config = config
        self.device = pick_device(config.device)
        self.num_processes = config.actors.num_processes(host.cores())
        host.keep_freed_memory()
        torch.set_num_threads(host.operator_threads())
        torch.manual_seed(config.seed)
        self.agent = config.build_agent(self.device)
        initialise(self.agent, config.initialisation)
        self.learner = Learner(self.agent, config.objective, config.learner, config.total_steps)
        self.statistics = CollectorStatistics(seconds=0.0, phases={}, emulator_seconds=0.0, restarts=0)
        self._weights = WeightBoard()
        self._generator = torch.Generator(self.device).manual_seed(config.seed)
        self._stopping = Event()
        self._running = ExitStack()
        self._source: Source | None = None

    def __enter__(self) -> Self:
        """Start the actor processes, and the collector's thread unless config.sync is set."""
        with ExitStack() as stack:
            collector = self.build_collector(stack.enter_context(self.start_actors()))
            queue_size = self.config.learner.queue_size
            source = InTurn(collector) if self.config.sync else Background(collector, queue_size)
            self._source = stack.enter_context(source)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()

    def start_actors(self) -> ActorPool:
        """Start the processes that step the environments; the caller closes them."""
        # The seed moves on with the run, so that a resumed run does not play the episodes of its start again.
        seed = (self.config.seed, self.learner.version)
        return ActorPool(self.config.actors, self.config.env, self.num_processes, seed)

    def build_collector(self, pool: ActorPool) -> Collector:
        """Make what acts in the pool's environments, with a copy of the agent that follows the learner's."""
        self._weights.publish(self.agent, self.learner.version)
        acting = copy.deepcopy(self.agent)
        return Collector(acting, pool, self.config.learner.unroll_length, self._weights, self._generator)

    def __iter__(self) -> Iterator[Update]:
        if self._source is None:
            raise RuntimeError("enter the ActorLearner before iterating over it: with ActorLearner(config) as system")
        batcher = Batcher(self.config.learner.batch_size)
        episodes: tuple[Episode, ...] = ()
        failures: tuple[ActorFailure, ...] = ()
        while not self.done and (collected := self._next(self._source)) is not None:
            self.statistics = collected.statistics
            episodes, failures = episodes + collected.episodes, failures + collected.failures
            for batch in batcher.add(collected.trajectory):
                metrics = self.update(batch)
                yield Update(self.learner.version, self.learner.agent_steps, metrics, batch, episodes, failures)
                episodes, failures = (), ()
                if self.done or self._stopping.is_set():
                    return

    def _next(self, source: Source) -> Collected | None:
        """Wait for what is collected next; None once the system is told to stop."""
        with self.learner.phases(WAIT):
            while not self._stopping.is_set():
                try:
                    if (collected := source.get()) is not None:
                        return collected
                except Cancelled:  # by `stop`, in the middle of an unroll
                    break
        return None

    def update(self, batch: Trajectory) -> dict[str, Tensor]:
        """Learn from a batch and hand the new weights to the collector; return the learner's metrics."""
        metrics = self.learner.learn(batch)
        with self.learner.phases("publish"):
            self._weights.publish(self.agent, self.learner.version)
        return metrics

    @property
    def done(self) -> bool:
        """Whether total_steps agent steps have been learned from."""
        return self.learner.agent_steps >= self.config.total_steps

    @property
    def queue_fill(self) -> float:
        """Share of the queue that is full, 0 to 1; at 1 acting waits for the learner."""
        return 0.0 if self._source is None else self._source.fill

    def stop(self) -> None:
        """End the iteration after the update under way; may be called from a signal handler or another thread."""
        self._stopping.set()
        if self._source is not None:
            self._source.cancel()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def state_dict(self) -> dict[str, Any]:
        """Return all that training depends on but the agent's weights; tensors and plain values only."""
        return {
            "learner": self.learner.state_dict(),
            "device": self.device.type,
            "sampling": self._generator.get_state(),
            "random": self._random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state written by `state_dict`. Random generators of another kind of device begin anew."""
        self.learner.load_state_dict(state["learner"])
        if state["device"] != self.device.type:
            self._generator.manual_seed(self.config.seed + self.learner.version)
        elif self.device.type == "cuda":
            self._generator.set_state(state["sampling"])
            torch.cuda.set_rng_state(state["random"], self.device)
        else:
            self._generator.set_state(state["sampling"])
            torch.set_rng_state(state["random"])

    def _random_state(self) -> Tensor:
        """Return the state of the generator that dropout draws from."""
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state()
