"""Draws a core's memory: every fast weight matrix as a heat map, and the size of writes over time."""

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from rfwp.models.memory_view import Floats, Matrices, Memory, Vector
from rfwp.runners.film.canvas import (
    LINE,
    MUTED,
    SERIES,
    TEXT,
    Box,
    Pixels,
    diverging_map,
    fill,
    heat_map,
    plot,
    round_up,
    text,
)

MOST = 8  # leaves of the state that fit
GAP, LABEL = 14, 20
KEY_WIDTH = 44
PLOT_WIDTH, PLOT_HEIGHT = 150, 62
_STEPS = (1, 1.5, 2, 3, 5, 7.5, 10)


class MemoryPanel:
    """The leaves of the state in a grid, laid out once for the largest possible heat maps."""

    def __init__(self, box: Box, history: int) -> None:
        self.box = box
        self._history = history
        self._blocks: list[Block] = []

    def draw(self, image: Pixels, memory: Memory, opens: bool) -> None:
        """Add one agent step and draw it with the earlier ones."""
        x = self.box.x + 14
        x += text(image, x, self.box.y + 24, "memory", 13, MUTED) + 10
        if not memory:
            middle, y = self.box.x + self.box.width // 2, self.box.y + self.box.height // 2
            text(image, middle, y, "this core has no memory", 15, TEXT, "middle")
            text(image, middle, y + 24, "what it does depends on the last frames alone", 13, MUTED, "middle")
            return
        leaves = _shown(memory)
        kind = "matrices of each head" if isinstance(leaves[0], Matrices) else "state over time"
        text(image, x, self.box.y + 24, kind, 11, MUTED)
        if not self._blocks:
            inner = self.box.inset(14, 38, 14, 12)
            places = _lay_out(inner, [_shape(leaf, self._history) for leaf in leaves])
            self._blocks = [Block(place, self._history) for place in places]
        for block, leaf in zip(self._blocks, leaves, strict=True):
            block.draw(image, leaf)


class Place(NamedTuple):
    """The place of one leaf."""

    label: Box
    maps: list[Box]
    key: Box
    plots: Box


class Block:
    """One leaf of the state: its heat maps and curves of its writes."""

    def __init__(self, place: Place, history: int) -> None:
        self._place = place
        self._history = history
        self._largest: deque[float] = deque(maxlen=history)
        self._changes: deque[Floats] = deque(maxlen=history)
        self._rates: deque[Floats] = deque(maxlen=history)
        self._values: deque[Floats] = deque(maxlen=history)

    def draw(self, image: Pixels, leaf: Matrices | Vector) -> None:
        """Add one agent step and draw it with the earlier ones."""
        maps = self._maps(leaf)
        self._largest.append(float(np.quantile(np.nan_to_num(np.abs(maps)), 0.99)))
        scale = round_up(max(self._largest), _STEPS)
        label = self._place.label
        text(image, label.x, label.y + 11, leaf.name, 12, TEXT)
        for box, weights, colour in zip(self._place.maps, maps, _colours(len(maps)), strict=True):
            box.of(image)[:] = heat_map(weights, scale, (box.width, box.height))
            if isinstance(leaf, Matrices):
                fill(image, Box(box.x, box.y - 3, box.width, 2), colour)
        self._draw_key(image, scale)
        self._draw_curves(image, leaf)

    def _draw_key(self, image: Pixels, scale: float) -> None:
        """Draw the colour key of the heat maps."""
        key = self._place.key
        bar = key._replace(width=8)
        ramp = diverging_map()[::-1][np.linspace(0, 254, bar.height).astype(int)]
        bar.of(image)[:] = ramp[:, None]
        for y, label in ((bar.y + 9, f"{scale:g}"), (bar.y + bar.height // 2 + 4, "0"), (bar.bottom, f"-{scale:g}")):
            text(image, bar.right + 6, y, label, 11, MUTED)

    def _maps(self, leaf: Matrices | Vector) -> Floats:
        """Return images [M, rows, columns]: matrices directly, a vector over time."""
        if isinstance(leaf, Matrices):
            return leaf.weights
        self._values.append(leaf.values)
        past = np.zeros((len(leaf.values), self._history), np.float32)
        past[:, self._history - len(self._values) :] = np.stack(self._values, 1)
        return past[None]

    def _draw_curves(self, image: Pixels, leaf: Matrices | Vector) -> None:
        self._changes.append(np.atleast_1d(np.asarray(leaf.change)))
        rate = leaf.rate if isinstance(leaf, Matrices) else None
        box = self._place.plots
        changes = box
        if rate is not None:
            self._rates.append(rate.flatten())
            if box.height >= 2 * box.width // 3:
                rates = box._replace(height=(box.height - GAP) // 2)
                changes = Box(box.x, rates.bottom + GAP, box.width, rates.height)
            else:
                rates = box._replace(width=(box.width - GAP) // 2)
                changes = Box(rates.right + GAP, box.y, rates.width, box.height)
            self._draw_curve(image, rates, "write rate", self._rates)
        self._draw_curve(image, changes, "write norm" if isinstance(leaf, Matrices) else "change", self._changes)

    def _draw_curve(self, image: Pixels, box: Box, name: str, past: Iterable[Floats]) -> None:
        curves = np.nan_to_num(np.stack(list(past), 1)).clip(0, 1e9)  # [series, time]
        high = round_up(float(curves.max()), _STEPS)
        text(image, box.x, box.y + 9, name, 11, MUTED)
        text(image, box.right, box.y + 9, f"{high:g}", 11, MUTED, "right")
        chart = box.inset(0, 15, 0, 0)
        fill(image, chart._replace(height=1), LINE)
        fill(image, Box(chart.x, chart.bottom - 1, chart.width, 1), LINE)
        for values, colour in zip(curves, _colours(len(curves)), strict=True):
            plot(image, chart, values, 0.0, high, colour, self._history)


def _shown(memory: Memory) -> Memory:
    """Return the matrices of a memory, or its vectors if it has none."""
    matrices: Memory = [leaf for leaf in memory if isinstance(leaf, Matrices)]
    return (matrices or memory)[:MOST]


def _shape(leaf: Matrices | Vector, history: int) -> tuple[int, int, int]:
    """Return the number, rows and columns of a leaf's heat maps."""
    if isinstance(leaf, Matrices):
        count, rows, columns = leaf.weights.shape
        return count, rows, columns
    return 1, len(leaf.values), history


def _colours(count: int) -> list[tuple[int, int, int]]:
    """Return a colour per series: one per head, shared by the gates or rates of that head."""
    if count <= len(SERIES) or count % len(SERIES):
        return [SERIES[index % len(SERIES)] for index in range(count)]
    return [SERIES[index * len(SERIES) // count] for index in range(count)]


def _lay_out(box: Box, shapes: list[tuple[int, int, int]]) -> list[Place]:
    """Try every grid, with curves below or beside the heat maps; return the one with the largest maps."""
    grids = []
    for columns in range(1, len(shapes) + 1):
        rows = math.ceil(len(shapes) / columns)
        width, height = (box.width + GAP) // columns - GAP, (box.height + GAP) // rows - GAP
        cells = [
            Box(box.x + index % columns * (width + GAP), box.y + index // columns * (height + GAP), width, height)
            for index in range(len(shapes))
        ]
        grids += [[_place(cell, shape, below) for cell, shape in zip(cells, shapes, strict=True)] for below in (0, 1)]
    return max(grids, key=lambda grid: (all(map(_readable, grid)), sum(map(_map_area, grid))))


def _place(cell: Box, shape: tuple[int, int, int], below: int) -> Place:
    """Place heat maps at the top left of a cell, and curves in the rest."""
    count, rows, columns = shape
    inner = cell.inset(0, LABEL, 0, 0)
    room = inner.inset(0, 0, KEY_WIDTH, 0)
    room = room.inset(0, 0, 0, PLOT_HEIGHT + GAP) if below else room.inset(0, 0, PLOT_WIDTH + GAP, 0)
    across, zoom = max(
        ((across, _zoom(room, across, math.ceil(count / across), rows, columns)) for across in range(1, count + 1)),
        key=lambda option: option[1],
    )
    width, height = max(1, int(columns * zoom)), max(1, int(rows * zoom))
    maps = [
        Box(inner.x + index % across * (width + 8), inner.y + index // across * (height + 8), width, height)
        for index in range(count)
    ]
    used = Box(inner.x, inner.y, maps[across - 1].right - inner.x, maps[-1].bottom - inner.y)
    if below:
        # A vector's curve shares the time axis of its heat map.
        width = used.width if count == 1 else inner.width
        plots = Box(inner.x, used.bottom + GAP, width, inner.bottom - used.bottom - GAP)
    else:
        left = used.right + KEY_WIDTH + GAP
        plots = Box(left, inner.y, inner.right - left, used.height)
    key = Box(used.right + 8, used.y, KEY_WIDTH - 8, used.height)
    return Place(cell._replace(height=LABEL), maps, key, plots)


def _readable(place: Place) -> bool:
    """Return True if two curves fit, side by side or one above the other."""
    _, _, width, height = place.plots
    return (width >= 220 and height >= 44) or (width >= 100 and height >= 2 * width // 3)


def _map_area(place: Place) -> int:
    return sum(each.width * each.height for each in place.maps)


def _zoom(room: Box, across: int, down: int, rows: int, columns: int) -> float:
    """Return the largest zoom at which all matrices fit: a whole number, or less than 1."""
    zoom = min((room.width - (across - 1) * 8) / across / columns, (room.height - (down - 1) * 8) / down / rows)
    return math.floor(zoom) if zoom >= 1 else max(zoom, 1 / max(rows, columns))
