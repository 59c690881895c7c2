"""Tells the kind of run that a command line is about, without reading its settings. Imports nothing heavy."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path


def names_a_task(words: Sequence[str]) -> bool:
    """Return True if the words name a supervised task, or a run, checkpoint or config file of one."""
    if any(word.partition("=")[0] in ("--task", "--task.name", "--tasks") for word in words):
        return True
    with suppress(OSError, ValueError):  # the command that needs the file will say what is wrong
        return any("\ntask:" in "\n" + path.read_text(encoding="utf-8") for path in _config_files(words))
    return False


def _config_files(words: Sequence[str]) -> Iterator[Path]:
    """Yield config.yaml files that belong to the words, at most one a word."""
    for word in words:
        path = Path(word.rpartition("=")[2])
        if path.suffix == ".yaml" and path.is_file():
            yield path
        elif path.is_dir() and word:
            above = (folder / "config.yaml" for folder in (path, *path.absolute().parents[:2]))
            yield from islice((found for found in (*above, *path.rglob("config.yaml")) if found.is_file()), 1)
