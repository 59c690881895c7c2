"""The run folder: its paths, its config.yaml, and a lock so that only one process writes to it."""

import contextlib
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.checkpoint import CheckpointStore
from rfwp.runners.runfolder.files import LockedFolder, check_own, free_name, locked, write_whole
from rfwp.runners.settings.config_file import read_plain_values
from rfwp.runners.settings.layers import config_from_values, to_dict
from rfwp.runners.settings.presets import Values

if TYPE_CHECKING:
    from rfwp.runners.settings.config import RunConfig

_CHECKOUT = Path(__file__).resolve().parents[2]
_END = "...\n"  # YAML's end of a document; a file without it is truncated
_CHECKSUM = "# sha256 of the lines above: "
_LIKE_A_CHECKSUM = re.compile(r"^#.*sha256|[0-9a-f]{64}$", re.MULTILINE)  # even if damaged; old files have none


class RunFolder:
    """Paths inside a run folder. Creates nothing before `create`."""

    def __init__(self, path: Path) -> None:
        self._locked: LockedFolder | None = None
        self._name(path)

    def _name(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.yaml"
        self.interface_file = path / "interface.json"
        self.metrics_file = path / "metrics.jsonl"
        self.actor_output = path / "environments.log"
        self.tensorboard = path / "tensorboard"
        self.evaluations = path / "eval"
        self.videos = path / "videos"
        self.profile = path / "profile.json.gz"
        self.checkpoints = CheckpointStore(path / "checkpoints")

    @property
    def exists(self) -> bool:
        """True if a run has started here."""
        return self.config_file.exists()

    def check_free(self) -> None:
        """Raise UserError if the path exists and is neither a run nor the start of one that was interrupted."""
        if self.path.exists() and not self.exists and (not self.path.is_dir() or self._holds_anything()):
            raise UserError(
                f"run: {str(self.path)!r} exists and is not a run folder (it has no config.yaml); choose another name"
            )

    def _holds_anything(self) -> bool:
        """Return True if there is more here than a run interrupted before writing config.yaml leaves behind."""
        made_first = (self.checkpoints.folder, self.interface_file, self.path / ".lock")
        return any(path not in made_first for path in self.path.iterdir()) or any(self.checkpoints.folder.glob("*"))

    def create(self) -> None:
        """Create the folder. Raise UserError if that fails."""
        try:
            self.checkpoints.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"run: cannot create {str(self.path)!r}: {error.strerror}") from None

    def check_own(self) -> None:
        """Raise UserError if something in the folder that rfwp reads or writes leads out of it."""
        files = [self.config_file, self.interface_file, self.metrics_file, self.actor_output, self.profile]
        folders = [self.tensorboard, self.evaluations, self.videos, self.checkpoints.folder]
        check_own(self.path, [".lock", *(path.name for path in (*files, *folders))], "run")

    def read_values(self) -> Values:
        """Return the plain values of config.yaml. Raise UserError if there is no such file or it is damaged."""
        if not self.path.is_dir():
            raise UserError(f"run: got {str(self.path)!r}; there is no such run folder")
        if not self.exists:
            raise UserError(f"run: {str(self.path)!r} is not a run folder: it has no config.yaml")
        self.check_own()
        values = read_plain_values(self.config_file)
        text = self.config_file.read_text(encoding="utf-8")
        if not text.endswith(f"\n{_END}"):
            raise UserError(f"run: {str(self.config_file)!r} is truncated: it must end with the line `...`")
        body, _, _ = text.rpartition(_CHECKSUM)
        if _LIKE_A_CHECKSUM.search(text) and text != f"{body}{_CHECKSUM}{_sha256(body)}\n{_END}":
            raise UserError(
                f"run: {str(self.config_file)!r} is damaged: it does not match its checksum (to change settings,"
                " use the options; if you edited it on purpose, delete the line with the checksum)"
            )
        return values

    def read_config(self) -> "RunConfig":
        """Return the settings of the run. Raise UserError if they cannot be read or are not allowed."""
        values = self.read_values()
        try:
            return config_from_values(values)
        except UserError as error:
            raise UserError(f"{self.config_file}: {error}") from None

    def write_config(self, config: "RunConfig") -> None:
        """Write config.yaml: all settings and, as comments, the versions the run uses now and used before resuming."""
        from rfwp.runners.machine.resources import versions  # here: it imports PyTorch

        found = {**versions(), **config.subject.packages, "commit": commit()}
        comments = [f"# {name}: {version}" for name, version in found.items()]
        for line in self._comments() if self.exists else ():
            earlier = f"# earlier {line.removeprefix('# ').removeprefix('earlier ')}"
            if line not in comments and earlier not in comments:
                comments.append(earlier)
        body = "\n".join([*comments, yaml.safe_dump(to_dict(config), sort_keys=False)])
        write_whole(self.config_file, f"{body}{_CHECKSUM}{_sha256(body)}\n{_END}")

    def read_origin(self) -> dict[str, str]:
        """Return the comments at the head of config.yaml: the versions that the run used."""
        comments = (line.removeprefix("# ").partition(": ") for line in self._comments())
        return {name: value for name, _, value in comments}

    def _comments(self) -> list[str]:
        lines = self.config_file.read_text(encoding="utf-8").splitlines()
        return list(takewhile(lambda line: line.startswith("# "), lines))

    def keep_interface(self, section: str, found: Mapping[str, Any]) -> None:
        """Write interface.json of a new run: what the inputs and outputs of its weights stand for, by name.

        Raise UserError as `check_interface` if an existing run has another one.
        """
        if self.exists:
            self.check_interface(section, found)
        else:
            write_whole(self.interface_file, json.dumps(found, ensure_ascii=False) + "\n")

    def check_interface(self, section: str, found: Mapping[str, Any]) -> None:
        """Raise UserError, about a section of the settings, unless the weights belong to this interface."""
        try:
            before = dict(json.loads(self.interface_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise UserError(f"run: {str(self.interface_file)!r} cannot be read: {error}") from None
        other = [name for name, value in found.items() if before.get(name) != value]
        if other:
            raise UserError(
                f"{section}: got other {' and '.join(other)} than those in {str(self.interface_file)!r}, which the"
                " weights belong to"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder while entered. Raise UserError if another process holds it."""
        self.check_own()
        with locked(self.path, "run") as self._locked:
            try:
                yield
            finally:
                self._locked = None

    def follow(self) -> None:
        """Change the paths if the folder was moved since it was locked. Raise UserError if it was deleted."""
        if self._locked is not None and (path := self._locked.find()) != self.path:
            self._name(path)

    def set_aside_after(self, steps: int) -> None:
        """Rename what belongs to later weights, so that a run resumed from older ones neither meets nor reports it."""
        for folder in (self.evaluations, self.videos):
            for path in folder.glob("step-*"):
                digits = path.name.removeprefix("step-")[:12]
                if digits.isdecimal() and int(digits) > steps and path.suffix in (".json", ".mp4", ".gif"):
                    path.rename(free_name(path.with_name(f"{path.name}.set-aside")))
        self.checkpoints.set_aside_after(steps, self.metrics_file)


def find_run_folders(places: Iterable[Path], option: str) -> tuple[list[RunFolder], list[str]]:
    """Return the run folders among or below these folders, each once, and messages about those without runs.

    Raise UserError if there are no runs at all.
    """
    found: dict[Path, RunFolder] = {}
    left_out = []
    for place in places:
        unreadable: list[OSError] = []
        folders = [place] if RunFolder(place).exists else list(_runs_below(place, unreadable.append))
        found |= {folder.resolve(): RunFolder(folder) for folder in folders}
        if not place.is_dir():
            left_out.append(f"{option}: got {str(place)!r}; there is no such folder")
        elif unreadable:
            left_out += [f"{option}: {error.filename!r} cannot be read: {error.strerror}" for error in unreadable]
        elif not folders:
            left_out.append(f"{option}: got {str(place)!r}; it contains no runs (a run folder has a config.yaml)")
    if not found:
        raise UserError(left_out[0])
    return list(found.values()), left_out


def _runs_below(place: Path, note: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield the run folders below a folder, also those behind symbolic links, which may lead back to where they are.

    `note` gets the errors of folders that cannot be read.
    """
    seen = set()
    for folder, below, files in os.walk(place, onerror=note, followlinks=True):
        identity = os.stat(folder)
        if (key := (identity.st_dev, identity.st_ino)) in seen:
            below.clear()
            continue
        seen.add(key)
        below.sort()
        if "config.yaml" in files:
            yield Path(folder)


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return names of run folders for tables: their paths relative to their common parent."""
    paths = [Path(os.path.abspath(folder)) for folder in folders]
    top = os.path.commonpath([path.parent for path in paths])
    return [str(path.relative_to(top)) for path in paths]


def create_run_folder(config: "RunConfig", parent: Path = Path("runs")) -> RunFolder:
    """Create runs/NAME-NUMBER with the lowest free number, even if several runs start at once."""
    name = config.name
    number = 1
    try:
        parent.mkdir(exist_ok=True)
        while not _made(path := parent / f"{name}-{number}"):
            number += 1
    except OSError as error:
        raise UserError(f"run: cannot create {parent / name!s}-{number}: {error.strerror}") from None
    return RunFolder(path)


def _made(path: Path) -> bool:
    """Create a folder; return False if the path exists."""
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def commit(checkout: Path = _CHECKOUT) -> str:
    """Return the commit of the code if it runs from its git checkout; `+` marks uncommitted changes."""
    if not (checkout / ".git").exists():  # of an installed package or an archive; git would look in folders above
        return "not a git checkout"
    command = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
