"""Writing files so that nothing is lost: to a temporary name, flushed to disk, then renamed, by one process alone."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from rfwp.runners.errors import UserError


def write_whole(path: Path, text: str) -> None:
    """Writes a text file that is either the old one or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(json_file: str | None) -> None:
    """UserError, before hours of work, if their result cannot be written where --json says; `-` is standard output."""
    if json_file is None or json_file == "-":
        return
    path = Path(json_file).absolute()
    if json_file == "" or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"json: got {json_file!r}; allowed: a file in a folder that can be written to, or -")


@contextlib.contextmanager
def locked(folder: Path, option: str) -> Iterator[None]:
    """Holds the folder of an option for this process; UserError if another one has it. The lock dies with its owner."""
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise UserError(f"{option}: {str(folder)!r} is in use by process {owner}; wait for it or end it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def flush_to_disk(path: Path) -> None:
    """fsync of a file or folder by its path."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep_lines(path: Path, wanted: Callable[[str], bool]) -> None:
    """Drops the lines of a text file that are not wanted; a file without such lines is left alone."""
    if not path.exists():
        return
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if wanted(line)]
    if kept != lines:
        write_whole(path, "".join(kept))
