"""Saved agents and sequence models: found by the paths of runs, checkpoints or folders of them, and loaded."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import torch

from rfwp.agents.supervised import Supervised
from rfwp.envs.sequence_task import SequenceTask
from rfwp.envs.vector_env import EnvConfig
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.build import build_agent, build_sequence_system, spec_of
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.checkpoint import Checkpoint, CheckpointStore
from rfwp.runners.runfolder.folder import RunFolder, find_run_folders
from rfwp.runners.runfolder.manifest import MANIFEST
from rfwp.runners.settings.config import AgentRunConfig, RunConfig, SequenceRunConfig, agent_config, sequence_config
from rfwp.runners.settings.consent import check_imports


@dataclass(frozen=True)
class Saved:
    """Weights in a checkpoint of a run."""

    folder: RunFolder
    config: RunConfig  # of their training
    checkpoint: Checkpoint
    which: Path | str  # what was asked for: the folder of a checkpoint, or a word for one

    def as_it_is_now(self) -> Self:
        """Return it with its checkpoint, or with the one to take instead if training has pruned that since."""
        if self.checkpoint.folder.exists():
            return self
        return replace(self, checkpoint=_find_checkpoint(self.folder, self.which))

    @property
    def steps(self) -> int:
        """Steps of training: agent steps, or updates of a sequence model."""
        return self.checkpoint.manifest.steps


@dataclass(frozen=True)
class SavedAgent(Saved):
    """An agent in a checkpoint of a run."""

    config: AgentRunConfig

    def load(self, device: torch.device, env: EnvConfig | None = None) -> ActorCritic:
        """Build the agent on a device and load its weights. Raise UserError if they are damaged or do not fit there.

        `env` is the environment to play, by default that of training; it must have the same observations and actions.
        """
        env = env or self.config.env
        self.folder.check_interface("env", spec_of(env).interface)
        agent = build_agent(replace(self.config, env=env), device)
        with self.folder.checkpoints.suggesting_an_intact_one("--checkpoint"):
            self.checkpoint.load_weights(agent)
        return agent.eval()

    @property
    def protocol(self) -> str | None:
        """Protocol of training; None if the environment has none."""
        return self.config.env.protocol


@dataclass(frozen=True)
class SavedModel(Saved):
    """A sequence model in a checkpoint of a run."""

    config: SequenceRunConfig

    def load(self, device: str, task: SequenceTask | None = None) -> Supervised:
        """Load the data and the weights into a system on a device.

        `task` is by default that of training; it must have the same vocabulary. Raise UserError if it has another one,
        or if the weights are damaged or do not fit.
        """
        system = build_sequence_system(replace(self.config, task=task or self.config.task, device=device))
        self.folder.check_interface("task", system.data.interface)
        with self.folder.checkpoints.suggesting_an_intact_one("--checkpoint"):
            self.checkpoint.load_weights(system.model)
        return system


AnySaved = TypeVar("AnySaved", bound=Saved)
Make = Callable[[RunFolder, RunConfig, Checkpoint, Path | str], AnySaved]


def _as_agent(
    folder: RunFolder, config: RunConfig, checkpoint: Checkpoint, which: Path | str, trust: bool
) -> SavedAgent:
    saved = SavedAgent(folder, agent_config(config), checkpoint, which)
    check_imports(saved.config.env, trust)
    return saved


def _as_model(folder: RunFolder, config: RunConfig, checkpoint: Checkpoint, which: Path | str) -> SavedModel:
    return SavedModel(folder, sequence_config(config), checkpoint, which)


def open_agent(run: Path, which: str = "last", trust: bool = False) -> SavedAgent:
    """Find the checkpoint `which` of a run: best, last, or its steps.

    Raise UserError if it does not exist, or if its environment imports code beyond known packages and `trust` is not
    set.
    """
    return _open(RunFolder(run), which, partial(_as_agent, trust=trust))


def find_agents(places: Sequence[Path], which: str, trust: bool = False) -> tuple[list[SavedAgent], list[str]]:
    """Return the agents at these places, and messages about those left out. Raise UserError if none can be read.

    A place is a run or a folder with runs at any depth, of which the checkpoint `which` is taken; a checkpoint; or
    the checkpoints folder of a run, of which all are taken. An agent is left out if its environment imports code beyond
    known packages, unless `trust` is set.
    """
    return _find(places, which, partial(_as_agent, trust=trust))


def find_models(places: Sequence[Path], which: str) -> tuple[list[SavedModel], list[str]]:
    """Return the sequence models at these places as `find_agents` does agents."""
    return _find(places, which, _as_model)


def say_left_out(left_out: Sequence[str]) -> int:
    """Write the messages about what `rfwp evaluate` left out to stderr; return its exit code."""
    for reason in left_out:
        print(f"rfwp evaluate: left out: {reason}", file=sys.stderr)
    return 1 if left_out else 0


def _find(places: Sequence[Path], which: str, make: Make[AnySaved]) -> tuple[list[AnySaved], list[str]]:
    found: list[AnySaved] = []
    left_out: list[str] = []
    candidates: list[tuple[RunFolder, Path | str]] = []
    for place in places:
        try:
            candidates += _candidates(place, which)
        except UserError as error:
            left_out.append(str(error))
    for folder, checkpoint in candidates:
        try:
            found.append(_open(folder, checkpoint, make))
        except UserError as error:
            left_out.append(str(error))
    if not found:
        raise UserError(left_out[0])
    return found, left_out


def _open(folder: RunFolder, which: Path | str, make: Make[AnySaved]) -> AnySaved:
    config = folder.read_config()
    return make(folder, config, _find_checkpoint(folder, which), which)


def _find_checkpoint(folder: RunFolder, which: Path | str) -> Checkpoint:
    with folder.checkpoints.suggesting_an_intact_one("--checkpoint"):
        return Checkpoint(which) if isinstance(which, Path) else folder.checkpoints.find(which)


def _candidates(place: Path, which: str) -> list[tuple[RunFolder, Path | str]]:
    """Return runs, each with the folder of a checkpoint or the word for one. Raise UserError if there is none."""
    if (place / MANIFEST).exists():
        return [(RunFolder(place.absolute().parent.parent), place)]
    if steps := CheckpointStore(place).steps():
        return [(RunFolder(place.absolute().parent), CheckpointStore(place).path(step)) for step in steps]
    return [(folder, which) for folder in find_run_folders([place], "run")[0]]
