"""Training: wires games, agent, learner and run folder together, and runs them to the end or until told to stop."""

import copy
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rfwp.agents.actor_pool import ActorFailure, ActorPool, Cancelled
from rfwp.agents.collector import Collector, Diverged
from rfwp.agents.learner import Learner
from rfwp.agents.phases import WAIT
from rfwp.agents.sources import Background, InTurn, Source
from rfwp.agents.trajectory import Batcher, Trajectory
from rfwp.agents.weights import WeightBoard
from rfwp.models.initialisation import initialise
from rfwp.runners import machine
from rfwp.runners.agent import build_agent
from rfwp.runners.checkpoint import Checkpoint
from rfwp.runners.config import TrainConfig
from rfwp.runners.display import Display
from rfwp.runners.errors import UserError
from rfwp.runners.manifest import Manifest
from rfwp.runners.meter import Meter
from rfwp.runners.metrics import GameStatistics, LearnerAverages, MetricsLog
from rfwp.runners.outage import Outage
from rfwp.runners.run_folder import RunFolder
from rfwp.runners.saving import Saver, check_agent
from rfwp.runners.signals import StopSignals
from rfwp.runners.sizes import check_sizes
from rfwp.runners.timer import Timer
from rfwp.runners.tracing import Profile


class Stuck(Exception):
    """Update after update is skipped because its gradient is not finite."""


class Trainer:
    """One training run in one process."""

    def __init__(self, config: TrainConfig) -> None:
        """Builds agent and learner, and checks that the run fits the machine; creates no files and no processes."""
        self.config = config
        self.device = machine.pick_device(config.device)
        self.num_processes = config.actors.num_processes(machine.cores())
        torch.set_num_threads(machine.learner_threads())
        torch.manual_seed(config.seed)
        self.agent = build_agent(config, self.device)
        self.expected_bytes = check_sizes(config, self.agent, self.num_processes, self.device)
        initialise(self.agent, config.initialisation)
        self.learner = Learner(self.agent, config.learner, config.total_steps)
        self.weights = WeightBoard()
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.games = GameStatistics()
        self.averages = LearnerAverages()
        self.wall_seconds = 0.0
        self.frames_per_step = config.env.spec().frames_per_step
        self._logged_steps = 0
        self._newest_batch: Trajectory | None = None
        self.saved = False  # what was learned, at the end
        self._told: set[str] = set()  # damaged checkpoints that the user knows of

    def resume(self, checkpoint: Checkpoint) -> None:
        """Takes up a checkpoint of the same run."""
        checkpoint.load_weights(self.agent)
        state = checkpoint.load_trainer()
        try:
            self.load_state_dict(state)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"checkpoint: {checkpoint.folder} holds no state of such a run: {error!r}") from None

    def run(self, folder: RunFolder, display: Display, stop: StopSignals, profile_updates: int = 0) -> None:
        """Trains until total_steps or until a signal arrives; saves a checkpoint at the end either way.

        So many updates, not long after the start, are profiled.

        Raises:
            ActorFailure: actors fail over and over. A checkpoint is saved before.
            Diverged: the weights have become useless. They are never saved: the newest checkpoint is from before.
            Stuck: no gradient is finite any more, of weights that are. These are saved, and the batch beside them.
        """
        self.folder, self.display = folder, display
        self.profile = Profile(folder.profile, profile_updates, display.note)
        self._metrics_outage = Outage("metrics cannot be written", display.note)
        self._logged_steps = self.learner.agent_steps
        with ExitStack() as stack:
            log = stack.enter_context(MetricsLog(folder.metrics_file, folder.tensorboard, self._logged_steps))
            saver = Saver(partial(self._save, log), 60 * self.config.checkpoint.minutes, display.note)
            pool = stack.enter_context(self.start_actors())
            stop.on_stop = pool.cancel
            collector = self.build_collector(pool)
            source = InTurn(collector.collect) if self.config.sync else self._in_background(collector)
            self.meter = Meter(self.learner, collector, stack.enter_context(source))
            try:
                self._learn(self._batches(source, stop), collector, log, saver)
                self.profile.finish()
            finally:
                if not isinstance(sys.exception(), Diverged):
                    self.saved = saver.save_at_the_end(stop)
                    if not self.saved:
                        since, now = max(folder.checkpoints.steps(), default=0), self.learner.agent_steps
                        display.note(f"not saved: what was learned from agent step {since:,} to {now:,} is lost")

    def start_actors(self) -> ActorPool:
        """Starts the processes that play the games; to be closed."""
        # The seed moves on with the run, so that a resumed run does not play the games of its start again.
        seed = (self.config.seed, self.learner.version)
        return ActorPool(self.config.actors, self.config.env, self.num_processes, seed)

    def build_collector(self, pool: ActorPool) -> Collector:
        """Makes what acts in the pool's games, with a copy of the agent that follows the learner's."""
        self.weights.publish(self.agent, self.learner.version)
        acting = copy.deepcopy(self.agent)
        length = self.config.learner.unroll_length
        return Collector(acting, pool, length, self.weights, self.generator, self._report_failure)

    def _in_background(self, collector: Collector) -> Background:
        return Background(collector.collect, self.config.learner.queue_size, collector.pool.cancel)

    def _batches(self, source: Source, stop: StopSignals) -> Iterator[Trajectory]:
        """Batches for the learner until the run is done or told to stop."""
        batcher = Batcher(self.config.learner.batch_size)
        while True:
            try:
                with self.learner.phases(WAIT):
                    trajectory = source.get()
            except Cancelled:  # by a signal, in the middle of an unroll
                return
            for batch in batcher.add(trajectory) if trajectory is not None else []:
                yield batch
                if self.done:
                    return
            if stop.wanted:
                return

    def _learn(self, batches: Iterator[Trajectory], collector: Collector, log: MetricsLog, saver: Saver) -> None:
        line = Timer(self.config.log_seconds)
        for batch in batches:
            self.update(batch)
            if self.learner.stuck:
                raise Stuck(
                    f"the gradients of {self.learner.skipped_in_a_row} updates in a row were not finite;"
                    f" the weights are those from before them, and the newest batch {self._dump(batch)}"
                )
            self.profile.step()
            while collector.games:
                self.games.add(collector.games.popleft())
            if line.due():
                self._write_line(log)
            saver.save_if_due()
            self.display.advance(self.learner.agent_steps)
        self._write_line(log)

    def _dump(self, batch: Trajectory) -> str:
        """Keeps a batch; says where it is, or why it is not."""
        try:
            return f"is in {self.folder.dump_batch(batch, self.learner.agent_steps)}"
        except OSError as error:
            return f"cannot be written: {error.strerror or error}"

    def update(self, batch: Trajectory) -> None:
        """Learns from a batch and hands the new weights to the collector."""
        self._newest_batch = batch
        metrics = self.learner.learn(batch)
        with self.learner.phases("publish"):
            self.averages.add(metrics)
            self.weights.publish(self.agent, self.learner.version)

    @property
    def done(self) -> bool:
        """Whether all steps of the run have been learned from."""
        return self.learner.agent_steps >= self.config.total_steps

    def _write_line(self, log: MetricsLog) -> None:
        steps = self.learner.agent_steps
        if steps == self._logged_steps:  # no step is told twice
            return
        self._logged_steps = steps
        now = self.meter.read()
        self.wall_seconds += now.pop("seconds")
        gpu_bytes = machine.gpu_memory(self.device)
        line: dict[str, float | None] = {
            "agent_steps": steps,
            "frames": steps * self.frames_per_step,
            "wall_seconds": self.wall_seconds,
            "updates": self.learner.version,
            "learning_rate": self.learner.learning_rate,
            **self.games.metrics(),
            **self.averages.take(),
            **now,
            "gpu_memory_megabytes": None if gpu_bytes is None else gpu_bytes / 1e6,
        }
        self._metrics_outage.attempt(partial(log.write, line))
        self.display.update(line)

    def _save(self, log: MetricsLog) -> None:
        if self._newest_batch is not None:
            check_agent(self.agent, self._newest_batch)
        size, sha256 = log.position()
        manifest = Manifest(
            agent_steps=self.learner.agent_steps,
            updates=self.learner.version,
            games=self.games.count,
            return_mean=self.games.return_mean,
            metrics_bytes=size,
            metrics_sha256=sha256,
        )
        self.folder.checkpoints.save(self.agent, self.state_dict(), manifest)
        for problem in self.folder.checkpoints.prune(self.config.checkpoint.keep):
            if problem not in self._told:
                self._told.add(problem)
                self.display.note(f"{problem}; it is left as it is")

    def _report_failure(self, failure: ActorFailure) -> None:
        reason = str(failure).partition("\n")[0]
        self.display.note(f"an actor process {reason}; it was replaced, and the unroll that it was part of dropped")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds beside the weights; tensors and plain values only."""
        return {
            "learner": self.learner.state_dict(),
            "games": self.games.state_dict(),
            "wall_seconds": self.wall_seconds,
            "device": self.device.type,
            "sampling": self.generator.get_state(),
            "random": self._random_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state written by `state_dict`. Random generators of another kind of device begin anew."""
        self.learner.load_state_dict(state["learner"])
        self.games.load_state_dict(state["games"])
        self.wall_seconds = float(state["wall_seconds"])
        if state["device"] != self.device.type:
            self.generator.manual_seed(self.config.seed + self.learner.version)
        elif self.device.type == "cuda":
            self.generator.set_state(state["sampling"])
            torch.cuda.set_rng_state(state["random"], self.device)
        else:
            self.generator.set_state(state["sampling"])
            torch.set_rng_state(state["random"])

    def _random_state(self) -> Tensor:
        """State of the generator that dropout draws from."""
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state()
