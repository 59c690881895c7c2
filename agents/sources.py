"""The learner's data source: a collector that runs in the learner's thread or in its own."""

import queue
import threading
from abc import ABC, abstractmethod
from typing import Self

from rfwp.agents.collector import Collected, Collector


class Source(ABC):
    """Provides a collector's results. A context manager: collecting starts and stops with it."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    @property
    @abstractmethod
    def fill(self) -> float:
        """Fraction of the queue that is full, 0 to 1."""

    @abstractmethod
    def get(self) -> Collected | None:
        """Return the next result; None if there is none yet.

        Raises what collecting raised: ActorFailure, Diverged, or Cancelled after `cancel`.
        """

    def cancel(self) -> None:
        """Make a running `get` or `collect` raise Cancelled soon; safe from a signal handler or any thread."""
        self._collector.cancel()

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *error: object) -> None: ...


class InTurn(Source):
    """Collects during `get`, in the caller's thread, so that nothing depends on timing."""

    @property
    def fill(self) -> float:
        return 0.0

    def get(self) -> Collected:
        return self._collector.collect()

    def __exit__(self, *error: object) -> None:
        pass  # nothing runs between two calls


class Background(Source):
    """Collects in a background thread; `get` returns the results in order.

    Collecting pauses while `queue_size` results are waiting, which bounds memory.
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
        """Return the next result; None if the queue stays empty for POLL_SECONDS. Raises what Source.get raises."""
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
        except BaseException as error:  # `get` raises it
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
