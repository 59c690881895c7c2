"""Files: atomic writes, locks, and reading the end of a long file."""

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from rfwp.runners.machine.errors import UserError

_TAIL_BYTES = 8192  # read from the end of a long file
_GLANCE_SECONDS = 0.1


def write_whole(path: Path, text: str) -> None:
    """Write a text file atomically: it is either the old one or the new one."""
    write_bytes_whole(path, text.encode(errors="replace"))


def write_bytes_whole(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with whole_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to, which takes its place when it is complete and on disk.

    A symbolic link there, or at the place of the temporary file, is not followed.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    temporary.unlink(missing_ok=True)  # of a process that had the same number
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_own(folder: Path, names: Iterable[str], option: str) -> None:
    """Raise UserError if one of these names in the folder of an option is, or holds, what leads elsewhere.

    Symbolic links could have rfwp read, publish, overwrite or delete files outside the folder; pipes could stop it.
    """
    for path in (folder / name for name in names):
        with contextlib.suppress(FileNotFoundError):  # not there yet, or deleted meanwhile
            kind = path.lstat().st_mode
            if stat.S_ISDIR(kind):
                check_own(path, os.listdir(path), option)
            elif stat.S_ISLNK(kind):
                raise UserError(f"{option}: {str(path)!r} is a symbolic link: put what it links to in its place")
            elif not stat.S_ISREG(kind):
                raise UserError(f"{option}: {str(path)!r} is not a file: remove it")


def free_name(path: Path) -> Path:
    """Return the path, with a longer name if it is taken."""
    while path.exists():
        path = path.with_name(f"{path.name}x")
    return path


def check_writable(json_file: str | None) -> None:
    """Raise UserError before hours of work if --json cannot be written to; `-` is standard output."""
    if json_file is None or json_file == "-":
        return
    path = Path(json_file).absolute()
    if json_file == "" or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"json: got {json_file!r}; allowed: a file in a folder that can be written to, or -")


def write_json(json_file: str | None, facts: Any) -> None:
    """Write plain values as --json asks: into a file, to standard output for `-`, nowhere for None."""
    text = json.dumps(facts, indent=2) + "\n"
    if json_file == "-":
        print(text, end="")
    elif json_file is not None:
        write_whole(Path(json_file), text)


class LockedFolder:
    """A folder of an option that this process holds."""

    def __init__(self, path: Path, option: str, descriptor: int) -> None:
        self._path = path
        self._option = option
        self._descriptor = descriptor

    def find(self) -> Path:
        """Return its path, which changes if it is moved. Raise UserError if it was deleted."""
        held = os.fstat(self._descriptor)
        if self._path.exists() and os.path.samestat(held, self._path.stat()):
            return self._path
        if held.st_nlink == 0:
            raise UserError(
                f"{self._option}: {str(self._path)!r} was deleted while it was in use, so nothing more can be saved"
            )
        return Path(f"/proc/self/fd/{self._descriptor}").readlink()


@contextlib.contextmanager
def locked(folder: Path, option: str) -> Iterator[LockedFolder]:
    """Lock the folder of an option while entered. Raise UserError if another process holds it.

    The lock ends with its process.
    """
    check_own(folder, [".lock"], option)
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            _lock(file.fileno())
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise UserError(f"{option}: {str(folder)!r} is in use by process {owner}; wait for it or end it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            yield LockedFolder(folder, option, descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(_GLANCE_SECONDS)  # `in_use` may have held it briefly
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def in_use(folder: Path) -> bool:
    """Return True if a process holds the folder with `locked`."""
    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        return False
    return False


def tail(path: Path, lines: int = 20) -> list[str]:
    """Return the last whole lines of a text file; [] if there is no file."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            found = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return found[1 if start else 0 :][-lines:]


def flush_to_disk(path: Path) -> None:
    """Flush a file or folder to disk with fsync."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep_lines(path: Path, wanted: Callable[[bytes], bool]) -> None:
    """Drop the lines of a file that are not wanted; do not rewrite a file without any. Holds one line in memory."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        if not all(map(wanted, lines)):
            lines.seek(0)
            with whole_file(path) as kept:
                kept.writelines(filter(wanted, lines))


def is_number(value: Any) -> TypeGuard[float]:
    """Return True if a value from a file is a number that can be averaged and drawn: neither infinite nor absurd."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100


def is_count(value: Any) -> bool:
    """Return True if a value from a file can be a number of steps, episodes or bytes."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
