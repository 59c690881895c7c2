"""Finds environments, tasks, encoders and cores by name: a component is a file that defines a `Config`."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from typing import Any

from rfwp.envs.subject import Subject
from rfwp.runners.machine.errors import UserError

PACKAGES = {
    "env": "rfwp.envs.worlds",
    "task": "rfwp.envs.sequences",
    "encoder": "rfwp.models.encoders",
    "core": "rfwp.models.cores",
}


def names(kind: str) -> list[str]:
    """Return the names of all components of a kind (a key of PACKAGES), sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(PACKAGES[kind]).__path__))


def config_class(kind: str, name: Any) -> type[Any]:
    """Return the settings class of a component. Raise UserError with the nearest name for an unknown one."""
    if name not in names(kind):
        raise UserError(f"{kind}: got {name!r}; allowed: {', '.join(names(kind))}{nearest(str(name), names(kind))}")
    config: type[Any] = importlib.import_module(f"{PACKAGES[kind]}.{name}").Config
    return config


def name_of(config: Any) -> str:
    """Return the name of the component that a settings object belongs to."""
    return type(config).__module__.rpartition(".")[2]


def title_option(subject: Subject | type[Subject]) -> str | None:
    """Return the option that selects the title of an environment, as in "env.game"; None if there is only one."""
    return f"env.{subject.title_setting}" if subject.title_setting else None


def description(kind: str, name: str) -> str:
    """Return a one-line description of a component: the first line of its file's docstring."""
    module = importlib.import_module(f"{PACKAGES[kind]}.{name}")
    return (inspect.getdoc(module) or "").partition("\n")[0]


def nearest(word: str, allowed: Sequence[str]) -> str:
    """Return a hint for a misspelt name, or ""."""
    close = difflib.get_close_matches(word.lower(), allowed, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""
