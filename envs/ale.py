"""Atari 2600 games by the emulator: protocols, the size of frames, ROMs, seeds."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ale_py import ALEInterface, LoggerMode, roms
from numpy.typing import NDArray

from rfwp.envs.vector_env import EnvSpec

FRAMES_PER_STEP = 4
FRAME_SHAPE = (4, 84, 84)


class Protocol(NamedTuple):
    """The rules by which protocols differ."""

    sticky: float  # probability, at each frame, that the emulator repeats the last action
    full_actions: bool  # all actions of the console (18 in most games), or those that the game uses
    life_ends_episode: bool  # a lost life opens a learner episode; the game goes on
    noop_max: int  # frames of doing nothing at the start of a game: uniform over noop_max values from 0
    fire_reset: bool  # press FIRE once at the start of a game that has it among its actions


PROTOCOLS = {
    "dqn": Protocol(sticky=0.0, full_actions=False, life_ends_episode=True, noop_max=30, fire_reset=True),
    "machado": Protocol(sticky=0.25, full_actions=True, life_ends_episode=False, noop_max=0, fire_reset=False),
}


def game_spec(game: str, rules: Protocol) -> EnvSpec:
    """Describe a game to an agent, without starting it but for a look at its actions."""
    return EnvSpec(FRAME_SHAPE, _action_names(game, rules.full_actions), FRAMES_PER_STEP)


def game_seeds(seed: int, num_envs: int) -> NDArray[np.int64]:
    """Give each environment a seed of its own [E], unrelated to those of environments with neighbouring seeds."""
    return np.random.SeedSequence(seed).generate_state(num_envs).astype(np.int64) >> 1  # 31 bits: a C int


def rom_path(game: str) -> Path:
    """Give the file of a game; FileNotFoundError where ale-py came without it."""
    path = roms.get_rom_path(game)
    if path is None:
        raise FileNotFoundError(f"the installed ale-py has no ROM of {game}: install ale-py 0.12.1 or later again")
    return path


@cache
def _action_names(game: str, full: bool) -> tuple[str, ...]:
    ALEInterface.setLoggerMode(LoggerMode.Error)  # its banner
    emulator = ALEInterface()
    emulator.loadROM(rom_path(game))
    actions = emulator.getLegalActionSet() if full else emulator.getMinimalActionSet()
    return tuple(action.name for action in actions)
