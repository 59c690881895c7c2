"""Which agents are meant by words that name runs, checkpoints, or folders of either."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.checkpoint import Checkpoint, CheckpointStore
from rfwp.runners.runfolder.folder import RunFolder, find_run_folders
from rfwp.runners.runfolder.manifest import MANIFEST
from rfwp.runners.settings.config import TrainConfig


@dataclass(frozen=True)
class Contender:
    """An agent that is to be scored: a checkpoint of a run."""

    folder: RunFolder
    config: TrainConfig  # that it was trained by
    checkpoint: Checkpoint

    @property
    def agent_steps(self) -> int:
        """That it was trained for."""
        return self.checkpoint.manifest.agent_steps

    @property
    def protocol(self) -> str | None:
        """Protocol that it was trained under; None if its environment has none."""
        return self.config.env.protocol


def find_contenders(places: Sequence[Path], which: str) -> tuple[list[Contender], list[str]]:
    """The agents that are meant, and what had to be left out; UserError if none can be read.

    A place is a run, whose checkpoint `which` is taken; a folder that holds runs at any depth; a checkpoint; or the
    checkpoints folder of a run, all of which are taken.
    """
    found: list[Contender] = []
    left_out: list[UserError] = []
    candidates = [each for place in places for each in _candidates(place, which)]
    for folder, checkpoint in candidates:
        try:
            with folder.checkpoints.whole_one_offered("--checkpoint"):
                opened = Checkpoint(checkpoint) if isinstance(checkpoint, Path) else folder.checkpoints.find(checkpoint)
            found.append(Contender(folder, folder.read_config(), opened))
        except UserError as error:
            left_out.append(error)
    if not found:
        raise left_out[0]
    return found, [str(error) for error in left_out]


def _candidates(place: Path, which: str) -> Iterator[tuple[RunFolder, Path | str]]:
    """Runs, and of each the folder of a checkpoint or the word for one."""
    if (place / MANIFEST).exists():
        yield RunFolder(place.absolute().parent.parent), place
    elif steps := CheckpointStore(place).steps():
        for step in steps:
            yield RunFolder(place.absolute().parent), CheckpointStore(place).path(step)
    else:
        for folder in find_run_folders([place], "run"):
            yield folder, which
