"""Layers of settings, nested dicts of plain values or text: merged, with later ones winning, then parsed once."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_type_hints

from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings import components
from rfwp.runners.settings.kinds import Kind, kind_of
from rfwp.runners.settings.presets import Values
from rfwp.runners.settings.values import allowed, convert

if TYPE_CHECKING:
    from rfwp.runners.settings.config import RunConfig

# May differ between runs of one agent: these affect only how long, how fast or where they ran.
CIRCUMSTANCES = (
    *("seed", "total_steps", "device", "log_seconds", "final_episodes", "validation_interval"),
    *("checkpoint.", "actors."),
)


def merge(*layers: Mapping[str, Any]) -> Values:
    """Merge layers; later ones win. A layer that names another component drops the settings of the earlier one."""
    merged: Values = {}
    for layer in layers:
        for key, value in layer.items():
            before = merged.get(key)
            if isinstance(value, dict) and isinstance(before, dict):
                replaced = value.get("name", before.get("name")) != before.get("name")
                merged[key] = dict(value) if replaced else {**before, **value}
            else:
                merged[key] = value
    return merged


def nested(flat: Mapping[str, Any]) -> Values:
    """Nest settings by section; keys are names on the command line, as in "core.num_heads"."""
    values: Values = {}
    for name, value in flat.items():
        section, _, field = name.rpartition(".")
        target = values.setdefault(section, {}) if section else values
        target[field] = value
    return values


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings by their names on the command line."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            {f"{key}.{name}": setting for name, setting in value.items()} if isinstance(value, dict) else {key: value}
        )
    return flat


def build_config(values: Mapping[str, Any]) -> "RunConfig":
    """Build the config from merged layers. Raise a UserError that names the setting if a value is not allowed."""
    kind = kind_of(values)
    sections = {section: _build_section(kind, section, values.get(section, {})) for section in kind.sections}
    config: RunConfig = _build("", kind.config, {**sections, **_read_scalars(kind, values)})
    return config


def config_from_values(values: Mapping[str, Any]) -> "RunConfig":
    """Build the config from a run's config.yaml; missing settings take the `paper` defaults on every machine."""
    return build_config(merge(kind_of(values).preset("paper", dict(values), None), values))


def to_dict(config: "RunConfig") -> dict[str, Any]:
    """Return plain nested values with the names of the components, which `rfwp train --config` reads back."""
    values = dataclasses.asdict(config)
    for section in components.PACKAGES.keys() & values.keys():
        values[section] = {"name": components.name_of(getattr(config, section)), **values[section]}
    return values


def differences(old: "RunConfig", new: "RunConfig") -> dict[str, tuple[Any, Any]]:
    """Return (old, new) of every setting that differs, by its name on the command line; None for a missing one."""
    before, after = flatten(to_dict(old)), flatten(to_dict(new))
    changed = (name for name in {**before, **after} if before.get(name) != after.get(name))
    return {name: (before.get(name), after.get(name)) for name in changed}


def build_component(section: str, values: Any) -> Any:
    """Build the settings object of a component, such as `env`. Raise UserError as `build_config` does."""
    return _build_section(kind_of({section: values}), section, values)


def check_layer(values: Mapping[str, Any]) -> None:
    """Raise UserError for an unknown setting or a value of the wrong type, even if a later layer replaces it."""
    kind = kind_of(values)
    for section in kind.sections:
        _read_section(kind, section, values.get(section, {}))
    _read_scalars(kind, values)


def section_class(kind: Kind, section: str, values: Any) -> type[Any]:
    """Return the settings class of a section. Raise UserError for an unknown component name."""
    if section not in components.PACKAGES:
        owner: type[Any] = kind.hints[section]
        return owner
    return components.config_class(section, values.get("name") if isinstance(values, dict) else values)


def _build_section(kind: Kind, section: str, values: Any) -> Any:
    owner, settings = _read_section(kind, section, values)
    return _build(section, owner, settings)


def _read_section(kind: Kind, section: str, values: Any) -> tuple[type[Any], Values]:
    owner = section_class(kind, section, values)
    if not isinstance(values, dict):
        raise UserError(f"{section}: got {values!r}; allowed: its settings, by name")
    own = {name: value for name, value in values.items() if section not in components.PACKAGES or name != "name"}
    return owner, _read(f"{section}.", owner, own)


def _read_scalars(kind: Kind, values: Mapping[str, Any]) -> Values:
    return _read("", kind.config, {name: value for name, value in values.items() if name not in kind.sections})


def _read(prefix: str, owner: type[Any], values: Mapping[str, Any]) -> Values:
    """Convert values to the types of their fields."""
    hints, fields = get_type_hints(owner), [field.name for field in dataclasses.fields(owner)]
    settings = {}
    for name, value in values.items():
        if name not in fields:
            raise UserError(f"{prefix}{name}: there is no such setting{components.nearest(str(name), fields)}")
        try:
            settings[name] = convert(hints[name], value)
        except ValueError:
            raise UserError(f"{prefix}{name}: got {value}; allowed: {allowed(hints[name])}") from None
    return settings


def _build(section: str, owner: type[Any], settings: Values) -> Any:
    try:
        return owner(**settings)
    except ValueError as error:
        raise UserError(f"{section}.{error}" if section else str(error)) from None
