"""Where the text of a language model comes from: plain files, or a data set that the `datasets` library has saved."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from rfwp.envs.sequence_task import SPLITS

Level = Literal["word", "byte"]

# For each split the first of these that exists. A train.txt beside a train.txt.raw holds the bytes as decimal numbers.
FILES = {"word": ("{}.txt", "wiki.{}.tokens"), "byte": ("{}.txt.raw", "wiki.{}.raw", "{}.txt")}
ENWIK8 = "enwik8"  # a single file: 90 % for training, 5 % for validation, 5 % for testing
SAVED = "dataset_dict.json"  # in every folder that DatasetDict.save_to_disk has written
SAVED_SPLITS = {"train": ("train",), "valid": ("validation", "valid"), "test": ("test",)}
COLUMN = "text"  # of a saved data set


class Text(Protocol):
    """The text of one split."""

    @property
    def path(self) -> Path:
        """The file or folder that it is in."""

    def key(self) -> object:
        """Return a value that changes with the text."""

    def read(self) -> bytes:
        """Read all of it."""

    def lines(self) -> Iterator[str]:
        """Yield its lines. Raises ValueError if it is not UTF-8."""


class File(NamedTuple):
    """The bytes start ≤ i < stop of a file."""

    path: Path
    start: int
    stop: int

    def key(self) -> object:
        return _checksum(self.path), self.start, self.stop

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.stop - self.start)

    def lines(self) -> Iterator[str]:
        with self.path.open(encoding="utf-8") as file:
            try:
                yield from file
            except UnicodeDecodeError as error:
                raise ValueError(f"folder: {self.path} is not UTF-8 text: {error.reason}") from None


class SavedSplit(NamedTuple):
    """A split that the `datasets` library has saved. Its rows hold a line or more; a line without an end gets one."""

    path: Path

    def key(self) -> object:
        return [_checksum(path) for path in sorted(self.path.iterdir())]

    def read(self) -> bytes:
        return "".join(f"{line}\n" for line in self.lines()).encode()

    def lines(self) -> Iterator[str]:
        for row in self._rows():
            yield from row.removesuffix("\n").split("\n")

    def _rows(self) -> Iterator[str]:
        try:
            from datasets import load_from_disk
        except ImportError:
            raise ValueError(
                f"folder: {self.path.parent} was saved by the datasets library, which is not installed;"
                ' run pip install "rfwp[text]"'
            ) from None
        try:
            split = load_from_disk(str(self.path))
        except (OSError, ValueError) as error:
            raise ValueError(f"folder: {self.path} cannot be read: {str(error).strip()[:200]}") from None
        dtype = getattr(split.features.get(COLUMN), "dtype", None)
        if dtype not in ("string", "large_string"):
            columns = ", ".join(split.column_names)
            raise ValueError(f"folder: {self.path} has the columns {columns}; allowed: a column {COLUMN!r} of strings")
        for row in split:
            yield row[COLUMN] or ""


def find_texts(folder: str, level: Level) -> dict[str, Text]:
    """Return the text of each split. Raises ValueError if the folder lacks one."""
    place = Path(folder)
    if not folder or not place.is_dir():
        raise ValueError(f"folder: got {folder!r}; allowed: a folder with train, valid and test text")
    whole = place / ENWIK8
    if level == "byte" and whole.is_file():
        size = whole.stat().st_size
        cuts = pairwise((0, size * 90 // 100, size * 95 // 100, size))
        return {split: File(whole, *cut) for split, cut in zip(SPLITS, cuts, strict=True)}
    if (place / SAVED).is_file():
        return {split: SavedSplit(_first(place, SAVED_SPLITS[split])) for split in SPLITS}
    paths = {split: _first(place, [name.format(split) for name in FILES[level]]) for split in SPLITS}
    return {split: File(path, 0, path.stat().st_size) for split, path in paths.items()}


def _first(folder: Path, names: Sequence[str]) -> Path:
    """Return the first of these that is in the folder."""
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise ValueError(f"folder: got {str(folder)!r}; allowed: a folder with {' or '.join(names)}")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
