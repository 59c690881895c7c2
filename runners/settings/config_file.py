"""Reads YAML config files as plain values; a mistake in one becomes a UserError that names the file."""

from pathlib import Path
from typing import Any

import yaml

from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings import components
from rfwp.runners.settings.kinds import Kind, kind_of
from rfwp.runners.settings.presets import Values


def read_config_file(path: Path, kind: Kind | None = None) -> Values:
    """Return the plain values of a YAML config file, by default of the kind that it names; execute nothing in it."""
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"config: got {str(path)!r}; there is no such file") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"config: cannot read {str(path)!r}: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"config: {str(path)!r} is not a config file: expected `field: value` lines")
    for key in ("run", "resume_from", "config", "preset", "profile"):
        if key in values:
            raise UserError(f"{key}: got {values[key]!r} in {str(path)!r}; allowed: only on the command line")
    kind = kind or kind_of(values)
    return {key: _checked_field(kind, key, value, path) for key, value in values.items()}


def _checked_field(kind: Kind, key: Any, value: Any, path: Path) -> Any:
    """Return the value of a field, checked; `core: rdn` is short for `core: {name: rdn}`, as on the command line."""
    if key not in kind.hints:
        hint = components.nearest(str(key), list(kind.hints))
        raise UserError(f"{key}: got {value!r} in {str(path)!r}; there is no such setting{hint}")
    if key in kind.components and isinstance(value, str):
        value = {"name": value}
    if key in kind.sections and not isinstance(value, dict):
        example = "its name or its settings" if key in kind.components else "its settings"
        raise UserError(f"{key}: got {value!r} in {str(path)!r}; allowed: {example}, one per line")
    if key in kind.components and value.get("name") is not None:
        components.config_class(key, value["name"])  # refuses an unknown name, even if overridden
    return value
