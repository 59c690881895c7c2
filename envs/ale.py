"""Atari 2600 games in the emulator: protocols, frame size, ROMs, seeds."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ale_py import ALEInterface, LoggerMode, roms
from numpy.typing import NDArray

from rfwp.envs.spaces import Field
from rfwp.envs.vector_env import EnvSpec

FRAMES_PER_STEP = 4
FRAME_SHAPE = (4, 84, 84)


class Protocol(NamedTuple):
    """The rules that differ between protocols."""

    sticky: float  # probability per frame that the emulator repeats the last action
    full_actions: bool  # all actions of the console (18 in most games), or only those that the game uses
    life_ends_episode: bool  # a lost life starts a new learner episode; the game goes on
    noop_max: int  # no-op frames at the start of a game: uniform from 0 to noop_max - 1
    fire_reset: bool  # press FIRE once at the start of a game, if the game has that action


PROTOCOLS = {
    "dqn": Protocol(sticky=0.0, full_actions=False, life_ends_episode=True, noop_max=30, fire_reset=True),
    "machado": Protocol(sticky=0.25, full_actions=True, life_ends_episode=False, noop_max=0, fire_reset=False),
}


def game_spec(game: str, rules: Protocol) -> EnvSpec:
    """Return what an agent must know about a game. Loads the ROM to list its actions."""
    screens = Field("screens", "image", FRAME_SHAPE)
    return EnvSpec((screens,), (_action_names(game, rules.full_actions),), FRAMES_PER_STEP)


def game_seeds(seed: int, num_envs: int) -> NDArray[np.int64]:
    """Return one seed per environment, [E]. Neighbouring values of `seed` give unrelated seeds."""
    return np.random.SeedSequence(seed).generate_state(num_envs).astype(np.int64) >> 1  # 31 bits: a C int


def rom_path(game: str) -> Path:
    """Return the path of a game's ROM. Raises FileNotFoundError if ale-py does not include it."""
    path = roms.get_rom_path(game)
    if path is None:
        raise FileNotFoundError(f"the installed ale-py has no ROM of {game}: reinstall ale-py 0.12.1 or later")
    return path


@cache
def _action_names(game: str, full: bool) -> tuple[str, ...]:
    ALEInterface.setLoggerMode(LoggerMode.Error)  # hides its banner
    emulator = ALEInterface()
    emulator.loadROM(rom_path(game))
    actions = emulator.getLegalActionSet() if full else emulator.getMinimalActionSet()
    return tuple(action.name for action in actions)
