"""A window on the user's screen, with SDL."""

import os
from collections.abc import Iterator
from typing import Self

import numpy as np

from rfwp.runners.film.canvas import AMBER, BACKGROUND, MUTED, Box, Pixels, fill, text
from rfwp.runners.film.player import Command
from rfwp.runners.machine.errors import UserError

BAR = 30  # rows below the picture that name the keys
HELP = "space pause    right one step    up / down speed    q quit"


DRIVERS = {"DISPLAY": "x11", "WAYLAND_DISPLAY": "wayland"}  # the variable that names a screen, and SDL's driver for it


def check_display(instead: str) -> None:
    """Raise UserError without a display; `instead` is a command that needs none."""
    if not any(os.environ.get(name) for name in (*DRIVERS, "SDL_VIDEODRIVER")):
        raise UserError(f"there is no display to open a window on; film an episode instead: {instead}")


class Window:
    """Shows pictures of one size; the user can resize the window."""

    def __init__(self, title: str, size: tuple[int, int], instead: str) -> None:
        """Open the window. Raise UserError if that fails; `instead` is a command that needs no window."""
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        # By default, SDL draws to a dummy display instead of reporting that it cannot open one.
        drivers = ",".join(driver for name, driver in DRIVERS.items() if os.environ.get(name))
        os.environ.setdefault("SDL_VIDEODRIVER", drivers)
        import pygame

        self._pygame = pygame
        self._title = title
        width, height = size
        self._canvas = np.empty((height + BAR, width, 3), np.uint8)
        self._status = ""
        try:
            pygame.display.init()
            self._surface = pygame.display.set_mode((width, height + BAR), pygame.RESIZABLE | pygame.SCALED)
        except pygame.error as error:
            pygame.display.quit()
            raise UserError(f"cannot open a window: {error}; film an episode instead: {instead}") from None
        pygame.display.set_caption(title)
        pygame.key.set_repeat(300, 60)  # holding a key repeats it
        keys: dict[Command, tuple[int, ...]] = {
            "pause": (pygame.K_SPACE, pygame.K_p),
            "step": (pygame.K_RIGHT, pygame.K_n),
            "faster": (pygame.K_UP, pygame.K_PLUS, pygame.K_EQUALS, pygame.K_KP_PLUS),
            "slower": (pygame.K_DOWN, pygame.K_MINUS, pygame.K_KP_MINUS),
            "quit": (pygame.K_q, pygame.K_ESCAPE),
        }
        self._commands = {key: command for command, names in keys.items() for key in names}

    def show(self, image: Pixels, status: str) -> None:
        """Show a picture, and the status in the bar and the title."""
        height, width, _ = image.shape
        self._canvas[:height] = image
        if status != self._status:
            self._status = status
            self._pygame.display.set_caption(f"{self._title} - {status}")
            fill(self._canvas, Box(0, height, width, BAR), BACKGROUND)
            text(self._canvas, 14, height + 19, status, 12, AMBER)
            text(self._canvas, width - 14, height + 19, HELP, 12, MUTED, "right")
        frame = self._pygame.image.frombuffer(self._canvas.data, (width, height + BAR), "RGB")
        self._surface.blit(frame, (0, 0))
        self._pygame.display.flip()

    def commands(self) -> Iterator[Command]:
        """Yield the commands of keys pressed since the last call; closing the window quits."""
        for event in self._pygame.event.get():
            if event.type == self._pygame.QUIT:
                yield "quit"
            elif event.type == self._pygame.KEYDOWN and event.key in self._commands:
                yield self._commands[event.key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pygame.display.quit()
