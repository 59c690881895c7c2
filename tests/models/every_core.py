"""All cores by name, built with whichever of some sizes they have."""

import dataclasses
import importlib
import pkgutil

import torch

import rfwp.models.cores
from rfwp.models.core import Core, CoreConfig

NAMES = sorted(module.name for module in pkgutil.iter_modules(rfwp.models.cores.__path__))


def config_class(name: str) -> type[CoreConfig]:
    found: type[CoreConfig] = importlib.import_module(f"rfwp.models.cores.{name}").Config
    return found


def fields(name: str) -> set[str]:
    """The names of a core's settings."""
    return {field.name for field in dataclasses.fields(config_class(name))}


def make_config(name: str, sizes: dict[str, int], **settings: object) -> CoreConfig:
    """A core's settings: those of `sizes` that it has, and all of `settings`."""
    return config_class(name)(**{field: size for field, size in sizes.items() if field in fields(name)}, **settings)


def make_core(name: str, input_size: int, sizes: dict[str, int], **settings: object) -> Core:
    """A core in float64, with the same weights each time."""
    torch.manual_seed(0)
    return make_config(name, sizes, **settings).build(input_size).double()
