"""What is to be done every so many seconds."""

import time


class Timer:
    """Comes due every so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def due(self) -> bool:
        """Whether the time has come; begins anew if so."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True

    def again_in(self, seconds: float) -> None:
        """Comes due earlier than it would."""
        self._next = min(self._next, time.monotonic() + seconds)
