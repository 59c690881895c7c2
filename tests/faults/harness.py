"""A real `rfwp train` process, driven and watched from outside."""

import contextlib
import ctypes
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from waiting import HANGS

from rfwp.runners.machine.resources import own_command

# Small and quick: a checkpoint every three seconds, an actor that hangs is replaced after three.
SMALL = (
    "--env delayed_cue --core lstm --core.hidden_size 16 --encoder.size 16 --final_episodes 0 --log_seconds 0.2"
    " --learner.batch_size 8 --learner.unroll_length 10 --actors.envs 8 --actors.processes 2 --actors.timeout 3"
    " --checkpoint.minutes 0.05 --total_steps 2_000_000_000"
).split()


class Run:
    """A run folder and the processes that train in it, one after another."""

    def __init__(self, folder: Path, words: list[str] = SMALL) -> None:
        self.folder = folder
        self.log = folder.with_name(f"{folder.name}.log")  # what all processes printed
        self._words = words
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *words: str, **options: Any) -> None:
        """Begin the run, or resume it where it has a config; `options` are those of Popen.

        It runs in its own session. Otherwise the kernel would continue every stopped process of the group when the
        shell ends.
        """
        settings = [] if (self.folder / "config.yaml").exists() else self._words
        command = own_command("train", *settings, "--run", str(self.folder), *words)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, **options
            )

    def refused(self, *words: str) -> str:
        """The one line with which another process that wants the folder is refused."""
        command = own_command("train", "--run", str(self.folder), *words)
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS)
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    @property
    def main(self) -> psutil.Process:
        assert self.process is not None
        return psutil.Process(self.process.pid)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def cpu_seconds(self) -> float:
        """What the main process has worked so far."""
        return float(sum(self.main.cpu_times()[:2]))

    def actors(self) -> list[psutil.Process]:
        """The actor processes, in the order of their start; some may be starting."""
        found = []
        for child in self.main.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def lines(self) -> list[dict[str, float]]:
        """The metrics so far."""
        try:
            text = (self.folder / "metrics.jsonl").read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def steps(self) -> int:
        """Agent steps of the newest line of metrics."""
        lines = self.lines()
        return int(lines[-1]["steps"]) if lines else 0

    def saved(self) -> list[int]:
        """Agent steps of the checkpoints."""
        return sorted(int(path.name.removeprefix("step-")) for path in (self.folder / "checkpoints").glob("step-*"))

    def wait(self, condition: Callable[[], bool], seconds: float = HANGS) -> None:
        """Waits for a condition while the run goes on; AssertionError with the end of its log otherwise."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.running, f"the run has ended: {self.tail()}"
            assert time.monotonic() < deadline, f"waited in vain: {self.tail()}"
            time.sleep(0.05)

    def wait_for_progress(self) -> None:
        """Waits until new steps have been learned from."""
        before = self.steps()
        self.wait(lambda: self.steps() > before)

    def tail(self) -> str:
        """The end of what was printed."""
        return self.log.read_text()[-2000:]

    def end(self) -> None:
        """Kills what is left."""
        if self.running:
            assert self.process is not None
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own in memory; PermissionError where it may not be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(f"cannot mount a tmpfs (root may): {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """The file system of the folder has not a byte left; within it, and no longer."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"\0" * 4096):
                pass
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def permissions_count() -> Iterator[None]:
    """Within it, this thread may read and write only what files allow their owner, even if it is root's."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of capabilities(7), and this thread
    held = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable ones, twice
    libc.capget(header, held)
    fewer = type(held)(*held)
    fewer[0] &= ~0b110  # without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    try:
        if libc.capset(header, fewer):
            raise OSError(ctypes.get_errno(), "capset")
        yield
    finally:
        libc.capset(header, held)
