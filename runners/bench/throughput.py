"""Agent steps per second of a running system and their costs, over windows after a warm-up."""

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch

from rfwp.runners.machine import resources

WARM_UP_SHARE = 0.25  # of the measured seconds
WINDOWS, LEAST_WINDOWS = 10, 3


class Reading(NamedTuple):
    """Totals since the start."""

    time: float  # seconds
    steps: int  # agent steps
    phases: dict[str, float]  # seconds by phase
    main_cpu: float  # CPU seconds, user and system, of this process
    actors_cpu: float  # the same for its children
    main_memory: int  # resident bytes
    actors_memory: int
    gpu_busy: float | None  # GPU utilisation at the previous reading; None without a GPU


class Recorder:
    """Takes readings of a running system at the ends of windows of equal length."""

    def __init__(self, seconds: float, device: torch.device) -> None:
        self.device = device
        self.readings: list[Reading] = []
        self._seconds = seconds
        self._due: float | None = None  # None: the warm-up has not started
        self._process = psutil.Process()
        self._gpu_question: subprocess.Popen[str] | None = None

    def tick(self, steps: int, phases: Callable[[], dict[str, float]]) -> bool:
        """Take a reading if one is due; return True after the last. Call it after each piece of work."""
        now = time.perf_counter()
        if self._due is None:
            self._due = now + WARM_UP_SHARE * self._seconds
        if now < self._due:
            return False
        self.readings.append(self._read(now, steps, phases()))
        self._due = now + self._seconds / WINDOWS
        seen = now - self.readings[0].time
        return len(self.readings) > LEAST_WINDOWS and seen >= self._seconds * (1 - 0.5 / WINDOWS)

    def _read(self, now: float, steps: int, phases: dict[str, float]) -> Reading:
        gpu_busy = resources.gpu_busy(self._gpu_question)  # first: nvidia-smi is a child until it has answered
        actors_cpu, actors_memory = sum(self._process.cpu_times()[2:4]), 0
        for child in self._process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # an actor that was just replaced
                actors_cpu += sum(child.cpu_times()[:2])
                actors_memory += child.memory_info().rss
        self._gpu_question = resources.ask_gpu_busy(self.device)
        return Reading(
            time=now,
            steps=steps,
            phases=phases,
            main_cpu=sum(self._process.cpu_times()[:2]),
            actors_cpu=actors_cpu,
            main_memory=self._process.memory_info().rss,
            actors_memory=actors_memory,
            gpu_busy=gpu_busy,
        )

    def summary(self, frames_per_step: int) -> dict[str, Any]:
        """Return speed and costs, with the keys KEYS."""
        first, last = self.readings[0], self.readings[-1]
        steps, seconds = last.steps - first.steps, last.time - first.time
        rates = [(after.steps - before.steps) / (after.time - before.time) for before, after in pairwise(self.readings)]
        cpu = {
            "main": last.main_cpu - first.main_cpu,
            "actors": max(0.0, last.actors_cpu - first.actors_cpu),  # a replaced actor's CPU time is lost
        }
        busy = [reading.gpu_busy for reading in self.readings[1:] if reading.gpu_busy is not None]
        return {
            "agent_steps_per_second": spread(rates),
            "frames_per_second": spread([frames_per_step * rate for rate in rates]),
            "windows": len(rates),
            "seconds": seconds,
            "milliseconds_per_step": {
                name: 1e3 * (total - first.phases.get(name, 0.0)) / steps for name, total in last.phases.items()
            },
            "cpu_milliseconds_per_step": {name: 1e3 * used / steps for name, used in cpu.items()},
            "cpu_cores_busy": {name: used / seconds for name, used in cpu.items()},
            "gpu_busy": sum(busy) / len(busy) if busy else None,
            "peak_memory_megabytes": {
                "main": max(reading.main_memory for reading in self.readings) / 1e6,
                "actors": max(reading.actors_memory for reading in self.readings) / 1e6,
                "gpu": torch.cuda.max_memory_reserved(self.device) / 1e6 if self.device.type == "cuda" else None,
            },
        }


KEYS = {
    "agent_steps_per_second": "median, p20 and p80 over the windows",
    "frames_per_second": "the same in emulator frames",
    "windows": "windows after the warm-up",
    "seconds": "length of all windows together",
    "milliseconds_per_step": "wall-clock milliseconds per agent step by thread and phase; emulator time is summed over"
    " all actor processes",
    "cpu_milliseconds_per_step": "CPU time, user and system, per agent step",
    "cpu_cores_busy": "CPU cores busy",
    "gpu_busy": "GPU utilisation, 0 to 1; null without a GPU",
    "peak_memory_megabytes": "highest resident memory of the main process and of all actors at the ends of"
    " windows; for the GPU, the most that PyTorch held, in use or cached",
}


def spread(values: list[float]) -> dict[str, float]:
    """Return the median, 20th and 80th percentile."""
    p20, median, p80 = np.percentile(values, (20, 50, 80)).tolist()
    return {"median": median, "p20": p20, "p80": p80}
