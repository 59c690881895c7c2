"""Where the learner gets its trajectories from: a collector that runs in turn with it, or in a thread of its own."""

import queue
import threading
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rfwp.agents.trajectory import Trajectory


class Source(AbstractContextManager["Source"]):
    """Hands out trajectories. A context manager: collecting begins and ends with it."""

    @property
    @abstractmethod
    def fill(self) -> float:
        """Share of the queue that is full."""

    @abstractmethod
    def get(self) -> Trajectory | None:
        """The next trajectory, or None if there is none yet."""


class InTurn(Source):
    """Collects when it is asked to, in the thread that asks: nothing depends on who is faster."""

    def __init__(self, collect: Callable[[], Trajectory]) -> None:
        self._collect = collect

    @property
    def fill(self) -> float:
        return 0.0

    def get(self) -> Trajectory:
        return self._collect()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass  # nothing runs between two calls


class Background(Source):
    """Runs `collect` in a thread; `get` hands its trajectories out in order.

    When `queue_size` trajectories wait, collecting waits too, so memory stays what it was at the start.
    """

    POLL_SECONDS = 0.2  # how soon a stop is noticed

    def __init__(self, collect: Callable[[], Trajectory], queue_size: int, cancel: Callable[[], None]) -> None:
        """`cancel` makes a `collect` that is under way in the thread end soon, by an exception of its own."""
        self._collect = collect
        self._cancel = cancel
        self._queue: queue.Queue[Trajectory] = queue.Queue(queue_size)
        self._error: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)

    @property
    def fill(self) -> float:
        return self._queue.qsize() / self._queue.maxsize

    def get(self) -> Trajectory | None:
        """The next trajectory, or None if there is none within POLL_SECONDS; raises what the thread raised."""
        try:
            return self._queue.get(timeout=self.POLL_SECONDS)
        except queue.Empty:
            if self._error is not None:
                raise self._error from None
            return None

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._put(self._collect())
        except BaseException as error:  # handed to whoever calls `get`
            self._error = error

    def _put(self, trajectory: Trajectory) -> None:
        while not self._stopping.is_set():
            try:
                self._queue.put(trajectory, timeout=self.POLL_SECONDS)
            except queue.Full:
                continue
            return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._cancel()
        self._thread.join()
