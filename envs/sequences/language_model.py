"""Language modelling: predict the next word or byte of a text in a folder of your own."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rfwp.checks import check, check_choice
from rfwp.envs import texts
from rfwp.envs.data_cache import Arrays, cached
from rfwp.envs.sequence_task import SECOND_HAND, SPLITS, Dataset, Measure, Sequences, SequenceTask
from rfwp.envs.texts import Level, Text, find_texts

END_OF_LINE, UNKNOWN = "<eos>", "<unk>"
# Published test perplexities on WikiText-103.
PUBLISHED = {
    "Transformer": 34.1,
    "Linear Transformer": 38.3,
    "Delta Net": 35.2,
    "Delta RNN": 35.0,
    "RDN": 35.2,
    "Delta MLP": 36.8,
    "Delta LSTM": 33.8,
    "Delta RNN, full context": 32.8,
    "RDN, full context": 33.6,
}
WIKITEXT_103 = 500_000_000  # bytes; of the texts with such names only its training file is as long


@dataclass(frozen=True)
class Config(SequenceTask):
    """The text is in train.txt, valid.txt and test.txt, or in files named as in WikiText-103 or enwik8.

    The folder can also be a data set with a column `text` that the `datasets` library has saved there with
    DatasetDict.save_to_disk; reading it needs `pip install "rfwp[text]"`.

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

    @property
    def reference_scores(self) -> Mapping[str, float]:
        file = Path(self.folder, "wiki.train.tokens")
        published = self.level == "word" and self.min_count == 1
        return PUBLISHED if published and file.is_file() and file.stat().st_size > WIKITEXT_103 else {}

    @property
    def reference_sources(self) -> str:
        return f"WikiText-103, from 256 tokens unless full context is named: {SECOND_HAND}"

    def load(self) -> Dataset:
        """Read and number the text, or take the numbers from the disk cache if the files have not changed."""
        found = find_texts(self.folder, self.level)
        source = [Path(file).read_bytes() for file in (__file__, texts.__file__)]
        key = (source, self.level, self.min_count, [text.key() for text in found.values()])
        arrays = cached(key, (*SPLITS, "vocabulary"), lambda: self._number(found))
        vocabulary = tuple(arrays["vocabulary"].tobytes().decode().split("\n"))
        train, valid, test = (predict_next(arrays[split]) for split in SPLITS)
        return Dataset(vocabulary, vocabulary, train, valid, test)

    def _number(self, found: Mapping[str, Text]) -> Arrays:
        """Return the token ids of each split, and the vocabulary as UTF-8 text, a word a line."""
        if self.level == "byte":
            vocabulary = [f"{byte:02x}" for byte in range(256)]
            streams = {split: np.frombuffer(text.read(), np.uint8) for split, text in found.items()}
        else:
            vocabulary = count_words(found["train"], self.min_count)
            streams = {split: number_words(text, vocabulary, self.min_count > 1) for split, text in found.items()}
        for split, stream in streams.items():
            if len(stream) < 2:
                raise ValueError(f"folder: {found[split].path} has {len(stream)} {self.level}s; allowed: 2 or more")
        return {**streams, "vocabulary": np.frombuffer("\n".join(vocabulary).encode(), np.uint8)}


def words(text: Text) -> Iterator[list[str]]:
    """Yield the words of each line."""
    for line in text.lines():
        yield [*line.split(), END_OF_LINE]


def count_words(text: Text, min_count: int) -> list[str]:
    """Return the vocabulary: <eos>, then the words that occur at least min_count times, by falling count."""
    counts: Counter[str] = Counter()
    for line in words(text):
        counts.update(line)
    rare = [word for word, count in counts.items() if count < min_count]
    if min_count > 1:
        counts[UNKNOWN] += sum(counts.pop(word) for word in rare if word != UNKNOWN)
    counts.pop(END_OF_LINE, None)
    return [END_OF_LINE, *(word for word, _ in counts.most_common())]


def number_words(text: Text, vocabulary: list[str], unknown_allowed: bool) -> NDArray[Any]:
    """Return the ids of the words [N]. Raises ValueError for an unknown word unless it may become <unk>."""
    index = {word: number for number, word in enumerate(vocabulary)}
    default = index[UNKNOWN] if unknown_allowed else -1
    ids = array("i")
    for number, line in enumerate(words(text), start=1):
        numbers = [index.get(word, default) for word in line]
        if -1 in numbers:
            word = line[numbers.index(-1)]
            raise ValueError(
                f"min_count: got 1, but line {number} of {text.path} has {word!r}, which the training text lacks;"
                " allowed: 2 or more, to make such words <unk>"
            )
        ids.extend(numbers)
    return np.array(ids, np.uint16 if len(vocabulary) <= 2**16 else np.int32)


def predict_next(stream: NDArray[Any]) -> Sequences:
    """Return a stream of tokens [N] as one sequence, in which each token's class is the next token."""
    return Sequences(stream[:-1], stream[1:], np.array([0, len(stream) - 1]))
