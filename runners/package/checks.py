"""How settings refuse a value."""

from typing import Any, get_args


def check(condition: bool, field: str, value: object, allowed: str) -> None:
    """Raise ValueError naming the field, its value and the allowed values, unless the condition holds."""
    if not condition:
        raise ValueError(f"{field}: got {value!r}; allowed: {allowed}")


def check_choice(field: str, value: object, choices: Any) -> None:
    """Raise ValueError as `check` does unless the value is one of a Literal's."""
    check(value in get_args(choices), field, value, ", ".join(get_args(choices)))
