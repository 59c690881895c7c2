"""The workloads of `rfwp bench`: the emulator alone, acting alone, learning alone, and training as a whole."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from rfwp.agents.actor_learner import ActorLearner
from rfwp.agents.actor_pool import ActorFailure, ActorPool
from rfwp.agents.phases import WAIT, Phases
from rfwp.agents.trajectory import Trajectory
from rfwp.envs.spaces import Field
from rfwp.runners.bench.throughput import Recorder
from rfwp.runners.build import build_system
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.signals import StopSignals
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.settings.config import AgentRunConfig
from rfwp.runners.training.agent_training import AgentTraining
from rfwp.runners.training.memory_estimate import check_agent_sizes
from rfwp.runners.training.meter import ActorMeter
from rfwp.runners.training.trainer import Trainer
from rfwp.runners.training.training import Line

RESET_DENSITY = 0.01  # share of the synthetic steps that start an episode


def play(system: ActorLearner, recorder: Recorder) -> None:
    """Run the emulator alone: the same actor processes with random actions. An upper bound for the others."""
    random, phases, steps = np.random.default_rng(system.config.seed), Phases(), 0
    with system.start_actors() as pool:
        sizes, envs = pool.spec.action_sizes, pool.envs_per_group

        def spent() -> dict[str, float]:
            return {"actors: emulator": pool.busy_seconds, "main: wait": phases.seconds[WAIT]}

        while not recorder.tick(steps, spent):
            for group in range(pool.config.groups):
                with phases(WAIT):
                    _wait(pool, group)
                pool.act(group, random.integers(sizes, size=(envs, len(sizes))))
                steps += envs


def act(system: ActorLearner, recorder: Recorder) -> None:
    """Run acting alone: emulator and policy, without learning."""
    with system.start_actors() as pool:
        collector, steps = system.build_collector(pool), 0

        def spent() -> dict[str, float]:
            phases = {f"collector: {name}": seconds for name, seconds in collector.phases.seconds.items()}
            return {"actors: emulator": pool.busy_seconds, **phases}

        while not recorder.tick(steps, spent):
            steps += collector.collect().trajectory.steps


def learn(system: ActorLearner, recorder: Recorder) -> None:
    """Run learning alone: updates on one synthetic batch, and publishing the weights."""
    batch = synthetic_batch(system)

    def spent() -> dict[str, float]:
        return {f"learner: {name}": seconds for name, seconds in system.learner.phases.seconds.items()}

    while not recorder.tick(system.learner.steps, spent):
        system.update(batch)
        if system.device.type == "cuda":  # count finished work, not queued work
            torch.cuda.synchronize(system.device)


def train(system: ActorLearner, config: AgentRunConfig, recorder: Recorder) -> None:
    """Run training as a whole, into a temporary run folder."""
    with tempfile.TemporaryDirectory(prefix="rfwp-bench-") as path, StopSignals(system.stop) as signals:
        folder = RunFolder(Path(path) / "run")
        folder.create()
        Trainer(AgentTraining(config, system), folder, _Watcher(system, recorder)).run()
        if signals.received is not None:
            raise KeyboardInterrupt


class _Watcher:
    """A display that shows nothing, takes readings, and stops training when there are enough."""

    def __init__(self, system: ActorLearner, recorder: Recorder) -> None:
        self._system, self._recorder, self._meter = system, recorder, ActorMeter(system)

    def update(self, line: Line) -> None: ...

    def advance(self, steps: int) -> None:
        if not self._system.stopped and self._recorder.tick(steps, self._meter.phases):
            self._system.stop()

    def note(self, message: str) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...


PARTS: dict[str, Callable[[ActorLearner, Recorder], None]] = {"env": play, "act": act, "learn": learn}
WORKLOADS: dict[str, Callable[..., None]] = {**PARTS, "train": train}


def run(name: str, config: AgentRunConfig, seconds: float) -> tuple[ActorLearner, Recorder]:
    """Run a workload with the settings of a training run: a warm-up, then about `seconds` seconds."""
    # The run must outlast the measurement and needs no evaluation. Starting a spare process would disturb it.
    actors = replace(config.actors, spare=False)
    config = replace(config, actors=actors, total_steps=max(config.total_steps, 10**12), final_episodes=0)
    system = build_system(config)
    check_agent_sizes(config, system.agent, system.num_processes, system.device)
    recorder = Recorder(seconds, system.device)
    try:
        if name == "train":
            train(system, config, recorder)
        else:
            PARTS[name](system, recorder)
    except ActorFailure as failure:
        raise UserError(f"environments keep failing: {failure}") from None
    return system, recorder


def synthetic_batch(system: ActorLearner, batch: int | None = None) -> Trajectory:
    """Return random observations, rewards, episode starts and actions in the shape of the learner's batches.

    `batch`: unrolls, if not those of the settings.
    """
    config, spec, device = system.config, system.config.env.spec(), system.device
    steps, batch = config.learner.unroll_length, batch or config.learner.batch_size
    return Trajectory(
        observation=tuple(_random_field(field, (steps + 1, batch), device) for field in spec.observation),
        last_action=_random_choices(spec.action_sizes, (steps + 1, batch), device),
        reward=torch.randn(steps + 1, batch, device=device),
        first=torch.rand(steps + 1, batch, device=device) < RESET_DENSITY,
        action=_random_choices(spec.action_sizes, (steps, batch), device),
        truncated=torch.zeros(steps, batch, dtype=torch.bool, device=device),
        behaviour=torch.zeros(steps, batch, sum(spec.action_sizes), device=device),
        version=torch.zeros(steps, batch, dtype=torch.int64, device=device),
        state=system.agent.initial_state(batch, device),
    )


def _random_field(field: Field, lead: tuple[int, int], device: torch.device) -> Tensor:
    match field.kind:
        case "image":
            return torch.randint(256, (*lead, *field.shape), dtype=torch.uint8, device=device)
        case "vector":
            return torch.randn(*lead, *field.shape, device=device)
        case "categories":
            return _random_choices(field.sizes, lead, device)


def _random_choices(sizes: tuple[int, ...], lead: tuple[int, int], device: torch.device) -> Tensor:
    return torch.stack([torch.randint(size, lead, device=device) for size in sizes], dim=-1)


def _wait(pool: ActorPool, group: int) -> None:
    """Wait for a group. A failure ends the measurement, because a replaced process would distort it."""
    for failure in pool.wait(group):
        raise failure
