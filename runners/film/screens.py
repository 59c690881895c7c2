"""What films and the window show of an environment: its renderer's screens, its own pictures, or its observations."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from rfwp.agents.remote_env import open_env
from rfwp.envs.spaces import Field
from rfwp.envs.vector_env import EnvConfig, Renderer, Step, VectorEnv
from rfwp.runners.evaluation.rollout import naming_failures
from rfwp.runners.film.canvas import BACKGROUND, MUTED, TEXT, Box, Floats, Pixels, fill, heat_map, resized, text

WIDTH, HEIGHT, MARGIN = 480, 630, 16  # of a drawn observation
LABEL, CELL = 24, 48
NUMBER_CELL = 24  # the smallest that shows its number
MOST = 16  # fields that are drawn
COLUMNS = 16  # at least, before numbers go on in another row
STEPS_PER_SECOND = 5  # of drawn observations, which take time to read


@contextmanager
def open_screen(config: EnvConfig) -> Iterator[Renderer]:
    """Open one environment that can be shown. Raise UserError if its process fails."""
    with naming_failures(config):
        if config.renderer is not None:
            screen = config.renderer()
        elif (screened := config.screened) is not None:
            screen = PictureField(open_env(screened, 1, 1), screened.screens_per_second)
        else:
            screen = DrawnObservation(open_env(config, 1, 1))
        with screen:
            yield screen


class _Screen(Renderer):
    """One environment with pictures made from its steps."""

    def __init__(self, env: VectorEnv) -> None:
        self.spec = env.spec
        self._env = env
        self._picture: Pixels

    def reset(self, seed: int) -> Step:
        return self._look(self._env.reset(seed))

    def step(self, action: NDArray[np.int64]) -> Step:
        return self._look(self._env.step(action))

    def screens(self) -> NDArray[np.uint8]:
        return self._picture[None]

    def close(self) -> None:
        self._env.close()

    def _look(self, step: Step) -> Step:
        """Make the picture of a step; return the step as the agent sees it."""
        raise NotImplementedError


class PictureField(_Screen):
    """Shows the last field of the observations, which it hides from the agent."""

    def __init__(self, env: VectorEnv, frames_per_second: int) -> None:
        super().__init__(env)
        self.spec = env.spec._replace(observation=env.spec.observation[:-1])
        self.frames_per_second = frames_per_second

    def _look(self, step: Step) -> Step:
        *rest, picture = step.observation
        self._picture = np.ascontiguousarray(picture[0].transpose(1, 2, 0))
        return step._replace(observation=tuple(rest))


class DrawnObservation(_Screen):
    """Draws every field of an observation: small images as they are, other numbers as tiles, categories with labels."""

    frames_per_second = STEPS_PER_SECOND

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self._fields = env.spec.observation[:MOST]
        room = (HEIGHT - MARGIN) // len(self._fields) - LABEL - MARGIN
        self._layouts: list[tuple[Box, int]] = []  # the place of a field, and the pixels of its cells
        y = MARGIN
        for field in self._fields:
            rows, columns, cell = _cells(field, room)
            self._layouts.append((Box(MARGIN, y + LABEL, columns * cell, rows * cell), cell))
            y = self._layouts[-1][0].bottom + MARGIN
        self._blank = np.empty((y + y % 2, WIDTH, 3), np.uint8)
        fill(self._blank, Box(0, 0, WIDTH, len(self._blank)), BACKGROUND)
        for field, (box, _) in zip(self._fields, self._layouts, strict=True):
            text(self._blank, box.x, box.y - LABEL + 13, field.name, 13, MUTED)
        self._largest = [float(max((1e-6, *(size - 1 for size in field.sizes)))) for field in self._fields]

    def _look(self, step: Step) -> Step:
        self._picture = self._blank.copy()
        for index, field in enumerate(self._fields):
            value = step.observation[index][0]
            if _is_picture(field):
                channels = value if len(value) == 3 else np.repeat(value[-1:], 3, axis=0)  # of a stack, the newest
                box, _ = self._layouts[index]
                box.of(self._picture)[:] = resized(np.ascontiguousarray(channels.transpose(1, 2, 0)), box[2:])
            else:
                self._draw_tiles(index, value.ravel().astype(np.float64))
        return step

    def _draw_tiles(self, index: int, numbers: Floats) -> None:
        """Draw the numbers of a field, [N], each in a cell."""
        box, cell = self._layouts[index]
        columns = box.width // cell
        largest = self._largest[index] = max(self._largest[index], *np.abs(numbers))  # so far
        tiles = np.zeros((box.height // cell, columns))
        tiles.flat[: numbers.size] = numbers
        box.of(self._picture)[:] = heat_map(tiles, largest, box[2:])
        if self._fields[index].kind == "categories" and cell >= NUMBER_CELL:
            for place, number in enumerate(numbers):
                row, column = divmod(place, columns)
                x, foot = box.x + column * cell + cell // 2, box.y + row * cell + cell // 2 + 5
                text(
                    self._picture, x, foot, f"{number:g}", 13, BACKGROUND if number > 0.6 * largest else TEXT, "middle"
                )


def _is_picture(field: Field) -> bool:
    return field.kind == "image" and min(field.shape[1:]) > 1


def _cells(field: Field, room: int) -> tuple[int, int, int]:
    """Return the rows and columns of a field, and the pixels of a cell, which may take `room` pixels in height."""
    if _is_picture(field):
        _, rows, columns = field.shape
    else:
        size = math.prod(field.shape)
        columns = min(size, max(COLUMNS, math.isqrt(size)))
        rows = math.ceil(size / columns)
    most = HEIGHT if _is_picture(field) else CELL
    return rows, columns, max(1, min(most, (WIDTH - 2 * MARGIN) // columns, room // rows))
