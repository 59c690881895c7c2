"""`rfwp bench scaling`: training speed by environments, actor processes and unroll length, with a plot."""

import json
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rfwp.agents import host
from rfwp.agents.phases import WAIT
from rfwp.runners.bench import suite
from rfwp.runners.bench.benchmark import check_seconds
from rfwp.runners.bench.speed import Result, setting_line
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder import files
from rfwp.runners.settings.config import AgentRunConfig, agent_config
from rfwp.runners.settings.options import read_command_line
from rfwp.runners.settings.parsing import Parser

DESCRIPTION = "Time training by number of environments, processes and steps per unroll; write a report and a plot."

SERIES = {"actors.envs": "envs", "actors.processes": "processes", "learner.unroll_length": "unrolls"}
ENVS, UNROLLS = (8, 16, 32, 64, 128, 256, 512), (5, 10, 20, 40, 80)


def run(argv: Sequence[str]) -> int:
    """Run `rfwp bench scaling` with these words; return the exit code."""
    settings, values, _ = read_command_line(argv, "rfwp bench scaling", _add_options)
    config = agent_config(settings)
    check_seconds(values.seconds)
    if not values.out:
        raise UserError("out: missing; allowed: a folder for the report")
    out, console = suite.make_folder(values.out), Terminal()
    words = [*suite.without_own(argv, SERIES.values()), f"--seconds={values.seconds}"]
    results: dict[str, list[Result]] = {}
    for field, points in _points(values, config).items():
        results[field] = []
        for point in points:
            with console.status(f"timing {field} {point} ..."):
                results[field] += _measure(field, point, words, console)
    _write(out, results, shlex.join(["rfwp", "bench", "scaling", *argv]))
    console.say(f"Written: {out / 'scaling.md'}, .json and .png")
    return 0


def _add_options(parser: Parser) -> None:
    parser.description = DESCRIPTION
    suite.add_own_options(parser)
    for field, name in SERIES.items():
        help_text = f"values of {field}; default: a range that fits the machine"
        parser.add_argument(f"--{name}", type=int, nargs="*", metavar="N", help=help_text)


def _points(values: Namespace, config: AgentRunConfig) -> dict[str, list[int]]:
    """Return the values to measure for each field; all other settings come from the command line."""
    actors, cores = config.actors, host.cores()
    most = range(actors.groups, max(cores, actors.groups) + 1, actors.groups)
    usual = {
        "envs": [envs for envs in ENVS if envs % actors.groups == 0],
        "processes": [processes for processes in most if actors.envs % processes == 0],
        "unrolls": list(UNROLLS),
    }
    return {
        field: usual[name] if getattr(values, name) is None else getattr(values, name) for field, name in SERIES.items()
    }


def _measure(field: str, point: int, words: Sequence[str], console: Terminal) -> list[Result]:
    """Measure one training run; print why and return [] if the settings do not fit together or into memory."""
    try:
        result = suite.measure_apart("train", [*words, f"--{field}={point}"])
    except UserError as error:
        console.say(f"{field} {point}: {error}")
        return []
    speed = result["agent_steps_per_second"]["median"]
    console.say(f"{field} {point}: {speed:,.0f} agent steps/s, {limit(result)}")
    return [{"field": field, "point": point, **result}]


def busy_shares(result: Result) -> dict[str, float]:
    """Return the share of time that each kind of worker was busy; an actor process is busy when its emulator is."""
    rate, spent = result["agent_steps_per_second"]["median"] / 1e3, result["milliseconds_per_step"]
    shares = {"actors": rate * spent["actors: emulator"] / result["processes"]}
    for thread in ("collector", "learner"):
        work = (ms for name, ms in spent.items() if name.startswith(thread) and name != f"{thread}: {WAIT}")
        shares[thread] = rate * sum(work)
    return shares


def limit(result: Result) -> str:
    """Say what limits the training speed."""
    cores, used = host.cores(), sum(result["cpu_cores_busy"].values())
    if used > 0.9 * cores:
        return f"limited by the CPU: {used:.1f} of {cores} cores are busy"
    if result["gpu_busy"] is not None:  # threads that wait for the GPU would look busy
        return f"the GPU is {result['gpu_busy']:.0%} busy; {used:.1f} of {cores} cores are"
    shares = busy_shares(result)
    busiest = max(shares, key=lambda name: shares[name])
    return f"limited by the {busiest}, {shares[busiest]:.0%} busy; {used:.1f} of {cores} cores are"


def _write(out: Path, results: dict[str, list[Result]], command: str) -> None:
    measured = [result for series in results.values() for result in series]
    if not measured:
        raise UserError("nothing could be measured: none of the settings fits")
    files.write_whole(out / "scaling.json", json.dumps(measured, indent=2) + "\n")
    files.write_whole(out / "scaling.md", report(results, command))
    draw(results, out / "scaling.png")


def report(results: dict[str, list[Result]], command: str) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Scaling",
        "",
        "| | | agent steps/s: median (p20 to p80) | share of the emulator alone | |",
        "|" + 5 * " --- |",
    ]
    for field, series in results.items():
        for result in series:
            speed = result["agent_steps_per_second"]
            lines.append(
                f"| {field} | {result['point']} | {speed['median']:,.0f} ({speed['p20']:,.0f} to {speed['p80']:,.0f})"
                f" | {result['share_of_ceiling']:.0%} | {limit(result)} |"
            )
    lines += ["", "![Agent steps per second](scaling.png)", "", "One of the runs:"]
    first: Any = next(series[0] for series in results.values() if series)
    lines += [f"{setting_line(first)}. The others differ in the field of their row.", "", f"Command: `{command}`", ""]
    return "\n".join([*lines, *(f"- {name}: {version}" for name, version in first["machine"].items())]) + "\n"


def draw(results: dict[str, list[Result]], path: Path) -> None:
    """Plot training speed and the emulator's own speed against each measured field."""
    measured = {field: series for field, series in results.items() if series}
    figure, axes = suite.new_figure(len(measured))
    for plot, (field, series) in zip(axes, measured.items(), strict=True):
        points = [result["point"] for result in series]
        speeds = [result["agent_steps_per_second"] for result in series]
        plot.plot(points, [speed["median"] for speed in speeds], marker="o", label="training")
        plot.fill_between(points, [s["p20"] for s in speeds], [s["p80"] for s in speeds], alpha=0.25)
        plot.plot(points, [result["env_ceiling"] for result in series], ls="--", marker=".", label="emulator alone")
        plot.set(xlabel=field, ylim=(0, None))
        plot.set_xscale("log", base=2)
        plot.xaxis.set_major_formatter("{x:g}")
        plot.set_xticks(points)
    axes[0].set_ylabel("agent steps per second")
    axes[0].legend()
    suite.save(figure, path)
