"""A long training under faults: `make soak MINUTES=30`. Prints a summary, and writes it as JSON and Markdown.

In the first half of the time every fault is injected, at random moments. In the second half one process lives through
those that it should survive, while its memory, open files and threads are watched.
"""

import argparse
import json
import random
import shlex
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from harness import SMALL, Run, full, small_disk
from waiting import shared_memory


@dataclass
class Tally:
    """What became of one kind of fault."""

    injected: int = 0
    survived: int = 0
    steps_lost: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # until the run had got further than before


@dataclass
class Load:
    """What the process that trains holds at one moment."""

    minutes: float  # of its life
    steps: int
    megabytes: float  # resident
    files: int
    threads: int
    shared_files: int


class Soak:
    """One run, the faults that it meets, and the record of them."""

    def __init__(self, run: Run, seed: int, results: Path) -> None:
        self.run = run
        self.random = random.Random(seed)
        self.results = results
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self.problems: list[str] = []
        self.loads: list[Load] = []
        self.started = time.monotonic()
        self.steps_trained = 0

    def inject(self, fault: "Callable[[Soak], int]", mean_pause: float) -> None:
        """Waits for a random moment, injects a fault, and waits until the run gets on."""
        time.sleep(self.random.expovariate(1 / mean_pause))
        name = (fault.__doc__ or "").rstrip(".")
        tally, started = self.tallies[name], time.monotonic()
        tally.injected += 1
        try:
            tally.steps_lost.append(fault(self))
            self.run.wait_for_progress()
        except Exception as error:  # whatever went wrong is what a soak is there to find
            self.problems.append(f"{name}: {error}")
            self.run.end()
            self.run.start()
        else:
            tally.survived += 1
            tally.seconds.append(time.monotonic() - started)
        self.watch()
        self.report()

    def watch(self) -> None:
        """Notes what the process holds."""
        self.steps_trained = max(self.steps_trained, self.run.steps())
        process = self.run.main
        with process.oneshot():
            self.loads.append(
                Load(
                    minutes=(time.time() - process.create_time()) / 60,
                    steps=self.run.steps(),
                    megabytes=process.memory_info().rss / 1e6,
                    files=process.num_fds(),
                    threads=process.num_threads(),
                    shared_files=len(shared_memory()),
                )
            )

    def report(self) -> None:
        """Writes what is known so far."""
        facts = {
            "minutes": (time.monotonic() - self.started) / 60,
            "agent_steps": self.steps_trained,
            "faults": {name: asdict(tally) for name, tally in self.tallies.items()},
            "problems": self.problems,
            "loads": [asdict(load) for load in self.loads],
        }
        (self.results / "soak.json").write_text(json.dumps(facts, indent=1) + "\n")
        (self.results / "soak.md").write_text(self.summary())

    def summary(self) -> str:
        """The record as Markdown."""
        minutes = (time.monotonic() - self.started) / 60
        rows = [
            f"{minutes:.0f} minutes, {self.steps_trained:,} agent steps.",
            "",
            "| fault | injected | survived | steps lost, median | at most | seconds until it got on, median |",
            "| --- | --: | --: | --: | --: | --: |",
        ]
        for name, tally in sorted(self.tallies.items()):
            lost, seconds = tally.steps_lost or [0], tally.seconds or [float("nan")]
            rows.append(
                f"| {name} | {tally.injected} | {tally.survived} | {statistics.median(lost):,.0f} | {max(lost):,}"
                f" | {statistics.median(seconds):.1f} |"
            )
        return "\n".join([*rows, "", *self._growth(), *(f"- problem: {each}" for each in self.problems)]) + "\n"

    def _growth(self) -> list[str]:
        """The longest life of a process: what it held after a tenth of it, and at its end."""
        lives: list[list[Load]] = []
        for load in self.loads:
            if not lives or load.minutes < lives[-1][-1].minutes:
                lives.append([])
            lives[-1].append(load)
        longest = max(lives, key=lambda life: life[-1].minutes, default=[])
        if not longest:
            return []
        end = longest[-1]
        early = next(load for load in longest if load.minutes >= end.minutes / 10)
        return [
            f"| the process that lived longest, after | {early.minutes:.1f} minutes | {end.minutes:.1f} minutes |",
            "| --- | --: | --: |",
            f"| resident memory, MB | {early.megabytes:.0f} | {end.megabytes:.0f} |",
            f"| open files | {early.files} | {end.files} |",
            f"| threads | {early.threads} | {end.threads} |",
            f"| names in shared memory | {early.shared_files} | {end.shared_files} |",
            "",
        ]


def kill_actor(soak: Soak) -> int:
    """SIGKILL of an actor."""
    soak.random.choice(soak.run.actors()).kill()
    return 0


def stop_actor(soak: Soak) -> int:
    """SIGSTOP of an actor."""
    actor = soak.random.choice(soak.run.actors())
    actor.suspend()
    soak.run.wait(lambda: not actor.is_running())
    return 0


def fill_disk(soak: Soak) -> int:
    """A full disk for 3 to 30 seconds."""
    run = soak.run
    with full(run.folder.parent):
        time.sleep(soak.random.uniform(3, 30))
        assert run.running, run.tail()
    newest = run.saved()[-1]
    run.wait(lambda: run.saved()[-1] > newest)
    return 0


def second_process(soak: Soak) -> int:
    """Another process that wants the folder."""
    assert "in use by process" in soak.run.refused()
    return 0


def kill_main(soak: Soak) -> int:
    """SIGKILL of the main process."""
    return _end_and_resume(soak, signal.SIGKILL)


def terminate_main(soak: Soak) -> int:
    """SIGTERM of the main process."""
    started = time.monotonic()
    lost = _end_and_resume(soak, signal.SIGTERM)
    assert lost <= 0, f"{lost} steps lost by a clean stop, {time.monotonic() - started:.1f} s"
    return 0


def _end_and_resume(soak: Soak, number: signal.Signals) -> int:
    """Steps that were in the metrics, and not in the newest checkpoint."""
    run = soak.run
    actors, process = run.actors(), run.process
    assert process is not None
    process.send_signal(number)
    code = process.wait(timeout=10)
    assert code == (-number if number == signal.SIGKILL else 128 + number), f"exit code {code}: {run.tail()}"
    assert not psutil.wait_procs(actors, timeout=5)[1], "an actor outlived its parent"
    lost = run.steps() - run.saved()[-1]
    run.start()
    run.wait_for_progress()
    return max(0, lost)


def damage_checkpoint(soak: Soak) -> int:
    """A damaged checkpoint."""
    run = soak.run
    assert run.process is not None
    run.process.terminate()
    run.process.wait(timeout=10)
    newest = run.folder / "checkpoints" / f"step-{run.saved()[-1]:012d}"
    damaged = newest / soak.random.choice(["weights.safetensors", "trainer.pt", "manifest.json"])
    data = bytearray(damaged.read_bytes())
    if soak.random.random() < 0.5:
        del data[soak.random.randrange(len(data)) :]
    else:
        data[soak.random.randrange(len(data))] ^= 1 << soak.random.randrange(8)
    damaged.write_bytes(data)
    steps, message = run.steps(), run.refused()
    assert str(damaged) in message, message
    option, older = message.split()[-2:]
    run.start(option, older)
    run.wait_for_progress()
    return steps - int(older)


SURVIVED_BY_ONE_PROCESS: list[Callable[[Soak], int]] = [kill_actor, kill_actor, stop_actor, fill_disk, second_process]
ALL = [*SURVIVED_BY_ONE_PROCESS, kill_main, kill_main, terminate_main, damage_checkpoint]


def soak(
    minutes: float, seed: int, results: Path, pause: float, only: Sequence[str] = (), words: Sequence[str] = ()
) -> Soak:
    """Both halves, or the one that has any of the faults named in `only`, of a small run with these settings."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rfwp-soak-")))
        disk = stack.enter_context(small_disk(folder / "disk", megabytes=96))
        run = Run(disk / "run", [*SMALL, "--log_seconds", "1", *words])
        run.log = results / "soak.log"
        stack.callback(run.end)
        record = Soak(run, seed, results)
        for half in (ALL, SURVIVED_BY_ONE_PROCESS):
            faults = [fault for fault in half if not only or fault.__name__ in only]
            if not faults:
                continue
            deadline = time.monotonic() + 30 * minutes
            if not run.running:
                run.start()
            run.wait(lambda: len(run.saved()) >= 2)
            while time.monotonic() < deadline:
                record.inject(record.random.choice(faults), pause)
        return record


def main() -> int:
    """From the command line to the exit code: 1 if a fault was not survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=8, help="mean seconds between two faults")
    parser.add_argument("--results", type=Path, default=Path("build/soak"), help="folder for the summary and the log")
    names = sorted({fault.__name__ for fault in ALL})
    parser.add_argument("--only", nargs="+", choices=names, default=(), help="the faults to inject; default: all")
    parser.add_argument("--train", default="", metavar="WORDS", help="settings of the run, as in '--core gru'")
    values = parser.parse_args()
    values.results.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the run and its disk do not stay behind
    words = shlex.split(values.train)
    record = soak(values.minutes, values.seed, values.results, values.pause, values.only, words)
    print(record.summary())
    return 1 if record.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
