"""Command-line parsers that take type hints and raise one-line UserErrors that name the allowed values."""

from argparse import ArgumentError, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings import components
from rfwp.runners.settings.values import allowed, convert


class Parser(ArgumentParser):
    """An argparse parser for `parse`. The `type` of an option is a type hint, as in `int | None`."""

    def __init__(
        self, prog: str, description: str | None = None, epilog: str | None = None, add_help: bool = True
    ) -> None:
        self.option_names: list[str] = []
        super().__init__(
            prog, description=description, epilog=epilog, add_help=add_help, exit_on_error=False, allow_abbrev=False
        )

    def add_argument(self, *flags: str, **keywords: Any) -> Any:
        """Add an option as argparse does; `type` is a type hint."""
        self.option_names += [flag.removeprefix("--") for flag in flags]
        if "type" in keywords:
            keywords["type"] = reader(keywords["type"])
        return super().add_argument(*flags, **keywords)

    def error(self, message: str) -> NoReturn:
        """Raise an error that `parse` turns into a UserError; argparse would print the usage and exit."""
        raise ArgumentError(None, message)


def reader(hint: Any) -> Callable[[str], Any]:
    """Return the function with which argparse reads a value of a type."""

    def read(text: str) -> Any:
        try:
            return convert(hint, text)
        except ValueError:
            raise ArgumentTypeError(f"got {text}; allowed: {allowed(hint)}") from None

    return read


def parse(parser: Parser, argv: Sequence[str], ignore_others: bool = False) -> Namespace:
    """Parse a command line. Raise UserError for a mistake: the option, its value, what is allowed.

    With `ignore_others`, ignore unknown words.
    """
    try:
        values, unknown = parser.parse_known_args(list(argv))
    except ArgumentError as error:
        name = (error.argument_name or "").rpartition("/")[2].removeprefix("--")  # its last spelling
        raise UserError(f"{name}: {error.message}" if name else error.message) from None
    if unknown and not ignore_others:
        word = unknown[0].partition("=")[0]
        hint = components.nearest(word.removeprefix("--"), parser.option_names) if word.startswith("--") else ""
        raise UserError(f"{word}: there is no such option{hint}; --help lists them")
    return values
