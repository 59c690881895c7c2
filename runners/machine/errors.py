"""Errors that the user can fix."""


class UserError(Exception):
    """Ends the command with exit code 2 and one line: the field, the value, and what is allowed or what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
