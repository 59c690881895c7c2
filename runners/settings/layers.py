"""Layers of settings, each a nested dict of plain values or text: merged, the later the stronger, and read once."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast, get_type_hints

from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings import components
from rfwp.runners.settings.config import COMPONENTS, PRESETS, SECTIONS, TrainConfig
from rfwp.runners.settings.config_file import Values
from rfwp.runners.settings.values import allowed, convert


def merge(*layers: Mapping[str, Any]) -> Values:
    """Return the settings of all layers. A component that a later layer replaces leaves its settings behind."""
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
    """Return settings by section from settings by their names on the command line, as in "core.num_heads"."""
    values: Values = {}
    for name, value in flat.items():
        section, _, field = name.rpartition(".")
        target = values.setdefault(section, {}) if section else values
        target[field] = value
    return values


def build_config(values: Mapping[str, Any]) -> TrainConfig:
    """Return the settings objects of merged layers; UserError for a value that is not allowed, naming the setting."""
    sections = {section: build_section(section, values.get(section, {})) for section in SECTIONS}
    return cast(TrainConfig, _build("", TrainConfig, {**sections, **_read_scalars(values)}))


def config_from_values(values: Mapping[str, Any]) -> TrainConfig:
    """Return the config of a run folder's config.yaml; what it lacks is as in the preset `paper`, on any machine."""
    return build_config(merge(PRESETS["paper"], values))


def build_section(section: str, values: Any) -> Any:
    """Return the settings object of one section, such as `env`; UserError as in `build_config`."""
    owner, settings = _read_section(section, values)
    return _build(section, owner, settings)


def check_layer(values: Mapping[str, Any]) -> None:
    """UserError for a setting that does not exist, or whose value has the wrong type, though others may replace it."""
    for section in SECTIONS:
        _read_section(section, values.get(section, {}))
    _read_scalars(values)


def section_class(section: str, values: Any) -> type[Any]:
    """Return the class of a section's settings; for a component that of its name, UserError if there is none such."""
    if section not in COMPONENTS:
        return cast(type[Any], get_type_hints(TrainConfig)[section])
    return components.config_class(section, values.get("name") if isinstance(values, dict) else values)


def _read_section(section: str, values: Any) -> tuple[type[Any], Values]:
    owner = section_class(section, values)
    if not isinstance(values, dict):
        raise UserError(f"{section}: got {values!r}; allowed: its settings, each with a name")
    own = {name: value for name, value in values.items() if section not in COMPONENTS or name != "name"}
    return owner, _read(f"{section}.", owner, own)


def _read_scalars(values: Mapping[str, Any]) -> Values:
    return _read("", TrainConfig, {name: value for name, value in values.items() if name not in SECTIONS})


def _read(prefix: str, owner: type[Any], values: Mapping[str, Any]) -> Values:
    """Return values as the types of the fields that they are for."""
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
