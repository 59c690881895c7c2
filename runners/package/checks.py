"""How settings refuse a value."""


def check(condition: bool, field: str, value: object, allowed: str) -> None:
    """Raise ValueError naming the field, its value and the allowed values, unless the condition holds."""
    if not condition:
        raise ValueError(f"{field}: got {value!r}; allowed: {allowed}")
