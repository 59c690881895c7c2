"""The supervised task interface: sequences of tokens, and a class to predict at some or all of them."""

import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rfwp.checks import check
from rfwp.envs.data_cache import cached
from rfwp.envs.subject import Subject

SECOND_HAND = "test scores reported for Irie et al. 2021, second-hand, each from one or two sources"
NO_TARGET = -1  # as a class: nothing is predicted at this token
SPLITS = ("train", "valid", "test")


# sequences: share of sequences in which every target is predicted; answers: share of the targets that are answers;
# perplexity and bits: of a target.
Measure = Literal["sequences", "answers", "perplexity", "bits"]
SCORE_NAMES: dict[Measure, str] = {
    "sequences": "sequences right, %",
    "answers": "answers right, %",
    "perplexity": "perplexity",
    "bits": "bits per byte",
}


class Example(NamedTuple):
    """One sequence of L tokens."""

    token: list[int]  # [L] indices of tokens
    target: list[int]  # [L] indices of classes, or NO_TARGET


class Sequences(NamedTuple):
    """N sequences, one after another: sequence n has the tokens start[n] ≤ i < start[n + 1]."""

    token: NDArray[np.integer]  # [tokens of all sequences]
    target: NDArray[np.integer]  # the same
    start: NDArray[np.int64]  # [N + 1]

    @classmethod
    def join(cls, examples: Iterable[Example]) -> Self:
        """Join examples in their order."""
        drawn = list(examples)
        token, target = (
            np.fromiter((index for example in drawn for index in example[field]), np.int16) for field in range(2)
        )
        return cls(token, target, np.cumsum([0, *(len(example.token) for example in drawn)]))


class Dataset(NamedTuple):
    """The data of a task. The splits may be read-only views of files."""

    tokens: tuple[str, ...]  # input vocabulary
    classes: tuple[str, ...]  # output vocabulary
    train: Sequences
    valid: Sequences  # to select the best checkpoint on
    test: Sequences  # for the final score
    blank: int = NO_TARGET  # class that stands for no answer; NO_TARGET if every class is an answer
    draw: Callable[[Random], Iterator[Example]] | None = None  # draws sequences to train on if `train` is empty

    @property
    def interface(self) -> dict[str, Any]:
        """What the inputs and outputs of a model stand for, in plain values."""
        return {"tokens": list(self.tokens), "classes": list(self.classes)}


@dataclass(frozen=True)
class SequenceTask(Subject):
    """Settings of one task; each module of `envs/sequences` holds a subclass named `Config`."""

    is_text: ClassVar[bool] = False
    """True if each split is one long sequence, to be read in segments."""

    @property
    def measure(self) -> Measure:
        """The score that papers report."""
        return "sequences"

    @property
    def score_name(self) -> str:
        """The measure, in words; accuracies are in percent."""
        return SCORE_NAMES[self.measure]

    @property
    def lower_is_better(self) -> bool:
        return self.measure in ("perplexity", "bits")

    @abstractmethod
    def load(self) -> Dataset:
        """Generate the data or read it. Raises ValueError, naming the setting, if it cannot be had."""


@dataclass(frozen=True)
class GeneratedTask(SequenceTask):
    """A task whose sequences are drawn at random, all splits from one generator, as in the published code."""

    train: int = 10_000
    """Sequences to train on. 0: new ones for every update, which cannot be learned by heart."""

    valid: int = 1_000
    """Sequences to select the best checkpoint on."""

    test: int = 1_000
    """Sequences for the final score."""

    data_seed: int = 42
    """Seed of the data. The seed of a run changes the weights and the order of the sequences, not the data."""

    blank: ClassVar[int] = NO_TARGET  # see Dataset
    dropped: ClassVar[int] = 0  # sequences that are drawn after each split and not used

    def __post_init__(self) -> None:
        for name in SPLITS:
            least = 0 if name == "train" else 1
            check(getattr(self, name) >= least, name, getattr(self, name), f"{least} or more")

    @property
    @abstractmethod
    def tokens(self) -> tuple[str, ...]:
        """The input vocabulary."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The output vocabulary."""

    @abstractmethod
    def draw(self, random: Random) -> Iterator[Example]:
        """Draw sequences without end. The same generator gives the same sequences on every machine."""

    def load(self) -> Dataset:
        """Return the data that these settings stand for, from the disk cache if it has them."""
        source = Path(str(sys.modules[type(self).__module__].__file__)).read_bytes()
        names = tuple(f"{split}_{field}" for split in SPLITS for field in Sequences._fields)
        arrays = cached(
            (source, astuple(self)),
            names,
            lambda: dict(zip(names, (field for split in self._generate() for field in split), strict=True)),
        )
        train, valid, test = (
            Sequences(*(arrays[f"{split}_{field}"] for field in Sequences._fields)) for split in SPLITS
        )
        draw = self.draw if self.train == 0 else None
        return Dataset(self.tokens, self.classes, train, valid, test, self.blank, draw)

    def _generate(self) -> Iterator[Sequences]:
        """Draw the splits in turn."""
        examples = self.draw(Random(self.data_seed))
        for count in (self.train, self.valid, self.test):
            yield Sequences.join(islice(examples, count))
            for _ in range(self.dropped):
                next(examples)
