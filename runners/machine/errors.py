"""Errors that the user can fix."""

from rfwp.runners.machine.output import printable


def reason(error: "UserError | OSError") -> str:
    """Return what went wrong in one line: for an OSError its file, or "output" if it names none, and the cause."""
    if isinstance(error, OSError):
        return printable(f"{error.filename or 'output'}: {error.strerror or error}")
    return str(error)


class UserError(Exception):
    """Ends the command with exit code 2 and one line: the field, the value, and what is allowed or what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(" ".join(message.split())))
