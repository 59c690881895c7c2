"""What a user did or has, and the program cannot work with."""


class UserError(Exception):
    """Ends the command with exit code 2 and this one line: the field, the value, what is allowed or what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
