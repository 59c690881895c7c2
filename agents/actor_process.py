"""The actor process, which steps environments. It imports no torch, so it is small and starts quickly."""

import multiprocessing
import os
import signal
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

from rfwp.agents import slab
from rfwp.agents.host import signal_at_end_of_parent
from rfwp.envs.vector_env import EnvConfig, EnvSpec, Step, VectorEnv, check_step

STEP = b"step"  # main process -> actor: the actions are in the slab; before the first one comes the actor's place
READY = b"ready"  # actor -> main process: the slab holds the next step
FAILED = b"failed"  # actor -> main process: followed by a traceback
NAME = "rfwp actor"  # of the process in multiprocessing
UNGUARDED = 77  # exit code of an actor that tried to start actors


def end_if_this_is_an_actor() -> None:
    """End the process if it is an actor. Called where training starts.

    Every actor imports the main script; without `if __name__ == "__main__":` there, it would start training again.
    """
    if multiprocessing.current_process().name == NAME:
        os._exit(UNGUARDED)


def run_actor(
    connection: Connection,
    memory: Any,
    total_envs: int,
    num_envs: int,
    env_config: EnvConfig,
    spec: EnvSpec,
    seed: int,
    output: str | None,
) -> None:
    """Start `num_envs` environments, wait for a place in the slab, then answer it and each STEP with READY.

    The place is the first of their rows in the shared memory, which has room for `total_envs` of this spec. What the
    environments print goes to the file `output` if it is given. Ends when the other end closes. No actor outlives the
    main process: the closed connection ends it, and the kernel kills an actor that hangs.
    """
    _die_with_parent()
    if output is not None:
        _print_to(output)
    os.environ.pop("PYTHONSAFEPATH", None)  # for the start of this process, not of those that an environment may start
    try:
        with env_config.build(num_envs) as env:
            if env.spec != spec:
                raise ValueError(f"this environment has {env.spec}, but others of the same settings have {spec}")
            step = env.reset(seed)
            check_step(step, env.spec)
            place = int.from_bytes(connection.recv_bytes())
            shared = slab.view(memory, total_envs, env.spec).part(slice(place, place + num_envs))
            _write(shared, step)
            _serve(connection, shared, env)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except Exception:
        connection.send_bytes(FAILED + traceback.format_exc().encode())


def _print_to(output: str) -> None:
    """Append what this process prints to a file, under both its names."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, even if it hangs or is stopped."""
    signal_at_end_of_parent(signal.SIGKILL)()
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:  # the parent ended before the call above
        os.kill(os.getpid(), signal.SIGKILL)


def _serve(connection: Connection, shared: slab.Slab, env: VectorEnv) -> None:
    steps = 0
    while True:
        connection.send_bytes(READY)
        connection.recv_bytes()
        started = time.perf_counter()
        step = env.step(shared.action)
        steps += 1
        try:
            check_step(step, env.spec)
        except ValueError as error:
            raise ValueError(f"{error}; it was step {steps:,} of this process") from None
        _write(shared, step)
        shared.busy_seconds[:] += (time.perf_counter() - started) / len(shared.busy_seconds)


def _write(shared: slab.Slab, step: Step) -> None:
    for mine, theirs in zip(shared.observation, step.observation, strict=True):
        mine[...] = theirs
    for name in Step._fields[1:]:
        getattr(shared, name)[...] = getattr(step, name)
