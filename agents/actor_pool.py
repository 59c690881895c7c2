"""Actor processes as the main process sees them: started, asked, waited for, replaced, ended."""

import contextlib
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rfwp.agents import actor_process, slab
from rfwp.envs.vector_env import EnvConfig, EnvSpec


@dataclass(frozen=True)
class ActorsConfig:
    """The environments that are stepped at once, and the processes that step them."""

    envs: int = 48
    """Environments stepped at once, over all processes."""
    processes: int | None = None
    """Actor processes; by default as many as there are CPU cores, where environments can be shared out evenly."""
    groups: int = 2
    """Groups of processes that take turns: environments of one step while the policy answers another."""
    timeout: float = 60.0
    """Seconds after which an actor that does not answer is replaced."""

    def __post_init__(self) -> None:
        for field in ("envs", "groups"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: got {getattr(self, field)}; allowed: a whole number of at least 1")
        if not 0 < self.timeout <= 86_400:
            raise ValueError(f"timeout: got {self.timeout}; allowed: seconds above 0, up to a day (86400)")
        if self.envs % self.groups:
            raise ValueError(f"envs: got {self.envs}; allowed: a multiple of groups ({self.groups})")
        if self.processes is not None and (self.processes < 1 or self.processes % self.groups):
            raise ValueError(f"processes: got {self.processes}; allowed: a multiple of groups ({self.groups})")
        if self.processes is not None and self.envs % self.processes:
            raise ValueError(f"processes: got {self.processes}; allowed: a divisor of envs ({self.envs})")

    def num_processes(self, cores: int) -> int:
        """Return the processes for so many cores: the most that share the environments evenly, at least one a group."""
        if self.processes is not None:
            return self.processes
        most = min(cores, self.envs)
        even = (n for n in range(self.groups, most + 1, self.groups) if self.envs % n == 0)
        return max(even, default=self.groups)


POLL_SECONDS = 0.2  # how soon a wait notices that it was cancelled


class Cancelled(Exception):
    """The wait was cut short on purpose."""


class ActorFailure(Exception):
    """An actor process ended, failed or fell silent; the message says which, the last line of its traceback first."""

    def __init__(self, message: str, crashed: bool = False) -> None:
        """`crashed`: it failed by itself, and was not killed or held up by something else."""
        super().__init__(message)
        self.crashed = crashed


class Actor:
    """One actor process and the slab that it shares with this one."""

    START_SECONDS = 2.0  # for each environment, added to the time-out of the first step; a quarter second is usual

    def __init__(self, env: EnvConfig, spec: EnvSpec, num_envs: int, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        memory = slab.allocate(num_envs, spec.observation_shape)
        self.slab = slab.view(memory, num_envs, spec.observation_shape)
        self._started = False
        self._connection: Connection
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=actor_process.run_actor,
            args=(theirs, memory, env, num_envs, seed),
            daemon=True,
            name=actor_process.NAME,
        )
        with _signals_blocked():
            self._process.start()
        theirs.close()  # so that the actor's end of the pipe closes with the actor

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def request(self) -> None:
        """Asks for the next step; its actions are in the slab. A dead actor is noticed by `wait`."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(actor_process.STEP)

    def wait(self, timeout: float, cancelled: threading.Event, waited: float = 0.0) -> None:
        """Returns when the slab holds the next step; ActorFailure if none comes within `timeout` seconds.

        `waited` seconds of them have gone by already.

        The first step may take longer, for the emulator loads its game once for each environment.
        """
        if not self._started:
            timeout += self.START_SECONDS * len(self.slab.action)
        try:
            deadline = time.monotonic() + timeout - waited
            while not self._connection.poll(max(0.0, min(POLL_SECONDS, deadline - time.monotonic()))):
                if cancelled.is_set():
                    raise Cancelled
                if time.monotonic() >= deadline:
                    raise ActorFailure(f"gave no answer within {timeout:g} s (actors.timeout)")
            message = self._connection.recv_bytes()
        except (EOFError, OSError):
            self._process.join(timeout=1)
            code = self._process.exitcode
            if code == actor_process.UNGUARDED:
                raise RuntimeError(
                    "actor processes import the script that starts them: put what trains under"
                    ' `if __name__ == "__main__":`'
                ) from None
            raise ActorFailure(f"ended with exit code {code}", crashed=code != -signal.SIGKILL) from None
        if message.startswith(actor_process.FAILED):
            trace = message[len(actor_process.FAILED) :].decode().rstrip()
            raise ActorFailure(trace.splitlines()[-1] + "\n" + trace, crashed=True)
        self._started = True

    def hang_up(self) -> None:
        """Tells the process to end; does not wait for it."""
        self._connection.close()

    def close(self, grace: float) -> None:
        """Ends the process, by force if it is not gone within `grace` seconds."""
        self._connection.close()
        self._process.join(grace)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


class ActorPool:
    """All actor processes, in groups; replaces those that fail. A context manager: leaving it ends them all."""

    CRASH_LOOP = 5  # crashes within CRASH_LOOP_SECONDS, or failures of one actor before its first step, end the run
    CRASH_LOOP_SECONDS = 60.0
    GRACE_SECONDS = 2.0  # for all actors together, to end by themselves

    def __init__(self, config: ActorsConfig, env: EnvConfig, num_processes: int, seed: Sequence[int]) -> None:
        """`seed` may be several numbers: pools with different ones play episodes that have nothing in common."""
        actor_process.end_if_this_is_an_actor()
        self.config = config
        self.env = env
        self.spec = env.spec()
        self.envs_per_actor = config.envs // num_processes
        self.restarts = 0
        self._recent: deque[float] = deque(maxlen=self.CRASH_LOOP)
        self._seed = seed
        self._started = 0
        self._cancelled = threading.Event()
        self._retired_busy_seconds = 0.0
        actors = [self._start() for _ in range(num_processes)]
        size = num_processes // config.groups
        self.groups = [actors[start : start + size] for start in range(0, num_processes, size)]

    @property
    def envs_per_group(self) -> int:
        """Environments that one group steps."""
        return self.config.envs // self.config.groups

    @property
    def busy_seconds(self) -> float:
        """Seconds that all actors together have spent stepping environments."""
        return self._retired_busy_seconds + sum(float(a.slab.busy_seconds[0]) for group in self.groups for a in group)

    def wait(self, group: int) -> list[ActorFailure]:
        """Waits until every actor of a group has its next step in its slab.

        Failed actors are replaced, and the new one's first step is waited for; their failures are returned.

        Raises:
            ActorFailure: a crash loop; the message carries the last traceback.
            Cancelled: `cancel` was called.
        """
        if self._cancelled.is_set():
            raise Cancelled
        failures = []
        started = time.monotonic()
        for index, one in enumerate(self.groups[group]):
            try:
                one.wait(self.config.timeout, self._cancelled, time.monotonic() - started)
            except ActorFailure as failure:
                failures.append(failure)
                self._replace(group, index, failure)
        return failures

    def slabs(self, group: int) -> Iterator[tuple[slice, slab.Slab]]:
        """Yield, after `wait`, each actor's slab with the rows of the group's environments that it holds."""
        for index, actor in enumerate(self.groups[group]):
            yield slice(index * self.envs_per_actor, (index + 1) * self.envs_per_actor), actor.slab

    def act(self, group: int, action: NDArray[np.int64]) -> None:
        """Step every environment of a group with one action each [B]. A dead actor is noticed by `wait`."""
        for actor, (rows, shared) in zip(self.groups[group], self.slabs(group), strict=True):
            shared.action[:] = action[rows]
            actor.request()

    def cancel(self) -> None:
        """Makes `wait`, in another thread, return soon, with Cancelled."""
        self._cancelled.set()

    def _replace(self, group: int, index: int, failure: ActorFailure) -> None:
        for _ in range(self.CRASH_LOOP):
            if failure.crashed and self._crashes_in_a_loop():
                break
            old = self.groups[group][index]
            self._retired_busy_seconds += float(old.slab.busy_seconds[0])
            old.close(grace=0)
            self.groups[group][index] = self._start()
            self.restarts += 1
            try:
                self.groups[group][index].wait(self.config.timeout, self._cancelled)
            except ActorFailure as again:
                failure = again
            else:
                return
        raise ActorFailure(f"{self.CRASH_LOOP} actors failed in quick succession; the last one: {failure}")

    def _crashes_in_a_loop(self) -> bool:
        """Counts a crash."""
        self._recent.append(time.monotonic())
        return len(self._recent) == self.CRASH_LOOP and self._recent[-1] - self._recent[0] < self.CRASH_LOOP_SECONDS

    def _start(self) -> Actor:
        self._started += 1
        seed = np.random.SeedSequence([*self._seed, self._started]).generate_state(1)[0]
        return Actor(self.env, self.spec, self.envs_per_actor, int(seed))

    def close(self) -> None:
        """Ends all processes; those that do not end by themselves are killed."""
        for group in self.groups:
            for one in group:
                one.hang_up()
        deadline = time.monotonic() + self.GRACE_SECONDS
        for group in self.groups:
            for one in group:
                one.close(grace=max(0.0, deadline - time.monotonic()))
        self.groups = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Within it, processes are started that never see SIGINT and SIGTERM.

    A Ctrl-C or a scheduler's SIGTERM reaches the whole process group; the main process decides when actors end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
