"""Language modelling: predict the next word or byte of a text in a folder of your own."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rfwp.checks import check, check_choice
from rfwp.envs.data_cache import Arrays, cached
from rfwp.envs.sequence_task import SPLITS, Dataset, Measure, Sequences, SequenceTask

Level = Literal["word", "byte"]

END_OF_LINE, UNKNOWN = "<eos>", "<unk>"
# For each split the first of these that exists. A train.txt beside a train.txt.raw holds the bytes as decimal numbers.
FILES = {"word": ("{}.txt", "wiki.{}.tokens"), "byte": ("{}.txt.raw", "wiki.{}.raw", "{}.txt")}
ENWIK8 = "enwik8"  # a single file: 90 % for training, 5 % for validation, 5 % for testing


@dataclass(frozen=True)
class Config(SequenceTask):
    """The text is in train.txt, valid.txt and test.txt, or in files named as in WikiText-103 or enwik8.

    Words are separated by white space, and every line ends with <eos>. The vocabulary is that of train: <eos> first,
    then by falling count; words of equal count are in the order of the text.
    """

    is_text = True

    folder: str = ""
    """Folder with the text."""

    level: Level = "word"
    """What is predicted: word or byte."""

    min_count: int = 1
    """Words that train has fewer times become <unk>, and so do words that it lacks. With 1, as for WikiText-103, a word
    that train lacks is an error."""

    def __post_init__(self) -> None:
        check_choice("level", self.level, Level)
        check(self.min_count >= 1, "min_count", self.min_count, "1 or more")

    @property
    def title(self) -> str:
        return f"{Path(self.folder).name or 'text'}-{self.level}s"

    @property
    def measure(self) -> Measure:
        return "perplexity" if self.level == "word" else "bits"

    def load(self) -> Dataset:
        """Read and number the text, or take the numbers from the disk cache if the files have not changed."""
        parts = self._parts()
        content = [(part.checksum(), part.start, part.stop) for part in parts]
        key = (Path(__file__).read_bytes(), self.level, self.min_count, content)
        arrays = cached(key, (*SPLITS, "vocabulary"), lambda: self._number(parts))
        vocabulary = tuple(arrays["vocabulary"].tobytes().decode().split("\n"))
        train, valid, test = (predict_next(arrays[split]) for split in SPLITS)
        return Dataset(vocabulary, vocabulary, train, valid, test)

    def _parts(self) -> list["Part"]:
        """Find the text of each split."""
        folder = Path(self.folder)
        if not self.folder or not folder.is_dir():
            raise ValueError(f"folder: got {self.folder!r}; allowed: a folder with train, valid and test text")
        whole = folder / ENWIK8
        if self.level == "byte" and whole.is_file():
            size = whole.stat().st_size
            return [Part(whole, *cut) for cut in pairwise((0, size * 90 // 100, size * 95 // 100, size))]
        return [self._part(folder, split) for split in SPLITS]

    def _part(self, folder: Path, split: str) -> "Part":
        names = [name.format(split) for name in FILES[self.level]]
        for path in (folder / name for name in names):
            if path.is_file():
                return Part(path, 0, path.stat().st_size)
        raise ValueError(f"folder: got {self.folder!r}; allowed: a folder with {' or '.join(names)}")

    def _number(self, parts: list["Part"]) -> Arrays:
        """Return the token ids of each split, and the vocabulary as UTF-8 text, a word a line."""
        if self.level == "byte":
            vocabulary = [f"{byte:02x}" for byte in range(256)]
            streams: list[NDArray[Any]] = [np.frombuffer(part.read(), np.uint8) for part in parts]
        else:
            vocabulary = count_words(parts[0], self.min_count)
            streams = [number_words(part, vocabulary, self.min_count > 1) for part in parts]
        for part, stream in zip(parts, streams, strict=True):
            if len(stream) < 2:
                raise ValueError(f"folder: {part.path} has {len(stream)} {self.level}s; allowed: 2 or more")
        words = np.frombuffer("\n".join(vocabulary).encode(), np.uint8)
        return dict(zip((*SPLITS, "vocabulary"), (*streams, words), strict=True))


class Part(NamedTuple):
    """The bytes start ≤ i < stop of a file."""

    path: Path
    start: int
    stop: int

    def read(self) -> bytes:
        """Read the bytes."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.stop - self.start)

    def checksum(self) -> str:
        """Return the SHA-256 of the whole file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def lines(self) -> Iterator[list[str]]:
        """Yield the words of each line of the file. Raises ValueError if it is not UTF-8."""
        with self.path.open(encoding="utf-8") as file:
            try:
                for line in file:
                    yield [*line.split(), END_OF_LINE]
            except UnicodeDecodeError as error:
                raise ValueError(f"folder: {self.path} is not UTF-8 text: {error.reason}") from None


def count_words(part: Part, min_count: int) -> list[str]:
    """Return the vocabulary: <eos>, then the words that occur at least min_count times, by falling count."""
    counts: Counter[str] = Counter()
    for words in part.lines():
        counts.update(words)
    rare = [word for word, count in counts.items() if count < min_count]
    if min_count > 1:
        counts[UNKNOWN] += sum(counts.pop(word) for word in rare if word != UNKNOWN)
    counts.pop(END_OF_LINE, None)
    return [END_OF_LINE, *(word for word, _ in counts.most_common())]


def number_words(part: Part, vocabulary: list[str], unknown_allowed: bool) -> NDArray[Any]:
    """Return the ids of the words [N]. Raises ValueError for an unknown word unless it may become <unk>."""
    index = {word: number for number, word in enumerate(vocabulary)}
    default = index[UNKNOWN] if unknown_allowed else -1
    ids = array("i")
    for line, words in enumerate(part.lines(), start=1):
        numbers = [index.get(word, default) for word in words]
        if -1 in numbers:
            word = words[numbers.index(-1)]
            raise ValueError(
                f"min_count: got 1, but line {line} of {part.path} has {word!r}, which the training text lacks;"
                " allowed: 2 or more, to make such words <unk>"
            )
        ids.extend(numbers)
    return np.array(ids, np.uint16 if len(vocabulary) <= 2**16 else np.int32)


def predict_next(stream: NDArray[Any]) -> Sequences:
    """Return a stream of tokens [N] as one sequence, in which each token's class is the next token."""
    return Sequences(stream[:-1], stream[1:], np.array([0, len(stream) - 1]))
