"""Actor processes as the main process sees them: started, asked, waited for, replaced, ended."""

import contextlib
import multiprocessing
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from rfwp.agents import actor, slab
from rfwp.envs.world import WorldConfig, WorldSpec


@dataclass(frozen=True)
class ActorsConfig:
    """The games that are played at once, and the processes that play them."""

    games: int = 48
    """Games played at once, over all processes."""
    processes: int | None = None
    """Actor processes; by default as many as there are CPU cores, where games can be shared out evenly."""
    groups: int = 2
    """Groups of processes that take turns: games of one run while the policy answers another."""
    timeout: float = 60.0
    """Seconds after which an actor that does not answer is replaced."""

    def __post_init__(self) -> None:
        for field in ("games", "groups"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: got {getattr(self, field)}; allowed: a whole number of at least 1")
        if self.timeout <= 0:
            raise ValueError(f"timeout: got {self.timeout}; allowed: a number of seconds above 0")
        if self.games % self.groups:
            raise ValueError(f"games: got {self.games}; allowed: a multiple of groups ({self.groups})")
        if self.processes is not None and (self.processes < 1 or self.processes % self.groups):
            raise ValueError(f"processes: got {self.processes}; allowed: a multiple of groups ({self.groups})")
        if self.processes is not None and self.games % self.processes:
            raise ValueError(f"processes: got {self.processes}; allowed: a divisor of games ({self.games})")

    def num_processes(self, cores: int) -> int:
        """Processes on a machine of so many cores: the most that share out the games evenly, one a group at least."""
        if self.processes is not None:
            return self.processes
        even = (n for n in range(self.groups, self.games + 1, self.groups) if self.games % n == 0)
        return max((n for n in even if n <= cores), default=self.groups)


class ActorFailure(Exception):
    """An actor process ended, failed or fell silent; the message says which, the last line of its traceback first."""


class Actor:
    """One actor process and the slab that it shares with this one."""

    START_SECONDS = 2.0  # for each game, on top of the time-out, before the first step: generous by a factor of eight

    def __init__(self, world: WorldConfig, spec: WorldSpec, num_envs: int, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        memory = slab.allocate(num_envs, spec.frame_shape)
        self.slab = slab.view(memory, num_envs, spec.frame_shape)
        self._started = False
        self._connection: Connection
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=actor.run_actor, args=(theirs, memory, world, num_envs, seed), daemon=True, name=f"actor-{seed}"
        )
        self._process.start()
        theirs.close()  # so that the actor's end of the pipe closes with the actor

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def request(self) -> None:
        """Asks for the next step; its actions are in the slab. A dead actor is noticed by `wait`."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(actor.STEP)

    def wait(self, timeout: float) -> None:
        """Returns when the slab holds the next step; ActorFailure if none comes within `timeout` seconds.

        The first step may take longer, for the emulator loads its game once for each environment.
        """
        if not self._started:
            timeout += self.START_SECONDS * len(self.slab.action)
        try:
            if not self._connection.poll(timeout):
                raise ActorFailure(f"gave no answer within {timeout:g} s")
            message = self._connection.recv_bytes()
        except (EOFError, OSError):
            self._process.join(timeout=1)
            raise ActorFailure(f"ended with exit code {self._process.exitcode}") from None
        if message.startswith(actor.FAILED):
            trace = message[len(actor.FAILED) :].decode().rstrip()
            raise ActorFailure(trace.splitlines()[-1] + "\n" + trace)
        self._started = True

    def hang_up(self) -> None:
        """Tells the process to end; does not wait for it."""
        self._connection.close()

    def close(self, grace: float = 2.0) -> None:
        """Ends the process, by force if it is not gone within `grace` seconds."""
        self._connection.close()
        self._process.join(grace)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


class ActorPool:
    """All actor processes, in groups; replaces those that fail. A context manager: leaving it ends them all."""

    CRASH_LOOP = 5  # failures ...
    CRASH_LOOP_SECONDS = 60.0  # ... within so many seconds end the run

    def __init__(self, config: ActorsConfig, world: WorldConfig, num_processes: int, seed: int) -> None:
        self.config = config
        self.world = world
        self.spec = world.spec()
        self.games_per_actor = config.games // num_processes
        self.restarts = 0
        self._recent: deque[float] = deque(maxlen=self.CRASH_LOOP)
        self._next_seed = seed
        self._retired_busy_seconds = 0.0
        actors = [self._start() for _ in range(num_processes)]
        size = num_processes // config.groups
        self.groups = [actors[start : start + size] for start in range(0, num_processes, size)]

    @property
    def busy_seconds(self) -> float:
        """Time that all actors together have spent in the emulator."""
        return self._retired_busy_seconds + sum(float(a.slab.busy_seconds[0]) for group in self.groups for a in group)

    def wait(self, group: int) -> list[ActorFailure]:
        """Waits until every actor of a group has its next step in its slab.

        Failed actors are replaced, and the new one's first step is waited for; their failures are returned.

        Raises:
            ActorFailure: a crash loop; the message carries the last traceback.
        """
        failures = []
        deadline = time.monotonic() + self.config.timeout
        for index, one in enumerate(self.groups[group]):
            try:
                one.wait(max(0.0, deadline - time.monotonic()))
            except ActorFailure as failure:
                failures.append(failure)
                self._replace(group, index, failure)
        return failures

    def _replace(self, group: int, index: int, failure: ActorFailure) -> None:
        while True:
            self._recent.append(time.monotonic())
            if len(self._recent) == self.CRASH_LOOP and self._recent[-1] - self._recent[0] < self.CRASH_LOOP_SECONDS:
                raise ActorFailure(
                    f"{self.CRASH_LOOP} actors failed within {self.CRASH_LOOP_SECONDS:g} s; the last one: {failure}"
                )
            old = self.groups[group][index]
            self._retired_busy_seconds += float(old.slab.busy_seconds[0])
            old.close(grace=0)
            self.groups[group][index] = self._start()
            self.restarts += 1
            try:
                return self.groups[group][index].wait(self.config.timeout)
            except ActorFailure as again:
                failure = again

    def _start(self) -> Actor:
        self._next_seed += 1
        return Actor(self.world, self.spec, self.games_per_actor, self._next_seed)

    def close(self) -> None:
        """Ends all processes; those that do not end by themselves are killed."""
        for group in self.groups:
            for one in group:
                one.hang_up()
        for group in self.groups:
            for one in group:
                one.close()
        self.groups = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
