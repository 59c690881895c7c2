"""CUDA graphs: a replay executes what was captured again, on the same memory, but not what the host did meanwhile."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from pretended import streams
from pretended.counts import LAUNCHES
from pretended.streams import Memory, current_stream


class CannotBeCaptured(RuntimeError):
    """A graph cannot hold what is being captured."""


class CUDAGraph:
    """Stands in for `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self._tape: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []
        self._used: dict[Memory, bool] = {}  # True if it is written to
        self._generators: list[torch.Generator] = []

    def register_generator_state(self, generator: torch.Generator) -> None:
        self._generators.append(generator)

    def record(self, operator: Any, args: Any, kwargs: dict[str, Any], results: Any) -> None:
        """Add an operator. Raise CannotBeCaptured if it draws from a generator that was not registered."""
        generator = kwargs.get("generator")
        if generator is not None and not any(
            torch.equal(generator.get_state(), mine.get_state()) for mine in self._generators
        ):
            raise CannotBeCaptured(f"{operator}: its generator is not registered with the graph")
        self._tape.append((operator, args, kwargs, tensors_of(results)))

    def use(self, memory: Memory, writes: bool) -> None:
        if writes and not self._used.get(memory):
            self._before[memory] = memory.storage.clone()
        self._used[memory] = self._used.get(memory, False) or writes

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        self._before: dict[Memory, torch.UntypedStorage] = {}
        draws = [generator.get_state() for generator in self._generators]
        streams.thread.graph = self
        try:
            yield
        finally:
            streams.thread.graph = None
            for memory, content in self._before.items():
                if memory.storage.nbytes() == content.nbytes():  # else it was allocated meanwhile
                    memory.storage.copy_(content)
            for generator, state in zip(self._generators, draws, strict=True):
                generator.set_state(state)
            del self._before

    def replay(self) -> None:
        LAUNCHES["replay"] += 1
        stream = current_stream()
        stream.queue()
        for memory, writes in self._used.items():
            memory.use(stream, writes)
        for operator, args, kwargs, results in self._tape:
            for mine, computed in zip(results, tensors_of(operator(*args, **kwargs)), strict=True):
                if mine.data_ptr() != computed.data_ptr():
                    mine.copy_(computed)


def tensors_of(tree: Any) -> list[torch.Tensor]:
    return [each for each in tree_leaves(tree) if isinstance(each, torch.Tensor)]


def capturing() -> CUDAGraph | None:
    """Return the graph that this thread is capturing."""
    return getattr(streams.thread, "graph", None)


def graph(captured: CUDAGraph, **options: object) -> contextlib.AbstractContextManager[None]:
    """Stands in for `torch.cuda.graph`."""
    return captured.capture()
