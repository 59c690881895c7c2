"""`rfwp bench suite`: times emulator, acting, learning and training with the same settings; writes a report."""

import argparse
import json
import os
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rfwp.runners.bench import workloads
from rfwp.runners.bench.benchmark import check_seconds
from rfwp.runners.bench.speed import Result, facts, setting_line, summary
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder import files
from rfwp.runners.settings.options import read_command_line
from rfwp.runners.settings.parsing import Parser

DESCRIPTION = "Time env, act, learn and train with the same settings; write Markdown, JSON and a chart into a folder."


def run(argv: Sequence[str]) -> int:
    """Run `rfwp bench suite` with these words; return the exit code."""
    _, values, _ = read_command_line(argv, "rfwp bench suite", _add_options)
    check_seconds(values.seconds)
    if not values.out:
        raise UserError("out: missing; allowed: a folder for the report")
    out, console = make_folder(values.out), Terminal()
    words = [*without_own(argv), f"--seconds={values.seconds}"]
    results: list[Result] = []
    for name in workloads.WORKLOADS:
        ceiling = [f"--ceiling={results[0]['agent_steps_per_second']['median']}"] if name == "train" else []
        with console.status(f"timing {name} ..."):
            results.append(measure_apart(name, [*words, *ceiling]))
        console.print(f"{name:6} {facts(results[-1])['agent steps/s']} agent steps/s")
    command = shlex.join(["rfwp", "bench", "suite", *argv])
    files.write_whole(out / "throughput.json", json.dumps(results, indent=2) + "\n")
    files.write_whole(out / "throughput.md", report(results, command))
    draw(results, out / "throughput.png")
    console.say(f"Written: {out / 'throughput.md'}, .json and .png")
    return 0


def _add_options(parser: Parser) -> None:
    parser.description = DESCRIPTION
    add_own_options(parser)


def add_own_options(parser: Parser) -> None:
    """Add the options of a benchmark that runs others; they are not passed on."""
    parser.add_argument("--out", type=str | None, metavar="DIR", help="folder for the report; created if missing")
    parser.add_argument("--seconds", type=float, default=20.0, help="approximate time of each measurement")


def without_own(argv: Sequence[str], lists: Iterable[str] = ()) -> list[str]:
    """Return the words without the options of `add_own_options` and without the options `lists`."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--out")
    own.add_argument("--seconds")
    for name in lists:
        own.add_argument(f"--{name}", nargs="*")
    return own.parse_known_args(list(argv))[1]


def make_folder(name: str) -> Path:
    """Create a folder for a report. Raise UserError if that fails."""
    try:
        Path(name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out: cannot create the folder {name!r}: {error.strerror}") from None
    return Path(name)


def measure_apart(name: str, words: Sequence[str]) -> Result:
    """Run a benchmark in a separate process, so that memory and caches are as in training."""
    command = resources.own_command("bench", name, *words, "--json", "-")
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode == 0:
        result: Result = json.loads(done.stdout)
        return result
    if done.returncode in (130, -2):
        raise KeyboardInterrupt
    problem = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise UserError(problem.removeprefix("rfwp bench: "))


def report(results: Sequence[Result], command: str) -> str:
    """Return the results as Markdown."""
    versions = results[0]["machine"]
    lines = ["# Throughput", "", f"{setting_line(results[-1])}.", ""]
    lines += ["| | agent steps/s: median (p20 to p80) | frames/s | cores busy: main, actors | peak memory, MB |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for result in results:
        row, busy = facts(result), result["cpu_cores_busy"]
        cores = f"{busy['main']:.2f}, {busy['actors']:.2f}"
        lines.append(
            f"| {result['what']} | {row['agent steps/s']} | {row['frames/s']} | {cores} | {row['peak memory, MB']} |"
        )
    lines += ["", f"Training reaches {results[-1]['share_of_ceiling']:.0%} of the emulator alone.", ""]
    busy_gpu = [f"{result['what']} {result['gpu_busy']:.0%}" for result in results if result["gpu_busy"] is not None]
    lines += [f"The GPU was busy: {', '.join(busy_gpu)}.", ""] if busy_gpu else []
    lines += [f"- {result['what']}: {summary(result['what'])}" for result in results]
    lines += ["", "Milliseconds per agent step, by thread and phase:", "", "| | phase | ms |", "| --- | --- | --- |"]
    for result in results:
        times = {**result["milliseconds_per_step"]}
        times |= {f"CPU time: {name}": value for name, value in result["cpu_milliseconds_per_step"].items()}
        lines += [f"| {result['what']} | {phase} | {value:.3f} |" for phase, value in times.items()]
    lines += ["", "![Agent steps per second](throughput.png)", "", f"Command: `{command}`", ""]
    lines += [f"- {name}: {version}" for name, version in versions.items()]
    return "\n".join(lines) + "\n"


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw a bar for each result, with the spread of its windows."""
    figure, (axes,) = new_figure()
    speeds = [result["agent_steps_per_second"] for result in results]
    medians = [speed["median"] for speed in speeds]
    below = [speed["median"] - speed["p20"] for speed in speeds]
    above = [speed["p80"] - speed["median"] for speed in speeds]
    bars = axes.bar([result["what"] for result in results], medians, yerr=[below, above], capsize=4, color="#4878a8")
    axes.bar_label(bars, labels=[f"{median:,.0f}" for median in medians], padding=3)
    axes.margins(y=0.12)  # room for the labels
    axes.set_ylabel("agent steps per second")
    axes.set_title(setting_line(results[-1]).replace("; ", "\n"), fontsize=8)
    save(figure, path)


def new_figure(columns: int = 1) -> tuple[Figure, Sequence[Any]]:
    """Return a figure that needs no screen, and its axes, `columns` side by side."""
    figure = Figure(figsize=(max(6.4, 4 * columns), 4.2), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    figure.savefig(temporary, dpi=150)
    temporary.rename(path)
