"""The main process's side of the actor processes: start, step, wait, replace, end."""

import contextlib
import multiprocessing
import os
import selectors
import signal
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rfwp.agents import actor_process, slab
from rfwp.checks import check
from rfwp.envs.vector_env import EnvConfig, EnvSpec


@dataclass(frozen=True)
class ActorsConfig:
    """The environments that are stepped together, and the processes that step them."""

    envs: int = 48
    """Environments stepped together, over all processes."""
    processes: int | None = None
    """Actor processes; by default the largest number, up to the CPU cores, that divides the environments evenly. With a
    GPU, up to the CPU cores for each group."""
    groups: int = 2
    """Groups of processes that take turns: one steps its environments while the policy acts for another."""
    timeout: float = 60.0
    """Seconds to wait for an actor before replacing it."""
    spare: bool | None = None
    """Keep a spare process, whose environments have started, to replace an actor; by default where starting is slow, as
    on Atari."""

    def __post_init__(self) -> None:
        for field in ("envs", "groups"):
            check(getattr(self, field) >= 1, field, getattr(self, field), "a whole number of at least 1")
        check(0 < self.timeout <= 86_400, "timeout", self.timeout, "seconds above 0, up to a day (86400)")
        check(self.envs % self.groups == 0, "envs", self.envs, f"a multiple of groups ({self.groups})")
        if self.processes is not None:
            shared = self.processes >= 1 and self.processes % self.groups == 0
            check(shared, "processes", self.processes, f"a multiple of groups ({self.groups})")
            check(self.envs % self.processes == 0, "processes", self.processes, f"a divisor of envs ({self.envs})")

    def num_processes(self, most: int) -> int:
        """Return the largest number of processes, up to `most`, that divides envs evenly; at least one per group."""
        if self.processes is not None:
            return self.processes
        most = min(most, self.envs)
        even = (n for n in range(self.groups, most + 1, self.groups) if self.envs % n == 0)
        return max(even, default=self.groups)

    def keeps_spare(self, env: EnvConfig) -> bool:
        """Return whether there is a spare process for these environments."""
        return env.slow_start if self.spare is None else self.spare


POLL_SECONDS = 0.2  # how often a wait checks for cancellation


class Cancelled(Exception):
    """A wait was cancelled."""


class ActorFailure(Exception):
    """An actor process ended, raised or timed out. If it raised, the message starts with the traceback's last line."""

    def __init__(self, message: str, crashed: bool = False) -> None:
        """Set `crashed` if the actor failed by itself, rather than being killed or held up from outside."""
        super().__init__(message)
        self.crashed = crashed


class Actor:
    """One actor process."""

    MESSAGE_SECONDS = 5.0  # for the rest of a message whose start has come
    START_SECONDS = 2.0  # per environment, added to the timeout of the first step; 0.25 s is usual

    def __init__(
        self, env: EnvConfig, spec: EnvSpec, memory: Any, total_envs: int, num_envs: int, seed: int, output: str | None
    ) -> None:
        """Start the process and its `num_envs` environments, of `total_envs` in the shared memory.

        What the process prints is appended to the file `output`; by default it has this process's terminal.
        """
        context = multiprocessing.get_context("spawn")
        self._start_seconds: float = self.START_SECONDS * num_envs
        self.connection: Connection
        self.connection, theirs = context.Pipe()
        _limit_waiting(self.connection, self.MESSAGE_SECONDS)
        self._process = context.Process(
            target=actor_process.run_actor,
            args=(theirs, memory, total_envs, num_envs, env, spec, seed, output),
            daemon=True,
            name=actor_process.NAME,
        )
        with _apart_from_the_shell():
            self._process.start()
        theirs.close()  # now only the actor holds this end, so the pipe closes when the actor ends

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def take_place(self, row: int) -> None:
        """Ask for the first step, in the rows of the slab from `row` on."""
        self._send(row.to_bytes(8))

    def request(self) -> None:
        """Ask for the next step; the slab already holds the actions."""
        self._send(actor_process.STEP)

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # if the actor is dead, `receive` raises
            self.connection.send_bytes(message)

    def receive(self) -> None:
        """Take the answer once the connection is readable: the slab holds the next step. Raises ActorFailure."""
        try:
            message = self.connection.recv_bytes()
        except BlockingIOError:
            raise ActorFailure("stopped in the middle of a message") from None
        except (EOFError, OSError):
            self._process.join(timeout=1)
            code = self._process.exitcode
            if code == actor_process.UNGUARDED:
                raise RuntimeError(
                    "actor processes import the main script: put the code that starts training under"
                    ' `if __name__ == "__main__":`'
                ) from None
            raise ActorFailure(f"ended with exit code {code}", crashed=code != -signal.SIGKILL) from None
        if message.startswith(actor_process.FAILED):
            trace = message[len(actor_process.FAILED) :].decode().rstrip()
            raise ActorFailure(trace.splitlines()[-1] + "\n" + trace, crashed=True)
        self._start_seconds = 0.0

    def is_late(self, waited: float, timeout: float) -> bool:
        """Return whether an answer has taken too long. The first one may take longer, because it loads the ROMs."""
        return waited >= timeout + self._start_seconds

    def hang_up(self) -> None:
        """Tell the process to end, without waiting for it."""
        self.connection.close()

    def close(self, grace: float) -> None:
        """End the process; kill it if it is still running after `grace` seconds."""
        self.connection.close()
        self._process.join(grace)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


class ActorPool:
    """All actor processes, in groups. Replaces those that fail. A context manager that ends them all on exit.

    If the config says so, it keeps a spare process, whose environments have started, to replace one.
    """

    CRASH_LOOP = 5  # crashes within CRASH_LOOP_SECONDS, or failed restarts of one actor, that end the run
    CRASH_LOOP_SECONDS = 60.0
    GRACE_SECONDS = 2.0  # for all actors together to end by themselves
    SPARE_AFTER = 200  # steps of every group since the last start, which a spare would slow down

    def __init__(
        self,
        config: ActorsConfig,
        env: EnvConfig,
        num_processes: int,
        seed: Sequence[int],
        output: str | None = None,
    ) -> None:
        """Start the processes. `seed` is one or more integers; pools with different seeds play unrelated episodes.

        What the processes print is appended to the file `output`; by default they have this process's terminal.
        """
        actor_process.end_if_this_is_an_actor()
        self.config = config
        self.env = env
        self.spec = env.spec()
        self.envs_per_actor = config.envs // num_processes
        self.restarts = 0
        self._recent: deque[float] = deque(maxlen=self.CRASH_LOOP)
        self._seed = seed
        self._output = output
        self._started = 0
        self._spare: Actor | None = None
        self._acts_until_spare = self.SPARE_AFTER * config.groups
        self._cancelled = threading.Event()
        self.memory = slab.allocate(config.envs, self.spec)
        everything = slab.view(self.memory, config.envs, self.spec)
        size, groups = self.envs_per_group, range(config.groups)
        self.slabs = [everything.part(slice(group * size, (group + 1) * size)) for group in groups]
        of_a_group = range(num_processes // config.groups)
        self.groups = [[self._start() for _ in of_a_group] for _ in groups]
        self._selectors = [selectors.DefaultSelector() for _ in groups]
        for group in groups:
            for index in of_a_group:
                self._place(group, index)

    @property
    def envs_per_group(self) -> int:
        """Number of environments in one group."""
        return self.config.envs // self.config.groups

    @property
    def busy_seconds(self) -> float:
        """Seconds that all actors together have spent stepping environments."""
        return sum(float(each.busy_seconds.sum()) for each in self.slabs)

    def wait(self, group: int) -> list[ActorFailure]:
        """Wait until a group's slab holds the next step of all its environments.

        Replace actors that failed, wait for the first steps of the new ones, and return the failures.

        Raises:
            ActorFailure: actors fail in quick succession; the message includes the last traceback.
            Cancelled: `cancel` was called.
        """
        failures = self._receive(group, set(range(len(self.groups[group]))))
        for index, failure in failures.items():
            self._replace(group, index, failure)
        return list(failures.values())

    def act(self, group: int, action: NDArray[np.int64]) -> None:
        """Step the environments of a group: action [B, K]. If an actor is dead, `wait` replaces it."""
        self.slabs[group].action[:] = action
        for actor in self.groups[group]:
            actor.request()
        self._acts_until_spare -= 1
        if self._spare is None and self._acts_until_spare <= 0 and self.config.keeps_spare(self.env):
            self._spare = self._start()

    def cancel(self) -> None:
        """Make a `wait` in another thread raise Cancelled soon."""
        self._cancelled.set()

    def _receive(self, group: int, missing: set[int]) -> dict[int, ActorFailure]:
        """Take the answers of these actors of a group; return the failures of those that gave none."""
        actors, selector, started = self.groups[group], self._selectors[group], time.monotonic()
        failures: dict[int, ActorFailure] = {}
        while missing:
            if self._cancelled.is_set():
                raise Cancelled
            answered = {key.data for key, _ in selector.select(POLL_SECONDS)} & missing
            for index in answered:
                try:
                    actors[index].receive()
                except ActorFailure as failure:
                    failures[index] = failure
            missing = missing - answered
            waited = time.monotonic() - started
            late = {index for index in missing if actors[index].is_late(waited, self.config.timeout)}
            for index in late:
                failures[index] = ActorFailure(f"did not answer within {self.config.timeout:g} s (actors.timeout)")
            missing = missing - late
            for index in failures.keys() & (answered | late):
                selector.unregister(actors[index].connection)  # or it would stay readable, and nothing could be awaited
        return failures

    def _replace(self, group: int, index: int, failure: ActorFailure) -> None:
        for _ in range(self.CRASH_LOOP):
            if failure.crashed and self._crashes_in_a_loop():
                break
            self.groups[group][index].close(grace=0)
            self.groups[group][index] = self._spare or self._start()
            self._spare, self._acts_until_spare = None, self.SPARE_AFTER * self.config.groups
            self._place(group, index)
            self.restarts += 1
            again = self._receive(group, {index})
            if not again:
                return
            failure = again[index]
        raise ActorFailure(f"{self.CRASH_LOOP} actors failed in quick succession; the last one: {failure}")

    def _crashes_in_a_loop(self) -> bool:
        """Record a crash; return True if the last CRASH_LOOP crashes came within CRASH_LOOP_SECONDS."""
        self._recent.append(time.monotonic())
        return len(self._recent) == self.CRASH_LOOP and self._recent[-1] - self._recent[0] < self.CRASH_LOOP_SECONDS

    def _start(self) -> Actor:
        self._started += 1
        seed = np.random.SeedSequence([*self._seed, self._started]).generate_state(1)[0]
        sizes = self.config.envs, self.envs_per_actor
        return Actor(self.env, self.spec, self.memory, *sizes, int(seed), self._output)

    def _place(self, group: int, index: int) -> None:
        """Give an actor its place in the slab, and listen to it."""
        actor = self.groups[group][index]
        actor.take_place(group * self.envs_per_group + index * self.envs_per_actor)
        self._selectors[group].register(actor.connection, selectors.EVENT_READ, index)

    def close(self) -> None:
        """End all processes; kill those that do not end by themselves."""
        for each in self._selectors:
            each.close()
        actors = [actor for group in self.groups for actor in group]
        if self._spare is not None:
            actors.append(self._spare)
        for actor in actors:
            actor.hang_up()
        deadline = time.monotonic() + self.GRACE_SECONDS
        for actor in actors:
            actor.close(grace=max(0.0, deadline - time.monotonic()))
        self.groups, self._spare = [], None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _limit_waiting(connection: Connection, seconds: float) -> None:
    """Make `recv_bytes` raise BlockingIOError if it has to wait this long."""
    whole, part = divmod(seconds, 1)
    with socket.socket(fileno=os.dup(connection.fileno())) as pipe:  # a duplex pipe is a pair of sockets
        pipe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(whole), int(1e6 * part)))


@contextlib.contextmanager
def _apart_from_the_shell() -> Iterator[None]:
    """Start processes that never see SIGINT, SIGTERM and SIGHUP, nor import from the current folder before this code.

    Ctrl-C, a scheduler's SIGTERM and a closed terminal reach the whole process group, but the main process decides
    when actors end. Python puts the current folder first in the path of a new process until it has the path of its
    parent, and a file there may be named like a standard module.
    """
    was_safe = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    resource_tracker.ensure_running()  # starting it, as the first process does, would unblock both signals again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if was_safe is None:
            del os.environ["PYTHONSAFEPATH"]
