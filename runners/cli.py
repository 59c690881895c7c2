"""The command line. Imports nothing heavy, because actor processes import the main module too."""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence

from rfwp import __version__
from rfwp.runners.machine.errors import UserError, reason
from rfwp.runners.machine.output import Dispensable
from rfwp.runners.settings.glance import names_a_task

USAGE = """usage: rfwp COMMAND ...

Reinforcement learning for agents with memory, and supervised sequence tasks for the same memory cores.

  rfwp train      train an agent or a sequence model, or resume the run in a folder
  rfwp evaluate   score the agents or models of runs, and film agents
  rfwp watch      watch the agent of a run play
  rfwp compare    train and evaluate cores on environments, with several seeds
  rfwp report     write a page of curves, tables and statistics from runs
  rfwp cores      list the memory cores
  rfwp envs       list environments, and say how one of them is read
  rfwp bench      time parts of the program
  rfwp doctor     check this machine for problems

`rfwp COMMAND --help` lists the options of a command."""


# Commands that put their results into files: they go on when what they print reaches nobody.
RESULTS_IN_FILES = ("train", "evaluate", "compare", "report")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code.

    0: success; 1: a run failed, the system refused an operation, or something was skipped with a message; 2: a user
    error; 129, 130, 143: ended by SIGHUP, Ctrl-C, SIGTERM; 141: the output pipe was closed.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # the locale may lack a character
    dispensable = bool(words) and words[0] in RESULTS_IN_FILES and {"-", "--json=-"}.isdisjoint(words)
    output = Dispensable(sys.stdout) if dispensable else sys.stdout
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(Dispensable(sys.stderr)):
        code = _reporting_errors(words)
    _drop_unwritten_output()
    return code


def _reporting_errors(words: list[str]) -> int:
    """Run a command; turn its errors into a message and an exit code."""
    program = " ".join(["rfwp", *words[:1]])
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # as in `rfwp cores | head`
        return 141
    except OSError as error:  # a full disk, a read-only folder, a name that is too long
        print(f"{program}: {reason(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _drop_unwritten_output() -> None:
    """Discard what cannot be written, so that the flush at exit does not fail as well."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, flush=True)
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"rfwp {__version__}")
        return 0
    return _command(words[0], words[1:])(words[1:])


def _command(name: str, words: Sequence[str]) -> Callable[[Sequence[str]], int]:
    # Each is a module in rfwp.runners.commands.
    commands = ("train", "evaluate", "watch", "compare", "report", "cores", "envs", "bench", "doctor")
    if name not in commands:
        raise UserError(f"there is no such command; allowed: {', '.join(commands)}")
    # PyTorch's threads spin for a while when they wait for each other. That takes time from environments on the same
    # cores. A sequence model trains 1.3 to 1.5 times as fast if they spin a little; with more, any other busy process
    # makes it several times slower.
    wait = ("GOMP_SPINCOUNT", "1000") if names_a_task(words) else ("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault(*wait)
    command: Callable[[Sequence[str]], int] = importlib.import_module(f"rfwp.runners.commands.{name}").run
    return command


if __name__ == "__main__":
    sys.exit(main())
