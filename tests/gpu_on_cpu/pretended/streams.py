"""Streams, events, and memory that notices when one stream overtakes another.

The work on a stream is numbered. A clock says for each stream up to which number its work is known to be complete.
Waiting passes clocks on: from an event to a stream or to the host, and from the host to what it queues afterwards.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from weakref import WeakSet, WeakValueDictionary

import torch

from pretended.counts import WAITS, site


class Overtaken(RuntimeError):
    """A stream uses memory that another one may still be using."""


class Clock(dict["Stream", int]):
    """The number of the latest work on each stream that is known to be complete."""

    def learn(self, other: "Clock") -> None:
        for stream, number in list(other.items()):  # a list: other threads may add streams meanwhile
            self[stream] = max(number, self.get(stream, 0))

    def lacks(self, uses: "Clock") -> "list[Stream]":
        """Return the streams of which some of these uses may not be complete."""
        return [stream for stream, number in list(uses.items()) if self.get(stream, 0) < number]


thread = threading.local()  # stream: the current one; graph: the one being captured
STREAMS: WeakSet["Stream"] = WeakSet()
HOST = Clock()  # what any thread of the host has waited for
FREED_TOO_SOON: list[str] = []  # memory that was given up while another stream might still use it
sync_debug_mode = "default"  # or "error"


def set_sync_debug_mode(mode: str) -> None:
    """Stands in for `torch.cuda.set_sync_debug_mode`."""
    global sync_debug_mode
    sync_debug_mode = mode


def host_waits(what: str, clock: "Clock | None" = None) -> None:
    """Make the host wait for all that a clock holds; if None, for this thread's stream."""
    if getattr(thread, "graph", None) is not None:
        raise RuntimeError(f"operation not permitted when stream is capturing: {what} {site()}")
    if sync_debug_mode == "error":
        raise RuntimeError(f"called a synchronizing CUDA operation: {what} {site()}")
    WAITS[f"{what} {site()}"] += 1
    HOST.learn(current_stream().clock if clock is None else clock)


class Stream:
    """Stands in for `torch.cuda.Stream`."""

    def __init__(self, device: object = None, priority: int = 0) -> None:
        self.clock = Clock()
        STREAMS.add(self)

    def queue(self) -> int:
        """Add a piece of work, and return its number."""
        self.clock.learn(HOST)
        self.clock[self] = self.clock.get(self, 0) + 1
        return self.clock[self]

    def record_event(self) -> "Event":
        event = Event()
        event.record(self)
        return event

    def wait_event(self, event: "Event") -> None:
        self.clock.learn(event.clock)

    def wait_stream(self, stream: "Stream") -> None:
        self.clock.learn(stream.clock)

    def synchronize(self) -> None:
        host_waits("synchronize", self.clock)


class Event:
    """Stands in for `torch.cuda.Event`."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.clock = Clock()
        self.time = 0.0

    def record(self, stream: Stream | None = None) -> None:
        self.clock, self.time = Clock((stream or current_stream()).clock), time.perf_counter()

    def synchronize(self) -> None:
        host_waits("synchronize", self.clock)

    def elapsed_time(self, end: "Event") -> float:
        return 1e3 * (end.time - self.time)


DEFAULT = Stream()


def current_stream(device: object = None) -> Stream:
    stream: Stream = getattr(thread, "stream", DEFAULT)
    return stream


@contextlib.contextmanager
def on_stream(stream: Stream) -> Iterator[None]:
    """Stands in for `torch.cuda.stream`."""
    before, thread.stream = current_stream(), stream
    try:
        yield
    finally:
        thread.stream = before


def synchronize(device: object = None) -> None:
    """Stands in for `torch.cuda.synchronize`."""
    for stream in list(STREAMS):
        stream.synchronize()


class Memory:
    """A block of memory, and up to which work each stream uses it. Views share theirs."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.storage = storage  # keeps its address from being used again
        self._home = current_stream()  # what is allocated on this stream next may get the same memory
        self._written, self._read = Clock(), Clock()
        self._recorded: set[Stream] = set()

    def use(self, stream: Stream, writes: bool) -> None:
        """Note that the newest work of a stream uses it.

        Raises Overtaken if a write of another stream, or to a write also a read, may still be going on.
        """
        if stream.clock.lacks(self._written) or (writes and stream.clock.lacks(self._read)):
            raise Overtaken(f"a stream {'writes' if writes else 'reads'} what another may still be using: {site()}")
        (self._written if writes else self._read)[stream] = stream.clock[stream]

    def record_stream(self, stream: Stream) -> None:
        self._recorded.add(stream)

    def __del__(self, exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        if exiting():
            return
        known = Clock(HOST)
        known.learn(self._home.clock)
        if {*known.lacks(self._read), *known.lacks(self._written)} - {self._home, *self._recorded}:
            FREED_TOO_SOON.append(f"{self.storage.nbytes()} bytes, which another stream than their own may be using")


_memories: WeakValueDictionary[int, Memory] = WeakValueDictionary()


def memory_of(tensor: torch.Tensor) -> Memory:
    """Return the memory of a tensor on the CPU."""
    storage = tensor.untyped_storage()
    memory = _memories.get(storage._cdata)
    if memory is None:
        memory = _memories[storage._cdata] = Memory(storage)
    return memory
