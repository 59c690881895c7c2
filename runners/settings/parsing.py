"""Command lines: parsers whose errors are one line, a UserError, and name what is allowed."""

import re
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings import components


def make_parser(prog: str, description: str | None = None, epilog: str | None = None) -> ArgumentParser:
    """A parser for `parse`."""
    return ArgumentParser(prog=prog, exit_on_error=False, allow_abbrev=False, description=description, epilog=epilog)


def parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """parser.parse_args whose errors are one line: the field, the value, what is allowed."""
    try:
        return parser.parse_args(list(argv))
    except ArgumentError as error:
        raise UserError(_one_line(str(error), parser)) from None


def _one_line(message: str, parser: ArgumentParser) -> str:
    """A parser's complaint, in the words of the other errors."""
    wrong_type = re.search(r'Parser key "(?P<key>[\w.]+)":\s*(?P<why>.*)', message, re.DOTALL)
    if wrong_type:
        value = re.search(r"(?:Got value|Given value): (.*)", message)
        action = next(action for action in parser._actions if action.dest == wrong_type["key"])
        allowed = _allowed(getattr(action, "_typehint", str))
        return f"{wrong_type['key']}: got {value[1] if value else '?'}; allowed: {allowed}"
    unknown = re.search(r"unrecognized arguments: (--)?([^\s=]+)", message)
    if unknown:
        hint = components.nearest(unknown[2], _keys(parser)) if unknown[1] else ""
        return f"{unknown[1] or ''}{unknown[2]}: there is no such option{hint}; --help lists them"
    return message


def _allowed(hint: Any) -> str:
    """A type in words."""
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_allowed(each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list as in [2, 4], each {_allowed(get_args(hint)[0])}"
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text", NoneType: "null"}
    return words.get(hint, str(hint))


def _keys(parser: ArgumentParser) -> list[str]:
    return sorted(action.dest for action in parser._actions)
