"""Actions that may fail without ending a run, such as writing to a full disk: the run goes on and reports it."""

import time
from collections.abc import Callable


class BestEffort:
    """Tries an action and reports failures: the first at once, later ones after waits that double."""

    FIRST_WAIT, LONGEST_WAIT = 10.0, 3600.0  # seconds between two reports

    def __init__(self, what: str, report: Callable[[str], None]) -> None:
        """Take the words that start every report (`what`), such as "the checkpoint cannot be written"."""
        self._what = what
        self._report = report
        self._failures = 0
        self._wait = 0.0
        self._next_report = 0.0

    def attempt(self, action: Callable[[], None]) -> bool:
        """Run `action`; return True if it succeeded. Report an OSError; raise anything else."""
        try:
            action()
        except OSError as error:
            self._failed(error)
            return False
        if self._failures:
            self._report(f"{self._what}: resolved after {self._failures} failed attempt(s)")
            self._failures, self._wait, self._next_report = 0, 0.0, 0.0
        return True

    def _failed(self, error: OSError) -> None:
        self._failures += 1
        if time.monotonic() < self._next_report:
            return
        self._wait = min(max(self.FIRST_WAIT, 2 * self._wait), self.LONGEST_WAIT)
        self._next_report = time.monotonic() + self._wait
        cause = " ".join(filter(None, [error.strerror or str(error), error.filename and f"({error.filename})"]))
        self._report(f"{self._what}: {cause}; trying again")
