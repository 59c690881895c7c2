"""`rfwp bench env|act|learn|train`: agent steps per second and their costs, with any settings of `rfwp train`."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from rich import box
from rich.table import Table

from rfwp.agents import host
from rfwp.agents.actor_learner import ActorLearner
from rfwp.runners.bench import workloads
from rfwp.runners.bench.benchmark import check_seconds
from rfwp.runners.bench.throughput import KEYS
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder import files
from rfwp.runners.runfolder.folder import commit
from rfwp.runners.settings.config import AgentRunConfig, agent_config
from rfwp.runners.settings.layers import to_dict
from rfwp.runners.settings.options import read_command_line
from rfwp.runners.settings.parsing import Parser
from rfwp.runners.training.dashboard import number, percent

Result = dict[str, Any]

ALL_KEYS = {
    "what": "env, act, learn or train",
    **KEYS,
    "env_ceiling": "train: agent steps per second of the emulator alone, measured first or given by --ceiling",
    "share_of_ceiling": "train: median agent steps per second over env_ceiling",
    "env": "title of the environment",
    "processes": "actor processes",
    "threads": "threads of PyTorch's operators on the CPU",
    "precision": "data type of the encoder of images; all else is float32",
    "device": "device on which the agent acts and learns",
    "machine": "versions of packages and code, processor, GPU",
    "config": "all settings, as in config.yaml",
}


def run(name: str, argv: Sequence[str]) -> int:
    """Run `rfwp bench NAME` with these words; return the exit code."""
    settings, values, _ = read_command_line(argv, f"rfwp bench {name}", lambda parser: _add_options(parser, name))
    config = agent_config(settings)
    check_seconds(values.seconds)
    files.check_writable(values.json)
    ceiling = values.ceiling if name == "train" else None
    if ceiling is not None and not ceiling > 0:
        raise UserError(f"ceiling: got {ceiling}; allowed: agent steps per second, above 0")
    console = Terminal(stderr=values.json == "-")
    with console.status("timing ...") as status:
        if name == "train" and ceiling is None:
            status.update("timing the emulator alone ...")
            _, recorder = workloads.run("env", config, values.seconds / 2)
            ceiling = recorder.summary(1)["agent_steps_per_second"]["median"]
        status.update(f"timing {name} ...")
        system, recorder = workloads.run(name, config, values.seconds)
    frames_per_step = config.env.spec().frames_per_step
    result = {"what": name, **recorder.summary(frames_per_step), **_circumstances(system, config)}
    if ceiling is not None:
        share = result["agent_steps_per_second"]["median"] / ceiling
        result |= {"env_ceiling": ceiling, "share_of_ceiling": share}
    if values.json != "-":
        console.print(_table(result))
    files.write_json(values.json, result)
    return 0


def summary(name: str) -> str:
    """Return a one-line description of a workload."""
    return (inspect.getdoc(workloads.WORKLOADS[name]) or "").partition("\n")[0]


def _add_options(parser: Parser, name: str) -> None:
    parser.description = f"Time a part of training. {summary(name)}"
    parser.epilog = "keys of the JSON: " + "; ".join(f"{key}: {meaning}" for key, meaning in ALL_KEYS.items())
    parser.add_argument("--seconds", type=float, default=20.0, help="approximate time to measure, after a warm-up")
    parser.add_argument("--json", type=str | None, metavar="FILE", help="write an object; - for standard output")
    if name == "train":
        parser.add_argument(
            "--ceiling", type=float | None, metavar="STEPS", help="agent steps/s of `bench env`, if known, to save time"
        )


def _circumstances(system: ActorLearner, config: AgentRunConfig) -> Result:
    return {
        "env": config.env.title,
        "processes": system.num_processes,
        "threads": torch.get_num_threads(),
        "precision": str(system.agent.encoder.precision).removeprefix("torch."),
        "device": str(system.device),
        "machine": resources.versions() | {"commit": commit()},
        "config": to_dict(config),
    }


def setting_line(result: Result) -> str:
    """Format the settings that speed depends on most in one line."""
    config = result["config"]
    learner = config["learner"]
    return (
        f"{result['env']}, core {config['core']['name']}, encoder {config['encoder']['name']}, {result['precision']} on"
        f" {result['device']}, threads: {result['threads']}; {config['actors']['envs']} environments in"
        f" {result['processes']} processes; unrolls of {learner['unroll_length']} steps,"
        f" {learner['batch_size']} per update"
    )


def _table(result: Result) -> Table:
    table = Table(
        title=f"{result['what']}: {summary(result['what'])}",
        caption=f"{setting_line(result)}. {result['machine']['platform']}, torch {result['machine']['torch']}.",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_header=False,
    )
    for what, value in facts(result).items():
        table.add_row(what, value)
    return table


def facts(result: Result) -> dict[str, str]:
    """Format a result as names and values."""
    rows = {}
    for what, key in (("agent steps/s", "agent_steps_per_second"), ("frames/s", "frames_per_second")):
        speed = result[key]
        rows[what] = f"{number(speed['median'])}  ({number(speed['p20'])} to {number(speed['p80'])})"
    if "share_of_ceiling" in result:
        rows["share of the emulator alone"] = (
            f"{percent(result['share_of_ceiling'])} of {number(result['env_ceiling'])}"
        )
    busy, memory = result["cpu_cores_busy"], result["peak_memory_megabytes"]
    rows["CPU cores busy"] = f"main {number(busy['main'], 2)}, actors {number(busy['actors'], 2)} of {host.cores()}"
    if result["gpu_busy"] is not None:
        rows["GPU busy"] = percent(result["gpu_busy"])
    rows["peak memory, MB"] = ", ".join(f"{name} {number(size)}" for name, size in memory.items() if size is not None)
    rows["ms an agent step, CPU"] = _times(result["cpu_milliseconds_per_step"])
    rows["ms an agent step, by phase"] = _times(result["milliseconds_per_step"])
    return rows


def _times(milliseconds: dict[str, float]) -> str:
    return "\n".join(f"{value:.3f}  {name}" for name, value in milliseconds.items())
