"""Packages of Gymnasium environments that are known here: their IDs are found without naming a module."""

import importlib
import importlib.util
import re
from types import ModuleType
from typing import NamedTuple

import gymnasium


class Package(NamedTuple):
    """A package of Gymnasium environments."""

    module: str  # importing it registers the environments
    install: str  # how to install it beside Gymnasium 1
    ids: str  # a regular expression that its IDs begin with
    returns: tuple[float, float] | None = None  # lowest and highest return of all of them; None: not the same for all
    mmer_steps: int | None = None  # see Subject

    @property
    def name(self) -> str:
        """Name of the top module."""
        return _top(self.module)


PACKAGES = (
    Package("gymnasium", "pip install 'gymnasium[box2d]'", r"(?!)"),  # registered when it is imported
    Package("ale_py", "pip install ale-py", r"ALE/"),
    # Its paper (Morad et al. 2023) reports MMER over iterations of 65,536 agent steps.
    Package("popgym", "pip install 'rfwp[popgym]'", r"popgym-", returns=(-1, 1), mmer_steps=65_536),
    Package("minigrid", "pip install 'rfwp[minigrid]'", r"(MiniGrid|BabyAI)-", returns=(0, 1)),
    Package(
        "memory_gym",
        "pip install --no-deps memory-gym",
        r"(Endless-)?(MortarMayhem|MysteryPath|SearingSpotlights)",
    ),
    Package("vizdoom.gymnasium_wrapper", "pip install vizdoom", r"Vizdoom"),
)

_POPGYM_TASKS = (
    *("Autoencode", "Battleship", "Concentration", "CountRecall", "HigherLower", "MineSweeper", "MultiarmedBandit"),
    *("NoisyPositionOnlyCartPole", "NoisyPositionOnlyPendulum", "PositionOnlyCartPole", "PositionOnlyPendulum"),
    *("RepeatFirst", "RepeatPrevious", "VelocityOnlyCartpole"),
)
# IDs that are often compared together.
ID_SETS = {
    **{
        f"popgym/{level.lower()}": tuple(f"popgym-{task}{level}-v0" for task in _POPGYM_TASKS)
        for level in ("Easy", "Medium", "Hard")
    },
    "minigrid/memory": tuple(
        f"MiniGrid-Memory{size}-v0" for size in ("S7", "S9", "S11", "S13", "S13Random", "S17Random")
    ),
    "memory_gym/finite": tuple(
        f"{task}-v0"
        for task in ("MortarMayhem", "MortarMayhem-Grid", "MysteryPath", "MysteryPath-Grid", "SearingSpotlights")
    ),
    "memory_gym/endless": tuple(f"Endless-{task}-v0" for task in ("MortarMayhem", "MysteryPath", "SearingSpotlights")),
}


def is_known(module: str) -> bool:
    """Return True if a module belongs to one of PACKAGES."""
    return _top(module) in [package.name for package in PACKAGES]


def package_of(env_id: str) -> Package | None:
    """Return the known package that an ID, as in MODULE:ID or without the module, belongs to; None if there is none."""
    name = env_id.rpartition(":")[2]
    return next((package for package in PACKAGES if re.match(package.ids, name)), None)


def find_module(env_id: str) -> ModuleType | None:
    """Import the known package that registers an ID, if it is not registered. Raise ValueError if it is missing."""
    package = None if env_id in gymnasium.registry else package_of(env_id)
    if package is None:
        return None
    if importlib.util.find_spec(package.name) is None:
        raise ValueError(f"id: got {env_id!r}, but {package.name} is not installed: {package.install}")
    return importlib.import_module(package.module)


def _top(module: str) -> str:
    return module.partition(".")[0]
