"""The terminal that commands print to."""

import os
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from rfwp.runners.machine.output import printable


class Terminal(Console):
    """Prints text literally, because names of runs, settings and files are not markup.

    Redraws in place only on a terminal that can, whatever FORCE_COLOR says: a dashboard in a log file is of no use.
    """

    def __init__(self, stderr: bool = False, **options: Any) -> None:
        stream = sys.stderr if stderr else sys.stdout
        redraws = stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        plain = {"force_terminal": redraws, "markup": False, "emoji": False, "highlight": False}
        super().__init__(stderr=stderr, **{**plain, **options})

    def say(self, text: str) -> None:
        """Print text without breaking its lines, so that paths and commands can be copied."""
        self.print(text, soft_wrap=True)

    def render_str(self, text: str, *args: Any, **options: Any) -> Text:
        """Render text with its control characters as codes."""
        return super().render_str(printable(text), *args, **options)
