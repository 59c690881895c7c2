"""Text for the user: without control characters, on streams that may fail without ending the work."""

import contextlib
import re
from typing import Any, TextIO

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline


def printable(text: str) -> str:
    r"""Replace control characters, which could move the cursor or hide text, by their codes, such as \x1b."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def one_line(text: str) -> str:
    """Replace all control characters by their codes, also tabs and newlines: for names."""
    return printable(text).replace("\t", "\\t").replace("\n", "\\n")


class Dispensable:
    """A text stream that drops what cannot be written: its reader is gone, the terminal closed, the disk full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if possible."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if possible."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
