"""Packages of Gymnasium environments that are known here: their IDs are found without naming a module."""

import importlib
import importlib.util
import re
from types import ModuleType
from typing import NamedTuple

import gymnasium


class Package(NamedTuple):
    """A package of environments."""

    module: str  # importing it registers the environments
    install: str  # how to install it beside Gymnasium 1
    ids: str  # a regular expression that its IDs begin with


PACKAGES = (
    Package("gymnasium", "pip install 'gymnasium[box2d]'", r"(?!)"),  # registered when it is imported
    Package("ale_py", "pip install ale-py", r"ALE/"),
    Package("popgym", "pip install 'rfwp[popgym]'", r"popgym-"),
    Package("minigrid", "pip install 'rfwp[minigrid]'", r"(MiniGrid|BabyAI)-"),
    Package(
        "memory_gym",
        "pip install --no-deps memory-gym",
        r"(Endless-)?(MortarMayhem|MysteryPath|SearingSpotlights)",
    ),
    Package("vizdoom.gymnasium_wrapper", "pip install vizdoom", r"Vizdoom"),
)


def is_known(module: str) -> bool:
    """Return True if a module belongs to one of PACKAGES."""
    return _top(module) in [_top(package.module) for package in PACKAGES]


def find_module(env_id: str) -> ModuleType | None:
    """Import the known package that registers an ID, if it is not registered. Raise ValueError if it is missing."""
    if env_id in gymnasium.registry:
        return None
    for package in PACKAGES:
        if re.match(package.ids, env_id):
            if importlib.util.find_spec(_top(package.module)) is None:
                raise ValueError(f"id: got {env_id!r}, but {_top(package.module)} is not installed: {package.install}")
            return importlib.import_module(package.module)
    return None


def _top(module: str) -> str:
    return module.partition(".")[0]
