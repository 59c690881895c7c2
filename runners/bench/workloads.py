"""What `rfwp bench` runs: the emulator alone, acting alone, learning alone, and a whole training."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch

from rfwp.agents.actor_pool import ActorFailure, ActorPool
from rfwp.agents.phases import WAIT, Phases
from rfwp.agents.trajectory import Trajectory
from rfwp.runners.bench.throughput import Recorder
from rfwp.runners.config import TrainConfig
from rfwp.runners.display import Line
from rfwp.runners.errors import UserError
from rfwp.runners.run_folder import RunFolder
from rfwp.runners.signals import StopSignals
from rfwp.runners.train import Trainer

Workload = Callable[[Trainer, Recorder], None]
RESET_DENSITY = 0.01  # share of the synthetic steps that open an episode


def play(trainer: Trainer, recorder: Recorder) -> None:
    """The emulator alone: the same actor processes, random actions. The ceiling of all that follows."""
    random, phases, steps = np.random.default_rng(trainer.config.seed), Phases(), 0
    with trainer.start_actors() as pool:
        actions = len(pool.spec.action_names)

        def spent() -> dict[str, float]:
            return {"actors: emulator": pool.busy_seconds, "main: wait": phases.seconds[WAIT]}

        while not recorder.tick(steps, spent):
            for number, group in enumerate(pool.groups):
                with phases(WAIT):
                    _wait(pool, number)
                for actor in group:
                    actor.slab.action[:] = random.integers(actions, size=pool.games_per_actor)
                    actor.request()
                    steps += pool.games_per_actor


def act(trainer: Trainer, recorder: Recorder) -> None:
    """Acting alone: emulator and policy; nobody learns from the trajectories."""
    with trainer.start_actors() as pool:
        collector, steps = trainer.build_collector(pool), 0

        def spent() -> dict[str, float]:
            phases = {f"collector: {name}": seconds for name, seconds in collector.phases.seconds.items()}
            return {"actors: emulator": pool.busy_seconds, **phases}

        while not recorder.tick(steps, spent):
            steps += collector.collect().action.numel()


def learn(trainer: Trainer, recorder: Recorder) -> None:
    """Learning alone: updates on one synthetic batch, and the publication of the weights."""
    batch = synthetic_batch(trainer)

    def spent() -> dict[str, float]:
        return {f"learner: {name}": seconds for name, seconds in trainer.learner.phases.seconds.items()}

    while not recorder.tick(trainer.learner.agent_steps, spent):
        trainer.update(batch)
        if trainer.device.type == "cuda":  # queued work is no work yet
            torch.cuda.synchronize(trainer.device)


def train(trainer: Trainer, recorder: Recorder) -> None:
    """A whole training, into a run folder that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="rfwp-bench-") as path, StopSignals() as stop:
        folder = RunFolder(Path(path) / "run")
        folder.create()
        with _Watcher(trainer, recorder, stop) as display:
            trainer.run(folder, display, stop)
        if stop.received is not None:
            raise KeyboardInterrupt


class _Watcher:
    """A display that shows nothing, takes readings, and ends the training when there are enough."""

    def __init__(self, trainer: Trainer, recorder: Recorder, stop: StopSignals) -> None:
        self._trainer, self._recorder, self._stop = trainer, recorder, stop

    def update(self, line: Line) -> None: ...

    def advance(self, agent_steps: int) -> None:
        if not self._stop.wanted and self._recorder.tick(agent_steps, self._trainer.meter.phases):
            self._stop.ask()

    def note(self, message: str) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


WORKLOADS: dict[str, Workload] = {"env": play, "act": act, "learn": learn, "train": train}


def run(name: str, config: TrainConfig, seconds: float) -> tuple[Trainer, Recorder]:
    """Runs a workload with the settings of a training for about so many seconds, and a warm-up before."""
    # The run must outlast the measurement, and evaluates nothing.
    trainer = Trainer(replace(config, total_steps=max(config.total_steps, 10**12), final_games=0))
    recorder = Recorder(seconds, trainer.device)
    try:
        WORKLOADS[name](trainer, recorder)
    except ActorFailure as failure:
        raise UserError(f"the games cannot be played: {failure}") from None
    return trainer, recorder


def synthetic_batch(trainer: Trainer) -> Trajectory:
    """Random frames, rewards, resets and actions in the shape of the learner's batches."""
    config, spec, device = trainer.config, trainer.config.env.spec(), trainer.device
    steps, games, actions = config.learner.unroll_length, config.learner.batch_size, len(spec.action_names)
    return Trajectory(
        frame=torch.randint(256, (steps + 1, games, *spec.frame_shape), dtype=torch.uint8, device=device),
        reward=torch.randn(steps + 1, games, device=device),
        reset=torch.rand(steps + 1, games, device=device) < RESET_DENSITY,
        action=torch.randint(actions, (steps, games), device=device),
        behaviour=torch.zeros(steps, games, actions, device=device),
        version=torch.zeros(steps, games, dtype=torch.int64, device=device),
        state=trainer.agent.initial_state(games, device),
    )


def _wait(pool: ActorPool, group: int) -> None:
    """Waits for a group; a failure ends the measurement, for a replaced process would not be the same one."""
    for failure in pool.wait(group):
        raise failure
