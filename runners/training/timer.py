"""A timer for periodic work."""

import time


class Timer:
    """Comes due every `seconds` seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def due(self) -> bool:
        """Return True if the time has come, and start the next interval."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True

    def again_in(self, seconds: float) -> None:
        """Come due in `seconds` seconds at the latest."""
        self._next = min(self._next, time.monotonic() + seconds)
