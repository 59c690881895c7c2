"""How settings refuse a value."""

import difflib
from collections.abc import Mapping
from typing import Any, get_args


def check(condition: bool, field: str, value: object, allowed: str) -> None:
    """Raise ValueError naming the field, its value and the allowed values, unless the condition holds."""
    if not condition:
        raise ValueError(f"{field}: got {value!r}; allowed: {allowed}")


def check_choice(field: str, value: object, choices: Any) -> None:
    """Raise ValueError as `check` does unless the value is one of a Literal's."""
    check(value in get_args(choices), field, value, ", ".join(get_args(choices)))


def nearest_or_all(word: str, names: Mapping[str, str]) -> str:
    """Return a hint for a misspelt word, "nearest: ..." or "allowed: ..."; `names`: lower-case spelling -> name."""
    near = [names[match] for match in difflib.get_close_matches(word, names, n=3, cutoff=0.5)]
    return (
        f"nearest: {', '.join(dict.fromkeys(near))}" if near else f"allowed: {', '.join(dict.fromkeys(names.values()))}"
    )
