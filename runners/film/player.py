"""Plays frames in real time or at another speed, paused, or step by step."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, Protocol

from rfwp.runners.film.canvas import Pixels

Command = Literal["pause", "step", "faster", "slower", "quit"]

SLOWEST, FASTEST = 1 / 16, 16.0
LONGEST = 1 / 15  # seconds without a new picture at most, on a machine too slow for every frame


class Display(Protocol):
    """A screen with keys."""

    def show(self, image: Pixels, status: str) -> None:
        """Show a frame and a short status."""

    def commands(self) -> Iterable[Command]:
        """Return the user's commands since the last call."""


class Quit(Exception):
    """The user quits."""


class Player:
    """Shows frames when they are due, and obeys the user's commands."""

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
        """The speed, or "paused"."""
        return "paused" if self.paused else f"speed {self.speed:g}"

    def play(self, frames: Iterable[Pixels]) -> None:
        """Show the frames of one agent step, after any pause. Raise Quit if the user quits."""
        self._wait_while_paused()
        for image in frames:
            self._show_in_time(image)
            for command in self._commands():
                self._obey(command)

    def _wait_while_paused(self) -> None:
        """Wait until the user resumes or requests one step."""
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
        """Wait until a frame is due and show it; skip it if it is late or frames come faster than a screen shows."""
        # Lost time is not caught up.
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
        """Yield commands that are not obeyed yet."""
        self._pending.extend(self._display.commands())
        while self._pending:
            yield self._pending.popleft()
