"""Asks Gymnasium environments what they are, in a separate process: their code may print, hang or crash."""

import functools
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np

from rfwp.envs.gym_packages import PACKAGES
from rfwp.envs.installed import versions
from rfwp.envs.spaces import Field
from rfwp.envs.vector_env import EnvSpec, check_step

if TYPE_CHECKING:
    from rfwp.envs.worlds.gym import Config

SECONDS = 60  # for an environment to start and to take one step
SEEDS = 3  # to try
SCREENS_PER_SECOND = 10  # of an environment that does not say


class Answer(NamedTuple):
    """What is known about an environment without running it."""

    spec: EnvSpec
    packages: dict[str, str]  # versions of those that its classes belong to
    notes: tuple[str, ...]  # what to tell the user about how it is read
    screens_per_second: int  # that it renders


@functools.cache
def ask(config: "Config", seconds: int = SECONDS) -> Answer:
    """Start an environment in a process, take a step, and return what it is.

    Raise ValueError if that fails, or takes longer than `seconds`.
    """
    values = _in_a_process(_describe, config, f"id: {config.id}", seconds)
    if "error" in values:
        raise ValueError(values["error"])
    fields = (Field(name, kind, tuple(shape), tuple(sizes)) for name, kind, shape, sizes in values["fields"])
    spec = EnvSpec(tuple(fields), tuple(map(tuple, values["action_names"])), frames_per_step=1)
    return Answer(spec, values["packages"], tuple(values["notes"]), values["screens_per_second"])


class Registered(NamedTuple):
    """The environments of the known packages, by the name of the package."""

    ids: dict[str, list[str]]
    missing: dict[str, str]  # packages that cannot be imported: how to install them, or why not


def registered() -> Registered:
    """Import the known packages in a process, and return what they register. Raise ValueError as `ask`."""
    return Registered(*_in_a_process(_import_packages, None, "importing the known packages", SECONDS))


def _in_a_process(function: Callable[[Any], Any], argument: object, what: str, seconds: int) -> Any:
    """Return the answer of `function`, called in a new process. Raise ValueError if the process ends without one."""
    # -P: a file in the current folder must not stand in for a standard module.
    words = [sys.executable, "-P", "-c", "from rfwp.envs import gym_probe; gym_probe.answer()"]
    with tempfile.TemporaryFile("w+b") as answer, tempfile.TemporaryFile("w+b") as output:
        # Files rather than pipes: a pipe would stay open with whatever processes the environment leaves behind.
        request = pickle.dumps((seconds, function, argument))
        done = subprocess.run(words, input=request, stdout=answer, stderr=output, check=False)
        answer.seek(0)
        output.seek(0)
        found, said = answer.read(), output.read().decode(errors="replace").strip()
    if done.returncode == -signal.SIGALRM:
        raise ValueError(f"{what} takes longer than {seconds} seconds")
    try:
        return json.loads(found)
    except ValueError:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        last = f"; it printed: {said.splitlines()[-1]}" if said else ""
        raise ValueError(f"{what} ended its process with {ended}{last}") from None


def answer() -> None:
    """Be the process: read a function and its argument from standard input, and write the result to standard output."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)  # what an environment prints is not the answer
        seconds, function, argument = pickle.load(sys.stdin.buffer)
        signal.alarm(seconds)
        json.dump(function(argument), out)
        out.flush()
        os._exit(0)  # an environment that hangs when it is closed has answered all the same


def _describe(config: "Config") -> dict[str, Any]:
    from rfwp.envs.worlds.gym import Gym

    try:
        env = Gym(config, 1)
        for seed in range(SEEDS):
            check_step(env.reset(seed), env.spec)
        check_step(env.step(np.zeros((1, len(env.spec.action_names)), np.int64)), env.spec)
    except Exception as error:
        return {"error": _explain(config, error)}
    return {
        "fields": env.spec.observation,
        "action_names": env.spec.action_names,
        "packages": _packages(env.envs[0]),
        "screens_per_second": max(1, round(env.envs[0].metadata.get("render_fps") or SCREENS_PER_SECOND)),
        "notes": [f"{each.name} is left out, because it is always {each.value!r}" for each in env.left_out],
    }


def _import_packages(_: None) -> Registered:
    found = Registered({}, {})
    for package in PACKAGES:
        before = set() if package.module == "gymnasium" else set(gymnasium.registry)
        try:
            importlib.import_module(package.module)
        except Exception as error:
            absent = isinstance(error, ModuleNotFoundError) and error.name == package.name
            found.missing[package.name] = package.install if absent else f"broken: {error}"
        else:
            found.ids[package.name] = sorted(set(gymnasium.registry) - before)
    return found


def _explain(config: "Config", error: Exception) -> str:
    """Return one line that says which setting is wrong, or what the environment raised and where."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    if isinstance(error, ValueError) and frame.f_globals["__name__"].startswith("rfwp."):
        return str(error)
    reason = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    return f"id: {config.id} raised {reason} ({frame.f_code.co_filename}, line {line})"


def _packages(env: gymnasium.Env[Any, Any]) -> dict[str, str]:
    """Return the versions of the installed packages that an environment and its wrappers come from."""
    layers = [env]
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    return versions(*{type(layer).__module__.partition(".")[0] for layer in layers})
