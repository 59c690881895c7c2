"""Any Gymnasium environment: one that is installed, or a class of your own."""

import difflib
import importlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rfwp.checks import check
from rfwp.envs import gym_probe
from rfwp.envs.gym_packages import ID_SETS, find_module, is_known, package_of
from rfwp.envs.gym_spaces import read_actions, read_fields
from rfwp.envs.spaces import Field, Observation, check_actions
from rfwp.envs.subject import Json, ScoreRange
from rfwp.envs.vector_env import EnvConfig, EnvSpec, EpisodeTracker, Step, VectorEnv

NO_SETTINGS, NO_WRAPPERS = Json("{}"), Json("[]")


@dataclass(frozen=True)
class Config(EnvConfig):
    """A Gymnasium environment. It runs in separate processes, never in the one that trains or evaluates."""

    title_setting: ClassVar[str] = "id"
    title_sets = ID_SETS

    id: str = "CartPole-v1"
    """An ID; or MODULE:ID or MODULE:CLASS, to import the module first. Those of popgym, minigrid, memory_gym and
    vizdoom need no module. `rfwp envs` lists them."""
    modules: tuple[str, ...] = ()
    """Modules to import first, because they register environments."""
    path: str = "."
    """Folder to import modules from if they are not installed; by default the current folder."""
    kwargs: Json = NO_SETTINGS
    """Arguments of the environment."""
    reset_options: Json = NO_SETTINGS
    """Options of every reset, where some environments expect their task settings."""
    wrappers: Json = NO_WRAPPERS
    """Wrappers to apply, the innermost first: MODULE:CLASS, or a list of that and its arguments."""
    keys: tuple[str, ...] = ()
    """Fields of the observation to keep, by default all; those of nested spaces are joined by /, as in camera/image."""
    max_steps: int | None = None
    """Agent steps after which an episode is truncated; by default as registered."""
    action_bins: int | None = None
    """Number of values that each number of a continuous action is cut into."""
    bootstrap_truncation: bool = True
    """Learn from a truncated episode as one that would have gone on; false: as one that ended, for tasks whose limit
    belongs to the task."""
    score_bounds: tuple[float, ...] = ()
    """Two returns that become 0 and 100 % in normalised scores; by default, without wrappers, the lowest and the
    highest one of popgym and minigrid."""

    def __post_init__(self) -> None:
        check(bool(self.title.strip(".-")), "id", self.id, "an ID such as CartPole-v1, or MODULE:CLASS")
        for name, kind, example in (
            ("kwargs", dict, '{"size": 9}'),
            ("reset_options", dict, '{"level": 3}'),
            ("wrappers", list, '["gymnasium.wrappers:FlattenObservation"]'),
        ):
            value = getattr(self, name)
            check(_is_json(value, kind), name, value, f"JSON as in {example}")
        for wrapper in json.loads(self.wrappers):
            match wrapper:
                case str(name) | [str(name), dict()] if re.fullmatch(r"[\w.]+:\w+", name):
                    continue
            check(False, "wrappers", json.dumps(wrapper), '"MODULE:CLASS" or ["MODULE:CLASS", {"argument": 1}]')
        check(self.max_steps is None or self.max_steps >= 1, "max_steps", self.max_steps, "1 or more, or null")
        check(self.action_bins is None or self.action_bins >= 2, "action_bins", self.action_bins, "2 or more, or null")
        bounds = self.score_bounds
        two = len(bounds) == 2 and bounds[0] != bounds[1]
        check(not bounds or two, "score_bounds", list(bounds), "two different numbers as in [-1, 1], or []")

    @classmethod
    def titled(cls, name: str) -> Self:
        # ALE/... is a spelling of Atari games.
        like_an_id = re.search(r":|-v\d+$", name) is not None and not name.startswith("ALE/")
        check(like_an_id, "id", name, "an ID of Gymnasium such as CartPole-v1, or MODULE:CLASS")
        return super().titled(name)

    @property
    def title(self) -> str:
        return re.sub(r"[^\w.-]", "-", self.id.rpartition(":")[2])

    @property
    def suite(self) -> str | None:
        package = package_of(self.id)
        return package.name if package and package.returns else None

    @property
    def score_range(self) -> ScoreRange | None:
        if self.score_bounds:
            low, high = self.score_bounds
            return ScoreRange(low, high, f"a return of {low:g} at 0 and one of {high:g} at 100 %")
        package = package_of(self.id)
        if package is None or package.returns is None or self._wrappers:  # a wrapper may change rewards
            return None
        return ScoreRange(*package.returns, "the lowest return at 0 and the highest at 100 %")

    @property
    def mmer_steps(self) -> int | None:
        package = package_of(self.id)
        return package.mmer_steps if package else None

    @property
    def foreign(self) -> bool:
        return True

    @property
    def imports(self) -> Mapping[str, str]:
        module, _, name = self.id.rpartition(":")
        foreign = {
            # GymV21Environment and the like import what their arguments say.
            "id": [module or name] if (module and not is_known(module)) or name.startswith("GymV") else [],
            "modules": [name for name in self.modules if not is_known(name)],
            # RecordVideo writes files wherever its arguments say.
            "wrappers": [
                name for name, _ in self._wrappers if not is_known(name.partition(":")[0]) or "RecordVideo" in name
            ],
            "path": [] if self.path == "." else [f"modules in {self.path}"],
        }
        return {setting: ", ".join(names) for setting, names in foreign.items() if names}

    @property
    def packages(self) -> Mapping[str, str]:
        return gym_probe.ask(self).packages

    @property
    def notes(self) -> tuple[str, ...]:
        return gym_probe.ask(self).notes

    @property
    def screened(self) -> "Screened | None":
        config = Screened(**vars(self))
        try:
            gym_probe.ask(config)
        except ValueError:  # it renders nothing, or in another way
            return None
        return config

    @property
    def screens_per_second(self) -> int:
        return gym_probe.ask(self).screens_per_second

    def spec(self) -> EnvSpec:
        return gym_probe.ask(self).spec

    def build(self, num_envs: int, num_threads: int = 1) -> "Gym":
        return Gym(self, num_envs)

    def make(self) -> gymnasium.Env[Any, Any]:
        """Make one environment, with its wrappers. Raise ValueError that names the setting if that fails."""
        folder = os.path.abspath(self.path)
        if folder not in sys.path:
            sys.path.append(folder)
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame needs no screen and no loudspeaker
        os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
        for module in self.modules:
            _import("modules", module)
        env = self._registered_or_class()
        for name, settings in self._wrappers:
            module, _, attribute = name.partition(":")
            wrapper: Any = getattr(_import("wrappers", module), attribute, None)
            wraps = isinstance(wrapper, type) and issubclass(wrapper, gymnasium.Wrapper)
            check(wraps, "wrappers", name, "a subclass of gymnasium.Wrapper")
            try:
                env = wrapper(env, **settings)
            except (TypeError, AssertionError) as error:
                raise ValueError(f"wrappers: {name} refuses {self.id}: {error}") from error
        return env

    @property
    def _wrappers(self) -> list[tuple[str, dict[str, Any]]]:
        """The wrappers as MODULE:CLASS with their arguments."""
        return [(each, {}) if isinstance(each, str) else tuple(each) for each in json.loads(self.wrappers)]

    @property
    def _arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = json.loads(self.kwargs)
        return arguments

    def _registered_or_class(self) -> gymnasium.Env[Any, Any]:
        module, _, name = self.id.rpartition(":")
        found = _import("id", module) if module else find_module(name)
        settings, limit = self._arguments, self.max_steps
        try:
            made: Any = getattr(found, name, None)
            if name not in gymnasium.registry and isinstance(made, type):
                check(issubclass(made, gymnasium.Env), "id", self.id, "a subclass of gymnasium.Env")
                env = made(**settings)
                return env if limit is None else gymnasium.wrappers.TimeLimit(env, limit)
            # The checker warns about what the readers refuse, and costs as much time as a small environment.
            return gymnasium.make(name, max_episode_steps=limit, disable_env_checker=True, **settings)
        except (gymnasium.error.NameNotFound, gymnasium.error.NamespaceNotFound) as error:
            close = difflib.get_close_matches(name, gymnasium.registry, n=1)
            hint = f"did you mean {close[0]}, or " if close else ""
            raise ValueError(
                f"id: got {self.id!r}, which is not registered; {hint}does env.modules lack its module?"
            ) from error
        except gymnasium.error.Error as error:
            raise ValueError(f"id: {error}") from error
        except TypeError as error:
            reason = str(error).partition(" was raised from")[0]
            raise ValueError(f"kwargs: got {self.kwargs}; {self.id} refuses them: {reason}") from error


@dataclass(frozen=True)
class Screened(Config):
    """An environment whose picture, [3, H, W], is the last field of its observations."""

    @property
    def _arguments(self) -> dict[str, Any]:
        return {"render_mode": "rgb_array", **super()._arguments}


def _is_json(text: str, kind: type) -> bool:
    try:
        return isinstance(json.loads(text), kind)
    except (ValueError, RecursionError):
        return False


def _import(setting: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # a module that this one imports
        raise ValueError(
            f"{setting}: got {module!r}, which is neither installed nor in this folder; allowed: a module, with"
            " --env.path FOLDER if it is elsewhere"
        ) from error


class Gym(VectorEnv):
    """E environments, stepped one after the other."""

    def __init__(self, config: Config, num_envs: int) -> None:
        """Make the environments. Raise ValueError that names the setting if that fails, or a space cannot be read."""
        check(num_envs >= 1, "num_envs", num_envs, "1 or more")
        self.envs = [config.make() for _ in range(num_envs)]
        first = self.envs[0]
        self._readers, self.left_out = read_fields(first.observation_space, config.keys)
        self._actions = read_actions(first.action_space, config.action_bins, _action_names(first))
        fields = [reader.field for reader in self._readers]
        self._options = json.loads(config.reset_options) or None
        self._pictures: list[NDArray[np.uint8]] | None = None
        if isinstance(config, Screened):
            first.reset(seed=0, options=self._options)
            self._pictures = [_picture(first)] * num_envs
            fields.append(Field("screen", "image", self._pictures[0].shape))
        self.spec = EnvSpec(tuple(fields), self._actions.names, frames_per_step=1)
        self.num_envs = num_envs
        self._bootstrap = config.bootstrap_truncation
        self._tracker = EpisodeTracker(num_envs)

    def reset(self, seed: int) -> Step:
        seeds = np.random.SeedSequence(seed).generate_state(self.num_envs) >> 1  # 31 bits: a C int
        self._cut_off = np.zeros(self.num_envs, np.bool_)
        observations = [
            env.reset(seed=int(seed), options=self._options)[0] for env, seed in zip(self.envs, seeds, strict=True)
        ]
        if self._pictures is not None:
            self._pictures = list(map(_picture, self.envs))
        return self._tracker.open(self._read(observations))

    def step(self, action: NDArray[np.int64]) -> Step:
        check_actions(action, self.num_envs, self.spec.action_sizes)
        observations: list[Any] = []
        rewards: list[Any] = []
        first, over, cut_off = np.zeros((3, self.num_envs), np.bool_)
        choices, before = self._actions.convert(action), self._cut_off.tolist()
        for index, (env, choice, was_cut_off) in enumerate(zip(self.envs, choices, before, strict=True)):
            if was_cut_off:
                observation, _ = env.reset(options=self._options)
                rewards.append(0.0)
                first[index] = True
            else:
                observation, reward, terminated, truncated, _ = env.step(choice)
                rewards.append(reward)
                if self._pictures is not None:
                    self._pictures[index] = _picture(env)  # also of the last state of an episode
                if terminated or truncated:
                    over[index] = True
                    cut_off[index] = truncated and not terminated and self._bootstrap
                    if not cut_off[index]:
                        observation, _ = env.reset(options=self._options)
                        first[index] = True
            observations.append(observation)
        self._cut_off = cut_off
        return self._tracker.advance(self._read(observations), _numbers(rewards), first, over, cut_off)

    def close(self) -> None:
        for env in self.envs:
            env.close()

    def _read(self, observations: list[Any]) -> Observation:
        for constant in self.left_out:
            for observation in observations:
                constant.check(observation)
        fields = tuple(reader(observations) for reader in self._readers)
        return fields if self._pictures is None else (*fields, np.stack(self._pictures))


def _picture(env: gymnasium.Env[Any, Any]) -> NDArray[np.uint8]:
    """Return what an environment renders, [3, H, W]."""
    picture: Any = env.render()
    if not (isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,)):
        raise ValueError(f"kwargs: {env} renders no RGB picture")
    return picture.transpose(2, 0, 1)


def _numbers(rewards: list[Any]) -> NDArray[np.float64]:
    try:
        return np.array(list(map(float, rewards)))
    except (TypeError, ValueError):
        raise ValueError(f"reward: got {', '.join(map(repr, rewards))}; allowed: numbers") from None


def _action_names(env: gymnasium.Env[Any, Any]) -> tuple[str, ...]:
    """Return the names of the actions if the environment has them in one of the usual places."""
    actions: Any = getattr(env.unwrapped, "actions", None)  # an enumeration, as in MiniGrid
    if hasattr(actions, "__members__"):
        return tuple(name.upper() for name in actions.__members__)
    meanings = getattr(env.unwrapped, "get_action_meanings", None)  # of Atari and others
    return tuple(map(str, meanings())) if callable(meanings) else ()
