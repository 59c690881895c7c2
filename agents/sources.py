"""Where the learner gets its data from: a collector that runs in turn with it, or in a thread of its own."""

import queue
import threading
from abc import ABC, abstractmethod
from typing import Self

from rfwp.agents.collector import Collected, Collector


class Source(ABC):
    """Hands out what a collector collects. A context manager: collecting begins and ends with it."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    @property
    @abstractmethod
    def fill(self) -> float:
        """Share of the queue that is full, 0 to 1."""

    @abstractmethod
    def get(self) -> Collected | None:
        """Return what was collected next; None if there is nothing yet.

        Raises what collecting raised: ActorFailure, Diverged, or Cancelled after `cancel`.
        """

    def cancel(self) -> None:
        """End a `get` or a collection that is under way soon, with Cancelled; from a signal handler or any thread."""
        self._collector.cancel()

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *error: object) -> None: ...


class InTurn(Source):
    """Collects when it is asked to, in the thread that asks: nothing depends on who is faster."""

    @property
    def fill(self) -> float:
        return 0.0

    def get(self) -> Collected:
        return self._collector.collect()

    def __exit__(self, *error: object) -> None:
        pass  # nothing runs between two calls


class Background(Source):
    """Collects in a thread; `get` hands out the results in order.

    When `queue_size` of them wait, collecting waits too, so memory stays what it was at the start.
    """

    POLL_SECONDS = 0.2  # how soon a stop is noticed

    def __init__(self, collector: Collector, queue_size: int) -> None:
        super().__init__(collector)
        self._queue: queue.Queue[Collected] = queue.Queue(queue_size)
        self._error: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    @property
    def fill(self) -> float:
        return self._queue.qsize() / self._queue.maxsize

    def get(self) -> Collected | None:
        """As Source.get; None after POLL_SECONDS with an empty queue."""
        try:
            return self._queue.get(timeout=self.POLL_SECONDS)
        except queue.Empty:
            if self._error is not None:
                raise self._error from None
            return None

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._put(self._collector.collect())
        except BaseException as error:  # handed to whoever calls `get`
            self._error = error

    def _put(self, collected: Collected) -> None:
        while not self._stopping.is_set():
            try:
                self._queue.put(collected, timeout=self.POLL_SECONDS)
            except queue.Full:
                continue
            return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self.cancel()
        self._thread.join()
