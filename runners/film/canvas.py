"""Draws text, lines and colour maps into arrays of pixels."""

import math
from functools import cache, lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]  # [height, width, 3] RGB
Floats = NDArray[np.floating]
Colour = tuple[int, int, int]

BACKGROUND: Colour = (13, 16, 22)
CARD: Colour = (21, 25, 33)
LINE: Colour = (44, 50, 62)
FAINT: Colour = (86, 94, 110)
TEXT: Colour = (232, 236, 242)
MUTED: Colour = (142, 151, 166)
BLUE: Colour = (92, 168, 255)
AMBER: Colour = (242, 178, 74)
RED: Colour = (246, 96, 92)
# Different hues of similar lightness, one per head.
SERIES: tuple[Colour, ...] = ((92, 168, 255), (242, 178, 74), (86, 204, 157), (224, 130, 206))

_SHIFT = 4  # fractional bits of line coordinates


class Box(NamedTuple):
    """A rectangle of pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """First column past the box."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """First row past the box."""
        return self.y + self.height

    def inset(self, left: int, top: int, right: int, bottom: int) -> "Box":
        """Return the box without margins."""
        return Box(self.x + left, self.y + top, self.width - left - right, self.height - top - bottom)

    def of(self, image: Pixels) -> Pixels:
        """Return this part of an image, as a view to draw into."""
        return image[self.y : self.bottom, self.x : self.right]


def fill(image: Pixels, box: Box, colour: Colour) -> None:
    """Fill a rectangle; an empty one draws nothing."""
    if box.width > 0 and box.height > 0:
        cv2.rectangle(image, (box.x, box.y), (box.right - 1, box.bottom - 1), colour, -1)


def fitted(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """Return the largest (width, height) in a room: a multiple of `size` if that fits; even, as H.264 needs."""
    zoom = min(most / own for own, most in zip(size, room, strict=True))
    zoom = math.floor(zoom) if zoom >= 1 else zoom
    width, height = (max(2, round(own * zoom / 2) * 2) for own in size)
    return width, height


def resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize an image to (width, height): enlarge its pixels, or average them."""
    height, width, _ = image.shape
    how = cv2.INTER_NEAREST if size[0] >= width and size[1] >= height else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def card(image: Pixels, box: Box) -> None:
    """Draw a panel with round corners."""
    radius = 8
    fill(image, box.inset(radius, 0, radius, 0), CARD)
    fill(image, box.inset(0, radius, 0, radius), CARD)
    for x in (box.x + radius, box.right - 1 - radius):
        for y in (box.y + radius, box.bottom - 1 - radius):
            cv2.circle(image, (x, y), radius, CARD, -1, cv2.LINE_AA)


def text(image: Pixels, x: int, y: int, words: str, size: int = 13, colour: Colour = TEXT, align: str = "left") -> int:
    """Write a line of text with its baseline at y; x is its left, right or middle, by `align`. Return its width."""
    mask, rise = _letters(words, size)
    width = int(mask.shape[1])
    left = x - {"left": 0, "right": width, "middle": width // 2}[align]
    top = y - rise
    # Clip what lies outside the image.
    rows, columns = slice(max(0, -top), image.shape[0] - top), slice(max(0, -left), image.shape[1] - left)
    mask = mask[rows, columns]
    target = image[max(0, top) : max(0, top) + mask.shape[0], max(0, left) : max(0, left) + mask.shape[1]]
    target[:] = (target + (np.array(colour, np.float32) - target) * mask).round()
    return width


@lru_cache(maxsize=4096)
def _letters(words: str, size: int) -> tuple[Floats, int]:
    """Return the coverage [height, width, 1] of a line of text, and the number of rows above its baseline."""
    font = _font(size)
    _, top, right, bottom = font.getbbox(words, anchor="ls")
    image = Image.new("L", (max(1, math.ceil(right)), max(1, math.ceil(bottom - top))))
    ImageDraw.Draw(image).text((0, -top), words, fill=255, font=font, anchor="ls")
    return np.asarray(image, np.float32)[:, :, None] / 255, -math.floor(top)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)  # comes with Pillow; its digits have equal widths
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType; its wheels have it")
    return font


def width_of(words: str, size: int) -> int:
    """Return the width of a line of text in pixels."""
    return int(_letters(words, size)[0].shape[1])


def plot(image: Pixels, box: Box, values: Floats, low: float, high: float, colour: Colour, points: int) -> None:
    """Draw a line through values, the newest at the right edge; the box is `points` points wide."""
    if len(values) < 2:
        return
    x = box.right - 1 - np.arange(len(values) - 1, -1, -1) * (box.width - 1) / (points - 1)
    y = box.bottom - 1 - (values - low) / (high - low) * (box.height - 1)
    y = np.nan_to_num(y, nan=box.bottom, posinf=box.y, neginf=box.bottom).clip(box.y, box.bottom - 1)
    line = np.stack([x, y], 1) * (1 << _SHIFT)
    cv2.polylines(image, [line.round().astype(np.int32)], False, colour, 1, cv2.LINE_AA, _SHIFT)


def heat_map(values: Floats, scale: float, size: tuple[int, int]) -> Pixels:
    """Return an image (width, height) of a matrix [rows, columns]: 0 dark, +scale bright amber, −scale bright blue."""
    index = np.nan_to_num(values * (127 / scale), nan=0, posinf=127, neginf=-127).clip(-127, 127)
    colours = diverging_map()[(index + 127.5).astype(np.uint8)]
    rows, columns = values.shape
    zoom = max(math.ceil(size[0] / columns), math.ceil(size[1] / rows))
    if zoom > 1:  # keeps sharp edges and equal cell sizes
        colours = resized(colours, (columns * zoom, rows * zoom))
    return resized(colours, size)


@cache
def diverging_map() -> Pixels:
    """Return 255 colours [255, 3] from light blue via dark to light amber, even in Oklab lightness (Ottosson 2020)."""
    distance = np.linspace(-1, 1, 255)
    lightness = 0.24 + 0.64 * np.abs(distance)
    chroma = 0.15 * np.sin(np.abs(distance) * 0.8 * np.pi)  # none at 0, little at the bright ends
    hue = np.where(distance < 0, np.radians(250), np.radians(65))
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = (to_linear @ cones**3).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray((encoded.T * 255).round(), np.uint8)


def round_up(value: float, steps: tuple[float, ...] = (1, 2, 5, 10)) -> float:
    """Round up to one of these steps times a power of ten, at least 1e-6, so that scales rarely change."""
    if not value > 1e-6:
        return 1e-6
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in steps if step * power >= value * (1 - 1e-9))
