"""Saved agents: found by the paths of runs, checkpoints or folders of them, and loaded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rfwp.envs.vector_env import EnvConfig
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.build import build_agent
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.checkpoint import Checkpoint, CheckpointStore
from rfwp.runners.runfolder.folder import RunFolder, find_run_folders
from rfwp.runners.runfolder.manifest import MANIFEST
from rfwp.runners.settings.config import TrainConfig


@dataclass(frozen=True)
class SavedAgent:
    """An agent in a checkpoint of a run."""

    folder: RunFolder
    config: TrainConfig  # of its training
    checkpoint: Checkpoint

    def load(self, device: torch.device, env: EnvConfig | None = None) -> ActorCritic:
        """Build the agent on a device and load its weights. Raise UserError if they are damaged or do not fit there.

        `env` is the environment to play, by default that of training; it must have the same observations and actions.
        """
        agent = build_agent(replace(self.config, env=env or self.config.env), device)
        with self.folder.checkpoints.suggesting_an_intact_one("--checkpoint"):
            self.checkpoint.load_weights(agent)
        return agent.eval()

    @property
    def agent_steps(self) -> int:
        """Agent steps of training."""
        return self.checkpoint.manifest.agent_steps

    @property
    def protocol(self) -> str | None:
        """Protocol of training; None if the environment has none."""
        return self.config.env.protocol


def open_agent(run: Path, which: str = "last") -> SavedAgent:
    """Find the checkpoint `which` of a run: best, last, or its agent steps. Raise UserError if it does not exist."""
    folder = RunFolder(run)
    config = folder.read_config()
    with folder.checkpoints.suggesting_an_intact_one("--checkpoint"):
        return SavedAgent(folder, config, folder.checkpoints.find(which))


def find_agents(places: Sequence[Path], which: str) -> tuple[list[SavedAgent], list[str]]:
    """Return the agents at these places, and messages about those left out. Raise UserError if none can be read.

    A place is a run or a folder with runs at any depth, of which the checkpoint `which` is taken; a checkpoint; or
    the checkpoints folder of a run, of which all are taken.
    """
    found: list[SavedAgent] = []
    left_out: list[UserError] = []
    candidates = [each for place in places for each in _candidates(place, which)]
    for folder, checkpoint in candidates:
        try:
            with folder.checkpoints.suggesting_an_intact_one("--checkpoint"):
                opened = Checkpoint(checkpoint) if isinstance(checkpoint, Path) else folder.checkpoints.find(checkpoint)
            found.append(SavedAgent(folder, folder.read_config(), opened))
        except UserError as error:
            left_out.append(error)
    if not found:
        raise left_out[0]
    return found, [str(error) for error in left_out]


def _candidates(place: Path, which: str) -> Iterator[tuple[RunFolder, Path | str]]:
    """Yield run folders, each with the folder of a checkpoint or the word for one."""
    if (place / MANIFEST).exists():
        yield RunFolder(place.absolute().parent.parent), place
    elif steps := CheckpointStore(place).steps():
        for step in steps:
            yield RunFolder(place.absolute().parent), CheckpointStore(place).path(step)
    else:
        for folder in find_run_folders([place], "run"):
            yield folder, which
