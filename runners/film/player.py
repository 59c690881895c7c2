"""Shows a game as it is played: at the speed of the real game or another, paused, or step by step."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, Protocol

from rfwp.runners.film.canvas import Pixels

Command = Literal["pause", "step", "faster", "slower", "quit"]

SLOWEST, FASTEST = 1 / 16, 16.0
LONGEST = 1 / 15  # seconds that the picture stands still when the machine is too slow for every frame


class Display(Protocol):
    """What a game is shown on."""

    def show(self, image: Pixels, status: str) -> None:
        """Shows a frame and, in a few words, how it is played."""

    def commands(self) -> Iterable[Command]:
        """What the user has asked for since the last call."""


class Quit(Exception):
    """The user has seen enough."""


class Player:
    """Shows frames when they are due, and does what the user asks for in between."""

    def __init__(
        self,
        display: Display,
        speed: float,
        frames_per_second: float,
        now: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.speed = speed
        self.paused = False
        self._frame = 1 / frames_per_second  # seconds
        self._display = display
        self._pending: deque[Command] = deque()
        self._image: Pixels | None = None
        self._now, self._sleep = now, sleep
        self._due = self._shown = now()

    @property
    def status(self) -> str:
        """How it is played, in a few words."""
        return "paused" if self.paused else f"speed {self.speed:g}"

    def play(self, frames: Iterable[Pixels]) -> None:
        """Shows the frames of one agent step, once nothing holds it back. Raises Quit."""
        self._wait_while_paused()
        for image in frames:
            self._show_in_time(image)
            for command in self._commands():
                self._obey(command)

    def _wait_while_paused(self) -> None:
        """Comes back when the user goes on, or wants one more step."""
        while self.paused:
            for command in self._commands():
                if command == "step":
                    return
                self._obey(command)
            if self.paused and self._image is not None:
                self._display.show(self._image, self.status)
            self._sleep(self._frame)
            self._due = self._now()

    def _obey(self, command: Command) -> None:
        match command:
            case "quit":
                raise Quit
            case "pause":
                self.paused = not self.paused
            case "step":
                self.paused = True
            case "faster":
                self.speed = min(self.speed * 2, FASTEST)
            case "slower":
                self.speed = max(self.speed / 2, SLOWEST)

    def _show_in_time(self, image: Pixels) -> None:
        """Waits until a frame is due; leaves it out where it is too late, or where more come than a screen shows."""
        # Time that the machine is short of is not caught up with.
        self._due = max(self._due + self._frame / self.speed, self._now() - LONGEST)
        if (early := self._due - self._now()) > 0:
            self._sleep(early)
        now = self._now()
        late = now - self._due > self._frame
        self._image = image
        if now - self._shown >= (LONGEST if late else 0.9 * self._frame):
            self._display.show(image, self.status)
            self._shown = now

    def _commands(self) -> Iterator[Command]:
        """What was asked for and is not done yet."""
        self._pending.extend(self._display.commands())
        while self._pending:
            yield self._pending.popleft()
