"""IMPALA: actors collect trajectories with a copy of the agent while the learner trains it (Espeholt et al. 2018).

```
actor processes ── steps ──> collector ── unrolls ──> source ── batches ──> learner
        └───── actions ──────────┘ <────────── weights, version ───────────────┘
```
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from rfwp.agents import host
from rfwp.agents.actor_pool import ActorFailure, ActorPool, Cancelled
from rfwp.agents.actor_process import end_if_this_is_an_actor
from rfwp.agents.collector import Collected, Collector, CollectorStatistics
from rfwp.agents.config import ActorLearnerConfig
from rfwp.agents.device import page_locked
from rfwp.agents.learner import Learner
from rfwp.agents.metrics import Episode
from rfwp.agents.phases import WAIT
from rfwp.agents.sources import Background, InTurn, Source
from rfwp.agents.system import System
from rfwp.agents.trajectory import Batcher, Trajectory
from rfwp.agents.weights import WeightBoard
from rfwp.models.initialisation import initialise


class Update(NamedTuple):
    """One learner update, and what happened since the previous one."""

    version: int  # learner updates so far
    agent_steps: int  # agent steps learned from so far
    metrics: dict[str, Tensor]  # scalars on the learner's device; see METRICS of the objective and of Learner
    batch: Trajectory  # the batch of this update
    episodes: tuple[Episode, ...]  # full episodes that ended since the previous update
    failures: tuple[ActorFailure, ...]  # of actor processes replaced since the previous update


class ActorLearner(System[Update]):
    """An actor-learner system. Enter it to start the actor processes, then iterate over it to train:

    ```
    with ActorLearner(config) as system:
        for update in system:
            ...
    ```

    Iteration ends after total_steps or after `stop`. It raises ActorFailure if actors keep failing, Diverged if the
    policy's logits are not finite, and Stuck if the gradients stay non-finite.

    The constructor changes settings of the whole process: see `System`.
    """

    def __init__(self, config: ActorLearnerConfig) -> None:
        """Build the agent and the learner; start nothing. Raises ValueError for an unusable device or encoder."""
        end_if_this_is_an_actor()
        cores = 1 if config.sync else host.cores()  # with `sync`, the same on every machine
        super().__init__(config, host.operator_threads(cores))
        self.config = config
        # While the policy on a GPU acts for one group, another one is to keep all cores busy.
        on_gpu = self.device.type == "cuda"
        self.num_processes = config.actors.num_processes(config.actors.groups * cores if on_gpu else cores)
        self.agent = config.build_agent(self.device)
        initialise(self.agent, config.initialisation)
        self.learner = Learner(self.agent, config.objective, config.learner, config.total_steps)
        self.actor_output: str | None = None  # file to which actors print; None: the terminal. Set it before entering
        self.statistics = CollectorStatistics(seconds=0.0, phases={}, emulator_seconds=0.0, restarts=0)
        self._weights = WeightBoard()
        self._generator = torch.Generator(self.device).manual_seed(config.seed)
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

    @contextmanager
    def start_actors(self) -> Iterator[ActorPool]:
        """Start the processes that step the environments; they end with the context."""
        # The seed changes with the version, so a resumed run does not replay the episodes it began with.
        seed = (self.config.seed, self.learner.version)
        pool = ActorPool(self.config.actors, self.config.env, self.num_processes, seed, self.actor_output)
        with pool, page_locked(pool.memory, self.device):
            yield pool

    def build_collector(self, pool: ActorPool) -> Collector:
        """Build the collector, which acts in the pool's environments with an up-to-date copy of the agent."""
        self._weights.publish(self.agent, self.learner.version)
        return Collector(
            self.agent.acting_copy(),
            pool,
            self.config.learner.unroll_length,
            self._weights,
            self._generator,
            self.config.graphs,
        )

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
                yield Update(self.learner.version, self.learner.steps, metrics, batch, episodes, failures)
                episodes, failures = (), ()
                if self.done or self.stopped:
                    return

    def _next(self, source: Source) -> Collected | None:
        """Wait for the next trajectory; return None once `stop` was called."""
        with self.learner.phases(WAIT):
            while not self.stopped:
                try:
                    if (collected := source.get()) is not None:
                        return collected
                except Cancelled:  # by `stop`, in the middle of an unroll
                    break
        return None

    def update(self, batch: Trajectory) -> dict[str, Tensor]:
        """Learn from a batch and publish the new weights to the collector; return the learner's metrics."""
        self.agent.encoder.measure(batch.observation)
        metrics = self.learner.learn(batch)
        self.agent.value.adapt(metrics["target_mean"], metrics["target_deviation"])
        with self.learner.phases("publish"):
            self._weights.publish(self.agent, self.learner.version)
        return metrics

    @property
    def queue_fill(self) -> float:
        """Fraction of the queue that is full, 0 to 1. At 1, acting waits for the learner."""
        return 0.0 if self._source is None else self._source.fill

    def stop(self) -> None:
        super().stop()
        if self._source is not None:
            self._source.cancel()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "sampling": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if state["device"] == self.device.type:
            self._generator.set_state(state["sampling"])
        else:
            self._generator.manual_seed(self.config.seed + self.learner.version)
