"""Batches for supervised training: sequences packed into rows, or segments of one long stream."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from random import Random
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rfwp.envs.sequence_task import NO_TARGET, Example, Sequences
from rfwp.models.core import State

NO_SEQUENCE = -1  # as a sequence's index: padding


class SequenceBatch(NamedTuple):
    """T tokens of B rows, time first. A row may hold several sequences, one after another, and padding at its end."""

    token: Tensor  # int64 [T, B]
    target: Tensor  # int64 [T, B]  class to predict at the token, or NO_TARGET
    first: Tensor  # bool  [T, B]  the token is the first of a sequence
    sequence: Tensor  # int64 [T, B]  index of the sequence in its split, or NO_SEQUENCE
    blank: int = NO_TARGET  # class that stands for no answer; NO_TARGET if every class is an answer
    state: State = ()  # [B, ...]  core state before token[0]

    @property
    def steps(self) -> int:
        """Progress of an update on this batch: 1, because supervised training counts updates."""
        return 1

    @property
    def num_tokens(self) -> Tensor:
        """Number of tokens without padding, on their device."""
        return (self.sequence != NO_SEQUENCE).sum()

    def sample(self, length: int, rows: int, state: State) -> Self:
        """Return the first tokens of the first row, repeated, with the state [rows, ...] before them."""
        tokens = {name: getattr(self, name)[:length, :1].expand(-1, rows) for name in self._fields[:4]}
        return self._replace(**tokens, state=state)

    def to(self, device: torch.device) -> Self:
        """Return the batch with its tokens on a device."""
        return self._replace(**{name: getattr(self, name).to(device) for name in self._fields[:4]})


class Batches(ABC):
    """All batches of a training run, by the number of the update from 0 on. The same seed gives the same batches."""

    per_epoch: int
    """Updates that use every sequence once."""

    carries_state: bool
    """True if a batch continues from the core's state after the previous batch, except where `first` is set."""

    @abstractmethod
    def __getitem__(self, update: int) -> SequenceBatch:
        """Return the batch of an update, on the CPU and without a state."""


class Packed(Batches):
    """Batches of whole sequences in random order, a new one each epoch; the last batch of an epoch may be smaller."""

    carries_state = False

    def __init__(self, sequences: Sequences, batch_size: int, seed: int | None, blank: int = NO_TARGET) -> None:
        """Use `batch_size` sequences an update. Without a seed they come in their own order."""
        self._blank = blank
        self._sequences = sequences
        self._batch_size = batch_size
        self._seed = seed
        self._count = len(sequences.start) - 1
        self.per_epoch = -(-self._count // batch_size)

    def __getitem__(self, update: int) -> SequenceBatch:
        epoch, position = divmod(update, self.per_epoch)
        start = position * self._batch_size
        chosen = self._order(epoch)[start : start + self._batch_size]
        return pack(self._sequences, chosen)._replace(blank=self._blank)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self._seed is None:
            return np.arange(self._count)
        return np.random.default_rng((self._seed, epoch)).permutation(self._count)


class Drawn(Batches):
    """Batches of newly drawn sequences; there are no epochs."""

    carries_state = False
    per_epoch = 1

    def __init__(
        self, draw: Callable[[Random], Iterator[Example]], batch_size: int, seed: int, blank: int = NO_TARGET
    ) -> None:
        """`draw` yields sequences from a random generator, which depends on the seed and the update."""
        self._draw, self._batch_size, self._seed, self._blank = draw, batch_size, seed, blank

    def __getitem__(self, update: int) -> SequenceBatch:
        examples = islice(self._draw(Random(f"{self._seed}, update {update}")), self._batch_size)
        return pack(Sequences.join(examples), np.arange(self._batch_size))._replace(blank=self._blank)


class Segments(Batches):
    """Segments of one long sequence that is cut into equal rows; tokens at its end that fill no row are left out.

    An epoch reads the rows from start to end, so its last segment may be shorter.
    """

    def __init__(self, sequences: Sequences, rows: int, length: int, carried: bool) -> None:
        """Cut into `rows` rows and segments of `length` tokens. carried: a segment continues from the one before it.

        Raises ValueError if there are fewer tokens than rows.
        """
        per_row = len(sequences.token) // rows
        if per_row == 0:
            raise ValueError(f"batch_size: got {rows}; allowed: at most {len(sequences.token)}, the tokens of the text")
        self.carries_state = carried
        self._length = length
        used = rows * per_row
        self._token = sequences.token[:used].reshape(rows, per_row)
        self._target = sequences.target[:used].reshape(rows, per_row)
        self.per_epoch = -(-per_row // length)

    def __getitem__(self, update: int) -> SequenceBatch:
        position = update % self.per_epoch
        segment = slice(position * self._length, (position + 1) * self._length)
        token, target = (_time_first(each[:, segment]) for each in (self._token, self._target))
        first = torch.zeros(token.shape, dtype=torch.bool)
        first[0] = not self.carries_state or position == 0
        return SequenceBatch(token, target, first, torch.zeros_like(token))


class Windows(Batches):
    """Windows over one long sequence, in order, for scoring: each target counts once, in the first window that has it.

    stride = length gives separate segments. stride = 1 predicts every target from `length` tokens, except in the first
    window.
    """

    carries_state = False

    def __init__(self, sequences: Sequences, length: int, stride: int, batch_size: int) -> None:
        """Start a window of `length` tokens every `stride` tokens; the last window may be shorter."""
        self._token, self._target = sequences.token, sequences.target
        self._length, self._stride, self._batch_size = length, stride, batch_size
        self._whole = max(0, 1 + (len(self._token) - length) // stride)  # windows of full length
        covered = (self._whole - 1) * stride + length if self._whole else 0
        self._has_rest = covered < len(self._token)
        self.per_epoch = -(-self._whole // batch_size) + self._has_rest

    def __getitem__(self, update: int) -> SequenceBatch:
        start = update % self.per_epoch * self._batch_size
        stop = min(start + self._batch_size, self._whole)
        windows = range(start, stop) if start < self._whole else range(self._whole, self._whole + 1)
        token = _time_first(np.stack([self._cut(self._token, window) for window in windows]))
        target = _time_first(np.stack([self._cut(self._target, window) for window in windows]))
        seen = self._length - self._stride  # tokens that a window shares with the one before it
        for column, window in enumerate(windows):
            if window > 0:
                target[:seen, column] = NO_TARGET
        first = torch.zeros(token.shape, dtype=torch.bool)
        first[0] = True
        return SequenceBatch(token, target, first, torch.zeros_like(token))

    def _cut(self, stream: NDArray[np.integer], window: int) -> NDArray[np.integer]:
        return stream[window * self._stride : window * self._stride + self._length]


def pack(sequences: Sequences, chosen: NDArray[np.int64]) -> SequenceBatch:
    """Put the chosen sequences into rows as long as the longest, each into the first row with room, longest first."""
    length = np.diff(sequences.start)[chosen]
    capacity = int(length.max())
    room: list[int] = []  # left in each row
    places = []  # row and first step of each sequence
    by_length = np.argsort(-length, kind="stable")
    for n in by_length:
        row = next((row for row, left in enumerate(room) if left >= length[n]), len(room))
        if row == len(room):
            room.append(capacity)
        places.append((row, capacity - room[row]))
        room[row] -= int(length[n])

    return lay_out(sequences, chosen[by_length], places, (capacity, len(room)))


def lay_out(
    sequences: Sequences, chosen: NDArray[np.int64], places: Iterable[tuple[int, int]], shape: tuple[int, int]
) -> SequenceBatch:
    """Put the chosen sequences into a batch of shape [T, B], each at its place: a row and its first step there."""
    token, target, sequence = (np.full(shape, filler, np.int64) for filler in (0, NO_TARGET, NO_SEQUENCE))
    first = np.zeros(shape, np.bool_)
    for number, (row, step) in zip(chosen, places, strict=True):
        start, stop = sequences.start[number : number + 2]
        place = slice(step, step + int(stop - start)), row
        token[place], target[place] = sequences.token[start:stop], sequences.target[start:stop]
        sequence[place], first[step, row] = number, True
    return SequenceBatch(
        torch.from_numpy(token), torch.from_numpy(target), torch.from_numpy(first), torch.from_numpy(sequence)
    )


def _time_first(rows: NDArray[np.integer]) -> Tensor:
    """Copy rows [B, T] into a tensor int64 [T, B]."""
    return torch.from_numpy(np.ascontiguousarray(rows.T, dtype=np.int64))
