"""Checkpoints: folders that are written atomically, verified before use, and run no code when loaded.

PyTorch is imported when a checkpoint is loaded or saved; a report, which reads only manifests, does without it.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.files import flush_to_disk, free_name
from rfwp.runners.runfolder.manifest import MANIFEST, Manifest, manifest_bytes, read_manifest

if TYPE_CHECKING:
    from torch import nn

WEIGHTS, TRAINER = "weights.safetensors", "trainer.pt"


class Checkpoint:
    """One checkpoint folder and its manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder / MANIFEST)
        named = folder.name.removeprefix("step-")
        if named.isdecimal() and int(named) != self.manifest.steps:
            raise UserError(f"checkpoint: {folder} is damaged: its manifest is that of step {self.manifest.steps}")

    @property
    def weights_sha256(self) -> str:
        """Checksum of the weights, by which evaluations name them."""
        return (self.manifest.sha256 or {}).get(WEIGHTS, "")

    def load_weights(self, model: "nn.Module") -> None:
        """Load the model's weights. Raise UserError, leaving the model unchanged, if they do not fit or are damaged."""
        from rfwp.runners.runfolder.tensors import read_safetensors

        self._verify(WEIGHTS)
        weights = read_safetensors(self.folder / WEIGHTS)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        if {name: tuple(tensor.shape) for name, tensor in weights.items()} != expected:
            raise UserError(
                f"checkpoint: {self.folder / WEIGHTS} does not hold the weights of the model in config.yaml"
            )
        model.load_state_dict(weights)

    def load_trainer(self) -> dict[str, Any]:
        """Load optimiser, counters and random generators: tensors and plain values only, so loading runs no code."""
        from rfwp.runners.runfolder.tensors import read_torch_file

        self._verify(TRAINER)
        return read_torch_file(self.folder / TRAINER)

    def verify(self) -> None:
        """Raise UserError if a file is missing or damaged."""
        self._verify(WEIGHTS)
        self._verify(TRAINER)

    def _verify(self, name: str) -> None:
        path = self.folder / name
        if not path.is_file():
            raise UserError(f"checkpoint: {path} is missing")
        try:
            found = _sha256(path)
        except OSError as error:
            raise UserError(f"checkpoint: {path} cannot be read: {error.strerror}") from None
        if found != (self.manifest.sha256 or {}).get(name):
            raise UserError(f"checkpoint: {path} is damaged: its contents do not match {MANIFEST}")


class Absent(UserError):
    """The requested checkpoint does not exist."""


class CheckpointStore:
    """The checkpoints of a run, in folders named after their steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self) -> list[int]:
        """Return the steps of the existing checkpoints, ascending."""
        found = (path.name.removeprefix("step-") for path in self.folder.glob("step-*") if path.is_dir())
        return sorted(int(name) for name in found if name.isdecimal())

    def find(self, which: str) -> Checkpoint:
        """Return the checkpoint `last`, `best` (by the score in its manifest), or one by its steps."""
        steps = self.steps()
        try:
            return self._find(which, steps)
        except UserError:
            if self.steps() == steps:
                raise
            return self.find(which)  # training has saved and pruned meanwhile

    def _find(self, which: str, steps: list[int]) -> Checkpoint:
        if not steps:
            raise Absent(f"checkpoint: there is none in {str(self.folder)!r} yet")
        if which == "last":
            return self.at(steps[-1])
        if which == "best":
            return max((self.at(step) for step in steps), key=_merit)
        digits = which.replace("_", "")
        if not digits.isdecimal() or int(digits) not in steps:
            raise Absent(f"checkpoint: got {which!r}; allowed: best, last, {', '.join(map(str, steps))}")
        return self.at(int(digits))

    def save(self, model: "nn.Module", trainer: dict[str, Any], manifest: Manifest) -> Path:
        """Write a checkpoint under a temporary name, flush it to disk, then rename it."""
        from rfwp.runners.runfolder.tensors import as_safetensors, as_torch_file

        target = self.path(manifest.steps)
        if target.exists():  # stopped again before another update: the same weights
            return target
        temporary = self._temporary(target)
        for leftover in self.folder.glob(".step-*.tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        self.folder.mkdir(exist_ok=True)  # no parents: never recreate a run folder that is gone
        temporary.mkdir()
        try:
            files = {WEIGHTS: as_safetensors(model.state_dict()), TRAINER: as_torch_file(trainer)}
            files[MANIFEST] = manifest_bytes(manifest, files)
            for name, data in files.items():
                (temporary / name).write_bytes(data)
            for path in (*temporary.iterdir(), temporary):
                flush_to_disk(path)
            temporary.rename(target)
            flush_to_disk(self.folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    def set_aside_after(self, steps: int, metrics_file: Path) -> None:
        """Rename newer checkpoints, so that a run resumed from an older one does not collide with them.

        The newest gets a copy of the metrics, because the metrics also continue from the older checkpoint.
        """
        newer = [self.path(step) for step in self.steps() if step > steps]
        if newer and metrics_file.exists():
            shutil.copy(metrics_file, newer[-1])
        for path in newer:
            path.rename(free_name(path.with_name(f"set-aside-{path.name}")))

    @contextlib.contextmanager
    def suggesting_an_intact_one(self, option: str) -> Iterator[None]:
        """Add to an error about a damaged checkpoint the option that selects the newest intact one.

        Suggested, never chosen automatically: corruption needs a human, and rolling back can lose hours.
        """
        try:
            yield
        except Absent:
            raise
        except UserError as error:
            step = next(filter(self._is_whole, reversed(self.steps())), None)
            if step is None:
                raise
            raise UserError(f"{error}; the newest intact checkpoint is {step}: {option} {step}") from None

    def _is_whole(self, steps: int) -> bool:
        try:
            self.at(steps).verify()
        except UserError:
            return False
        return True

    def prune(self, keep: int) -> list[str]:
        """Delete all but the newest `keep` checkpoints and the best one.

        Keep those with an unreadable manifest and do not count them; return what is wrong with each.
        """
        readable, problems = [], []
        for step in self.steps():
            try:
                readable.append(self.at(step))
            except UserError as error:
                problems.append(str(error))
        best = max(readable, key=_merit, default=None)
        for checkpoint in readable[:-keep]:
            if checkpoint is not best:
                self._delete(checkpoint.folder)
        return problems

    def _delete(self, folder: Path) -> None:
        """Rename, then delete: a kill in between leaves only a temporary folder, which `save` removes."""
        with contextlib.suppress(OSError):
            shutil.rmtree(folder.rename(self._temporary(folder)))

    def _temporary(self, folder: Path) -> Path:
        return self.folder / f".{folder.name}.tmp-{os.getpid()}"

    def path(self, steps: int) -> Path:
        """Return the path of the checkpoint at `steps`, whether or not it exists."""
        return self.folder / f"step-{steps:012d}"

    def at(self, steps: int) -> Checkpoint:
        """Return the checkpoint at `steps`. Raise UserError if it is missing or damaged."""
        return Checkpoint(self.path(steps))


def _merit(checkpoint: Checkpoint) -> tuple[float, int]:
    score = checkpoint.manifest.score
    return (float("-inf") if score is None else score, checkpoint.manifest.steps)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
