"""A matplotlib figure in the report's style, exported as SVG text."""

import html
import io
import math
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from rfwp.runners.report.palette import STYLE, Mark

WIDTH = 9.2  # inches: the page is as wide


class Drawing:
    """A figure. While entered, matplotlib uses the report's style; its own settings are restored at the end."""

    def __init__(self, height: float) -> None:
        """Take the height in inches."""
        self._style = matplotlib.rc_context(STYLE)
        self._height = height

    def __enter__(self) -> Self:
        self._style.__enter__()
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
        self._figure = Figure(figsize=(WIDTH, self._height), layout=layout)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._style.__exit__(kind, error, trace)

    def grid(self, rows: int, columns: int, used: int | None = None, sharey: bool = False) -> list[Axes]:
        """Return axes row by row; if `used` is given, keep only the first `used` of them."""
        every: list[Axes] = list(self._figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
        for axes in every[used:] if used else ():
            axes.remove()
        return every[:used]

    def legend(self, look: Mapping[str, Mark]) -> None:
        """Draw a legend of all agents above the axes, in as many columns as fit; its further rows add to the height."""
        columns = min(6, len(look), max(1, int(13 * WIDTH) // (max(map(len, look)) + 8)))  # 13 letters to the inch
        self._figure.set_figheight(self._height + 0.19 * (math.ceil(len(look) / columns) - 1))
        handles = [
            Line2D([], [], color=mark.light, dashes=mark.dashes, marker=mark.marker, markersize=5.5, label=agent)
            for agent, mark in look.items()
        ]
        self._figure.legend(handles=handles, loc="outside upper left", ncols=columns, borderpad=0)

    def svg(self, title: str) -> str:
        """Return the figure as an <svg> element with a label; the same figure gives the same text."""
        out = io.StringIO()
        metadata: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
        with matplotlib.rc_context(STYLE | {"svg.hashsalt": title}):
            self._figure.savefig(out, format="svg", metadata=metadata)
        svg = re.sub(r"^.*?(?=<svg)", "", out.getvalue(), flags=re.DOTALL)
        svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
        return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
