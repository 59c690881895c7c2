"""Reads YAML config files as plain values; a mistake in one becomes a UserError that names the file."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings import components
from rfwp.runners.settings.kinds import Kind, kind_of
from rfwp.runners.settings.presets import Values


class _Loader(yaml.SafeLoader):
    """Reads values as the command line does. Refuses what would count silently: a key twice, aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse an alias: it can refer to itself, or make a small file huge."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases such as *x are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a key that is given twice or is not a name: reports print names as they are."""
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str" or not key.value.isidentifier():
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is not a name of letters, digits and _", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 010 as 8, 1:30 as 90, and 2026-01-01 as a date. Here all but plain decimal numbers are text, which
# `convert` turns into numbers like the words of a command line.
_PLAIN = re.compile(r"[-+]?(0|[1-9][0-9_]*)$")
_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0].rpartition(":")[2] not in ("int", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _PLAIN, list("-+0123456789"))


def read_plain_values(path: Path) -> Values:
    """Return the plain values of a YAML file; execute nothing in it. `core: rdn` is short for `core: {name: rdn}`."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(f"config: got {str(path)!r}; there is no such file") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"config: cannot read {str(path)!r}: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"config: {str(path)!r} is not a config file: expected `field: value` lines")
    for section in components.PACKAGES.keys() & values.keys():
        if isinstance(values[section], str):
            values[section] = {"name": values[section]}
        _check_section(section, values[section], path)
    return values


def read_config_file(path: Path, kind: Kind | None = None) -> Values:
    """Return the plain values of a YAML config file, by default of the kind that it names, with checked names."""
    values = read_plain_values(path)
    for key in ("run", "resume_from", "config", "preset", "profile"):
        if key in values:
            raise UserError(f"{key}: got {values[key]!r} in {str(path)!r}; allowed: only on the command line")
    kind = kind or kind_of(values)
    for key, value in values.items():
        if key not in kind.hints:
            hint = components.nearest(key, list(kind.hints))
            raise UserError(f"{key}: got {value!r} in {str(path)!r}; there is no such setting{hint}")
        if key in kind.sections:
            _check_section(key, value, path)
        if key in kind.components and value.get("name") is not None:
            components.config_class(key, value["name"])  # refuses an unknown name, even if overridden
    return values


def _check_section(name: str, value: Any, path: Path) -> None:
    if not isinstance(value, dict):
        example = "its name or its settings" if name in components.PACKAGES else "its settings"
        raise UserError(f"{name}: got {value!r} in {str(path)!r}; allowed: {example}, one per line")
