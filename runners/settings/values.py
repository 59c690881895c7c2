"""Values of settings: converted from text or YAML by the type hint of their field, and described in words."""

import json
import math
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from rfwp.envs.subject import Json


def convert(hint: Any, value: Any) -> Any:
    """Convert a value to the type that `hint` stands for. Raise ValueError if it cannot be converted.

    A value is text from the command line or a value from YAML: "2_000_000" and 2000000 are the same int.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal and isinstance(value, str) and value in arguments:
        return value
    if origin in (Union, UnionType):
        return _convert_union(arguments, value)
    if hint is Json:
        return json.dumps(json.loads(value) if isinstance(value, str) else value)
    if origin is tuple:
        return tuple(convert(arguments[0], each) for each in _as_list(value))
    if hint is bool and (isinstance(value, bool) or value in ("true", "false")):
        return value in (True, "true")
    if hint is int and isinstance(value, int | str) and not isinstance(value, bool):
        return int(value)
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        return _finite(value)
    if hint is str and isinstance(value, str):
        return value
    raise ValueError(f"{value!r} is not {allowed(hint)}")


def _convert_union(hints: tuple[Any, ...], value: Any) -> Any:
    if NoneType in hints and (value is None or value == "null"):
        return None
    for hint in hints:
        try:
            return convert(hint, value)
        except ValueError:
            continue
    raise ValueError(f"{value!r} is none of {hints}")


def _as_list(value: Any) -> list[Any]:
    try:
        values = yaml.safe_load(value) if isinstance(value, str) else value
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(error) from None
    if not isinstance(values, list | tuple):
        raise ValueError(f"{value!r} is not a list")
    return list(values)


def _finite(value: int | float | str) -> float:
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(error) from None
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not finite")
    return number


def allowed(hint: Any) -> str:
    """Describe the values that `convert` takes for a type hint."""
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(allowed(each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list as in [2, 4], each {allowed(get_args(hint)[0])}"
    words = {
        int: "a whole number",
        float: "a finite number",
        bool: "true or false",
        str: "text",
        NoneType: "null",
        Json: "JSON",
    }
    return words[hint]
