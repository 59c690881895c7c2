"""Draws an agent's policy, value, rewards and memory beside the game, at 720p."""

import itertools
import math
from collections import deque
from typing import NamedTuple

import numpy as np

from rfwp.models.memory_view import Floats, Memory
from rfwp.runners.film.canvas import (
    AMBER,
    BACKGROUND,
    BLUE,
    FAINT,
    LINE,
    MUTED,
    RED,
    TEXT,
    Box,
    Pixels,
    card,
    fill,
    plot,
    round_up,
    text,
    width_of,
)
from rfwp.runners.film.memory_panel import MemoryPanel

WIDTH, HEIGHT = 1280, 720
GAME_ROOM = 480, 630  # width and height for the game
HISTORY = 270  # agent steps shown in curves: 18 s of real time
MARGIN, GAP = 32, 16
TOP = 58
TOP_ROW = 188  # height of the policy and value panels
MOST_NAMES = 18  # actions whose names fit into the panel of the policy


ActionNames = tuple[tuple[str, ...], ...]


class Thought(NamedTuple):
    """One agent step in plain numbers."""

    policy: Floats  # [ΣA] probabilities of the values of an action's K choices
    action: tuple[int, ...]  # [K]
    value: float  # of the observation that was acted on
    reward: float  # raw, that followed the action
    opens: bool  # a learner episode starts after the action
    episode_over: bool
    memory: Memory


class Overlay:
    """One picture per agent step: space for the game on the left, the agent's outputs and memory on the right."""

    def __init__(self, title: str, subtitle: str, action_names: ActionNames, screen: tuple[int, int]) -> None:
        """Take the size of the screen, (width, height) as shown, at most GAME_ROOM."""
        self.game = Box(MARGIN, TOP, *screen)
        left = self.game.right + MARGIN
        panel = Box(left, TOP, WIDTH - MARGIN - left, HEIGHT - TOP - MARGIN)
        half = (panel.width - GAP) // 2
        self._policy = PolicyPanel(Box(left, TOP, half, TOP_ROW), action_names)
        self._value = ValuePanel(Box(left + half + GAP, TOP, half, TOP_ROW))
        self._memory = MemoryPanel(panel.inset(0, TOP_ROW + GAP, 0, 0), HISTORY)
        self.size = WIDTH, HEIGHT
        self._blank = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        fill(self._blank, Box(0, 0, *self.size), BACKGROUND)
        self._image = self._blank.copy()
        for box in (self._policy.box, self._value.box, self._memory.box):
            card(self._blank, box)
        self._titles = title, subtitle
        self._score, self._steps = 0.0, 0

    def draw(self, thought: Thought) -> Pixels:
        """Return the picture without the game. The next call draws over it."""
        self._score += thought.reward
        self._steps += 1
        image = self._image
        np.copyto(image, self._blank)
        self._draw_header(image)
        self._policy.draw(image, thought)
        self._value.draw(image, thought)
        self._memory.draw(image, thought.memory, thought.opens)
        if thought.episode_over:
            self._score, self._steps = 0.0, 0
        return image

    def _draw_header(self, image: Pixels) -> None:
        title, subtitle = self._titles
        foot = TOP - 18
        left = self.game.right - text(image, self.game.right, foot, f"{self._score:g}", 22, AMBER, "right") - 10
        left -= text(image, left, foot, "score", 13, MUTED, "right") + 10
        size = next((size for size in (22, 18, 15) if width_of(title, size) <= left - self.game.x), 12)
        text(image, self.game.x, foot, title, size)
        text(image, self._policy.box.x, foot, subtitle, 13, MUTED)
        text(image, WIDTH - MARGIN, foot, f"step {self._steps:,}", 13, MUTED, "right")


class PolicyPanel:
    """A bar for each action, with the chosen one highlighted. Independent choices follow each other.

    With more than MOST_NAMES actions, bars stand side by side, the highest fills the panel, and only the chosen actions
    are named.
    """

    def __init__(self, box: Box, action_names: ActionNames) -> None:
        self.box = box
        self._names = list(itertools.chain(*action_names))
        self._starts = [0, *itertools.accumulate(map(len, action_names[:-1]))]  # of each choice
        self._columns = 1 if len(self._names) <= 9 else 2

    def draw(self, image: Pixels, thought: Thought) -> None:
        text(image, self.box.x + 14, self.box.y + 24, "policy", 13, MUTED)
        inner = self.box.inset(14, 38, 14, 12)
        chosen = [start + value for start, value in zip(self._starts, thought.action, strict=True)]
        if len(self._names) > MOST_NAMES:
            self._draw_upright(image, inner, thought.policy, chosen)
            return
        rows = math.ceil(len(self._names) / self._columns)
        width, height = (inner.width + GAP) // self._columns - GAP, min(30, inner.height // rows)
        size = 13 if height >= 18 else 11
        names = max(width_of(name, size) for name in self._names) + 10
        for index, (name, probability) in enumerate(zip(self._names, thought.policy, strict=True)):
            column, row = divmod(index, rows)
            line = Box(inner.x + column * (width + GAP), inner.y + row * height, width, height)
            self._draw_bar(image, line, names, size, name, float(probability), index in chosen)

    def _draw_upright(self, image: Pixels, box: Box, policy: Floats, chosen: list[int]) -> None:
        names = ", ".join(f"{self._names[index]}: {policy[index]:.2f}" for index in chosen)
        text(image, box.right, box.y - 14, names if len(names) <= 40 else f"{names[:38]} ...", 13, TEXT, "right")
        policy = np.nan_to_num(policy)
        left = [box.x + index * box.width // len(policy) for index in range(len(policy) + 1)]
        for index, share in enumerate(policy / max(policy.max(), 1e-9)):
            width = max(1, left[index + 1] - left[index] - 1)
            bar = Box(left[index], box.y, width, box.height)
            height = max(1, round(box.height * float(share)))
            fill(image, bar, LINE)
            fill(image, bar._replace(y=bar.bottom - height, height=height), AMBER if index in chosen else BLUE)
        for start in self._starts[1:]:
            fill(image, Box(left[start] - 1, box.y - 4, 1, box.height + 8), MUTED)

    def _draw_bar(
        self, image: Pixels, line: Box, names: int, size: int, name: str, probability: float, chosen: bool
    ) -> None:
        foot = line.y + (line.height + size * 3 // 4) // 2
        text(image, line.x, foot, name, size, TEXT if chosen else MUTED)
        bar = line.inset(names, 3, 40 if self._columns == 1 else 0, 3)
        fill(image, bar, LINE)
        fill(
            image, bar._replace(width=max(1, round(bar.width * np.nan_to_num(probability)))), AMBER if chosen else BLUE
        )
        if self._columns == 1:
            text(image, line.right, foot, f"{probability:.2f}", size, TEXT if chosen else MUTED, "right")


class ValuePanel:
    """The value over time, with a mark at every reward and a line at every start of an episode."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self._values: deque[float] = deque(maxlen=HISTORY)
        self._rewards: deque[float] = deque(maxlen=HISTORY)
        self._opens: deque[bool] = deque(maxlen=HISTORY)

    def draw(self, image: Pixels, thought: Thought) -> None:
        self._values.append(thought.value)
        self._rewards.append(thought.reward)
        self._opens.append(thought.opens)
        x, foot = self.box.x + 14, self.box.y + 24
        x += text(image, x, foot, "value", 13, MUTED) + 8
        text(image, x, foot, f"{thought.value:.2f}", 13, BLUE)
        self._draw_legend(image, foot)
        chart = self.box.inset(14, 42, 44, 24)
        values = np.nan_to_num(np.array(self._values)).clip(-1e6, 1e6)
        low, high = self._draw_grid(image, chart, values)
        self._draw_marks(image, chart)
        plot(image, chart, values, low, high, BLUE, HISTORY)

    def _draw_legend(self, image: Pixels, foot: int) -> None:
        right = self.box.right - 14
        for name, colour, width in (("new episode", FAINT, 1), ("reward", AMBER, 3)):
            right -= text(image, right, foot, name, 11, MUTED, "right") + 6
            fill(image, Box(right - width, foot - 9, width, 9), colour)
            right -= width + 14

    def _draw_grid(self, image: Pixels, chart: Box, values: Floats) -> tuple[float, float]:
        """Draw labelled lines at round values; return the lowest and the highest."""
        least, most = float(values.min()), float(values.max())
        step = round_up(max(most - least, 1e-2) / 3)
        first, last = math.floor(least / step), math.ceil(most / step)
        last = max(last, first + 1)
        for index in range(first, last + 1):
            y = chart.bottom - 1 - round((index - first) / (last - first) * (chart.height - 1))
            fill(image, Box(chart.x, y, chart.width, 1), LINE)
            digits = max(0, -math.floor(math.log10(step) + 1e-9))
            text(image, self.box.right - 14, y + 4, f"{index * step:.{digits}f}", 11, MUTED, "right")
        return first * step, last * step

    def _draw_marks(self, image: Pixels, chart: Box) -> None:
        newest = len(self._values) - 1
        for index, (reward, opens) in enumerate(zip(self._rewards, self._opens, strict=True)):
            x = chart.right - 1 - round((newest - index) * (chart.width - 1) / (HISTORY - 1))
            if opens:
                fill(image, Box(x, chart.y, 1, chart.height), FAINT)
            if reward:
                fill(image, Box(x - 1, chart.bottom + 5, 3, 9), AMBER if reward > 0 else RED)
