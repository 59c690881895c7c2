"""Games of the ProcGen benchmark, with generated levels. Its package is installed separately."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rfwp.checks import check, nearest_or_all
from rfwp.envs.installed import versions
from rfwp.envs.spaces import Field, Observation, check_actions
from rfwp.envs.subject import ScoreRange
from rfwp.envs.vector_env import EnvConfig, EnvSpec, EpisodeTracker, Renderer, Step, VectorEnv

INSTALL = "pip install cffi imageio && pip install --no-deps procgen-mirror gym3 gym==0.26.2"


class Game(NamedTuple):
    """Trivial and almost best returns (Cobbe et al. 2020, Appendix C), and the modes that not every game has."""

    easy: tuple[float, float]
    hard: tuple[float, float]
    modes: tuple[str, ...] = ()


GAMES = {
    "bigfish": Game((1, 40), (0, 40)),
    "bossfight": Game((0.5, 13), (0.5, 13)),
    "caveflyer": Game((3.5, 12), (2, 13.4), ("memory",)),
    "chaser": Game((0.5, 13), (0.5, 14.2), ("extreme",)),
    "climber": Game((2, 12.6), (1, 12.6)),
    "coinrun": Game((5, 10), (5, 10)),
    "dodgeball": Game((1.5, 19), (1.5, 19), ("extreme", "memory")),
    "fruitbot": Game((-1.5, 32.4), (-0.5, 27.2)),
    "heist": Game((3.5, 10), (2, 10), ("memory",)),
    "jumper": Game((3, 10), (1, 10), ("memory",)),
    "leaper": Game((3, 10), (1.5, 10), ("extreme",)),
    "maze": Game((5, 10), (4, 10), ("memory",)),
    "miner": Game((1.5, 13), (1.5, 20), ("memory",)),
    "ninja": Game((3.5, 10), (2, 10)),
    "plunder": Game((4.5, 30), (3, 30)),
    "starpilot": Game((2.5, 64), (1.5, 35), ("extreme",)),
}
TITLE_SETS = {
    "procgen/16": tuple(GAMES),
    "procgen/memory": tuple(name for name, game in GAMES.items() if "memory" in game.modes),
}
_ACTIONS = (
    *("DOWNLEFT", "LEFT", "UPLEFT", "DOWN", "NOOP", "UP", "DOWNRIGHT", "RIGHT", "UPRIGHT"),
    *("D", "A", "W", "S", "Q", "E"),
)
_SHAPE = (3, 64, 64)


@dataclass(frozen=True)
class Config(EnvConfig):
    """A ProcGen game (Cobbe et al. 2020), or several that one agent learns. Observations are RGB pictures, 64 x 64.

    Every episode plays a level drawn from a range, so that other ranges show whether an agent generalises. A game's own
    limit of time ends an episode as anything else does.
    """

    title_setting: ClassVar[str] = "game"
    title_sets = TITLE_SETS

    game: str = "bigfish"
    """One of the 16 games; or several, as in maze+heist, which take turns over the environments of each process."""
    mode: Literal["easy", "hard", "extreme", "memory"] = "easy"
    """Size and difficulty of the levels. Only some games have extreme, and memory, which shows a part of the level."""
    num_levels: int = 200
    """Number of levels; 0: all."""
    start_level: int = 0
    """The first level."""

    def __post_init__(self) -> None:
        for game in self.games:
            if game not in GAMES:
                hint = nearest_or_all(game.lower(), {name: name for name in GAMES})
                raise ValueError(f"game: got {game!r}; {hint}; several are joined by +")
        check(len(set(self.games)) == len(self.games), "game", self.game, "every game once")
        check(self.mode in self.protocols, "mode", self.mode, f"{', '.join(self.protocols)} in {self.game}")
        check(0 <= self.num_levels < 2**31, "num_levels", self.num_levels, f"0 to {2**31 - 1}")
        last = 2**31 - 1 - self.num_levels if self.num_levels else 0
        why = "" if self.num_levels else ", because num_levels 0 means all levels"
        check(0 <= self.start_level <= last, "start_level", self.start_level, f"0 to {last}{why}")

    @property
    def games(self) -> list[str]:
        """Names of the games."""
        return self.game.split("+")

    @property
    def title(self) -> str:
        return self.game

    @property
    def suite(self) -> str:
        return "procgen"

    @property
    def protocol(self) -> str:
        return self.mode

    @property
    def protocols(self) -> tuple[str, ...]:
        shared = [mode for mode in ("extreme", "memory") if all(mode in GAMES[game].modes for game in self.games)]
        return ("easy", "hard", *shared)

    def under(self, protocol: str) -> "Config":
        check(protocol in self.protocols, "protocol", protocol, ", ".join(self.protocols))
        settings: dict[str, Any] = {"mode": protocol}
        return replace(self, **settings)

    @property
    def score_range(self) -> ScoreRange | None:
        if len(self.games) > 1 or self.mode not in ("easy", "hard"):
            return None
        game = GAMES[self.game]
        returns = game.easy if self.mode == "easy" else game.hard
        return ScoreRange(*returns, "a trivial return at 0 and about the best at 100 % (Cobbe et al. 2020)")

    @property
    def packages(self) -> Mapping[str, str]:
        return versions("procgen")

    @property
    def slow_start(self) -> bool:
        return True  # every process loads all pictures of the games

    @property
    def renderer(self) -> Callable[[], Renderer]:
        return functools.partial(Screen, self)

    def spec(self) -> EnvSpec:
        _simulator()
        return EnvSpec((Field("pixels", "image", _SHAPE),), (_ACTIONS,), frames_per_step=1)

    def build(self, num_envs: int, num_threads: int = 1) -> "ProcGen":
        return ProcGen(self, num_envs, num_threads)


def _simulator() -> Any:
    """Return the class of the simulators. Raise ValueError if its package is missing."""
    try:
        from procgen import ProcgenGym3Env
    except ImportError as error:
        raise ValueError(f"name: got procgen, but its package cannot be imported ({error}); try: {INSTALL}") from None
    return ProcgenGym3Env


class ProcGen(VectorEnv):
    """E environments: a batch of each game, stepped in C++."""

    def __init__(self, config: Config, num_envs: int, num_threads: int = 1, **settings: Any) -> None:
        """Prepare the environments. `settings` are more arguments of the simulator."""
        check(num_envs >= 1, "num_envs", num_envs, "1 or more")
        check(num_threads >= 1, "num_threads", num_threads, "1 or more")
        self.spec = config.spec()
        self.num_envs = num_envs
        self._tracker = EpisodeTracker(num_envs)
        self._places = [slice(start, None, len(config.games)) for start in range(min(len(config.games), num_envs))]
        self._batches: list[Any] = []
        # With one thread a batch, the caller's own is faster.
        threads = num_threads // len(self._places) if num_threads > len(self._places) else 0
        self._open = [
            functools.partial(
                _simulator(),
                num=len(range(num_envs)[place]),
                env_name=game,
                distribution_mode=config.mode,
                num_levels=config.num_levels,
                start_level=config.start_level,
                num_threads=threads,
                **settings,
            )
            for game, place in zip(config.games, self._places, strict=False)
        ]

    def reset(self, seed: int) -> Step:
        self.close()
        seeds = np.random.SeedSequence(seed).generate_state(len(self._open)) >> 1  # 31 bits: a C int
        self._batches = [make(rand_seed=int(seed)) for make, seed in zip(self._open, seeds, strict=True)]
        observation, _, _ = self._observe()
        return self._tracker.open(observation)

    def step(self, action: NDArray[np.int64]) -> Step:
        # An invalid action would end the process.
        check_actions(action, self.num_envs, self.spec.action_sizes)
        for batch, place in zip(self._batches, self._places, strict=True):
            batch.act(action[place, 0])
        observation, reward, first = self._observe()
        return self._tracker.advance(observation, reward, first, first.copy())

    def close(self) -> None:
        for batch in self._batches:
            batch.close()
        self._batches = []

    def _observe(self) -> tuple[Observation, NDArray[np.float32], NDArray[np.bool_]]:
        """Return observation, reward [E] and first [E] of all environments."""
        pixels = np.empty((self.num_envs, *_SHAPE), np.uint8)
        reward, first = np.empty(self.num_envs, np.float32), np.empty(self.num_envs, np.bool_)
        for batch, place in zip(self._batches, self._places, strict=True):
            reward[place], observed, first[place] = batch.observe()
            pixels[place] = observed["rgb"].transpose(0, 3, 1, 2)
        return (pixels,), reward, first


class Screen(ProcGen, Renderer):
    """A single environment with pictures of 512 x 512."""

    frames_per_second = 15  # as its package plays

    def __init__(self, config: Config) -> None:
        super().__init__(config, 1, render_mode="rgb_array")

    def screens(self) -> NDArray[np.uint8]:
        (batch,) = self._batches
        screen: NDArray[np.uint8] = batch.get_info()[0]["rgb"]
        return screen[None]
