"""`rfwp bench sequence`: tokens per second of supervised training, and what packing and the bare core contribute."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import torch
from rich import box
from rich.table import Table

from rfwp.agents.sequence_batches import SequenceBatch, lay_out
from rfwp.agents.supervised import Supervised
from rfwp.envs.sequence_task import Sequences
from rfwp.runners.bench.benchmark import Timing, check_seconds, measure
from rfwp.runners.build import build_sequence_system
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder import files
from rfwp.runners.runfolder.folder import commit
from rfwp.runners.settings import components
from rfwp.runners.settings.config import sequence_config
from rfwp.runners.settings.glance import names_a_task
from rfwp.runners.settings.layers import to_dict
from rfwp.runners.settings.options import read_command_line
from rfwp.runners.settings.parsing import Parser
from rfwp.runners.training.memory_estimate import check_sequence_sizes

Result = dict[str, Any]

DESCRIPTION = "Time supervised training: whole updates, updates on padded rows, and the bare core."
BATCHES = 20  # that are used in turn

KEYS = {
    "task": "title of the task",
    "core": "name of the core",
    "tokens": "tokens of an update without padding, mean",
    "sequences": "sequences of an update, mean; for a text, its rows",
    "packed_tokens_per_second": "tokens per second in training, without padding",
    "padded_tokens_per_second": "the same with one sequence a row, each padded to the longest of the training split, as"
    " in the published code; null for a text",
    "packing_gain": "packed_tokens_per_second over padded_tokens_per_second; the same in sequences per second",
    "core_tokens_per_second": "the same of the core alone: forward and backward on rows of the same size",
    "share_of_core": "packed_tokens_per_second over core_tokens_per_second",
    "packed_ms": "milliseconds of an update: median, p20, p80, number of measurements",
    "padded_ms": "the same on padded rows; null for a text",
    "core_ms": "the same of the core alone",
    "threads": "threads of PyTorch's operators on the CPU",
    "device": "device that the model is trained on",
    "machine": "versions of packages and code, processor, GPU",
    "config": "all settings, as in config.yaml",
}


def run(argv: Sequence[str]) -> int:
    """Run `rfwp bench sequence` with these words; return the exit code."""
    if not names_a_task(argv) and not {"-h", "--help"} & set(argv):
        raise UserError(f"task: missing; allowed: {', '.join(components.names('task'))}")
    settings, values, _ = read_command_line(argv, "rfwp bench sequence", _add_options)
    config = replace(sequence_config(settings), total_steps=10**12)  # it must outlast the measurement
    check_seconds(values.seconds)
    files.check_writable(values.json)
    console = Terminal(stderr=values.json == "-")
    with console.status("timing ..."):
        system = build_sequence_system(config)
        check_sequence_sizes(config, system)
        result = {
            "task": config.task.title,
            "core": components.name_of(config.core),
            **time_system(system, values.seconds),
            "threads": torch.get_num_threads(),
            "device": str(system.device),
            "machine": resources.versions() | {"commit": commit()},
            "config": to_dict(config),
        }
    if values.json != "-":
        console.print(_table(result))
    files.write_json(values.json, result)
    return 0


def time_system(system: Supervised, seconds: float) -> Result:
    """Time whole updates, updates on padded rows, and the bare core, each for about `seconds` seconds."""
    some = [system.batches[update] for update in range(min(BATCHES, max(2, system.batches.per_epoch)))]
    tokens = float(np.mean([int(batch.num_tokens) for batch in some]))
    sequences = float(np.mean([_count(batch) for batch in some]))
    timings = {
        "packed": measure(partial(next, iter(system)), seconds, system.device),
        "core": measure(_each(some, partial(_pass_core, system)), seconds, system.device),
    }
    if not system.config.task.is_text and system.data.draw is None:
        padded = [pad(system.data.train, batch, system) for batch in some]
        timings["padded"] = measure(_each(padded, system.learner.learn), seconds, system.device)
    speed = {name: 1e3 * tokens / timing.median for name, timing in timings.items()}
    milliseconds = {name: timing._asdict() for name, timing in timings.items()}
    return {
        "tokens": tokens,
        "sequences": sequences,
        **{f"{name}_tokens_per_second": speed.get(name) for name in ("packed", "padded", "core")},
        "packing_gain": speed["packed"] / speed["padded"] if "padded" in speed else None,
        "share_of_core": speed["packed"] / speed["core"],
        **{f"{name}_ms": milliseconds.get(name) for name in ("packed", "padded", "core")},
    }


def _each(batches: Sequence[SequenceBatch], use: Callable[[SequenceBatch], object]) -> Callable[[], object]:
    """Return a function that uses the next batch, again and again."""
    following: Iterator[SequenceBatch] = cycle(batches)
    return lambda: use(next(following))


def _count(batch: SequenceBatch) -> int:
    """Return the sequences of a batch, or the rows of a text's segment."""
    return int(batch.first.sum()) or batch.token.shape[1]


def pad(sequences: Sequences, batch: SequenceBatch, system: Supervised) -> SequenceBatch:
    """Return the same sequences, one a row, each padded to the longest of all."""
    chosen = batch.sequence[batch.first].cpu().numpy()
    shape = int(np.diff(sequences.start).max()), len(chosen)
    padded = lay_out(sequences, chosen, ((row, 0) for row in range(len(chosen))), shape)
    return padded._replace(blank=batch.blank, state=system.model.initial_state(len(chosen))).to(system.device)


def _pass_core(system: Supervised, batch: SequenceBatch) -> None:
    """Run the core forward and backward on random inputs of a batch's size, with its sequence starts."""
    core, device = system.model.core, system.device
    x = torch.randn(*batch.token.shape, system.config.model.embedding_size, device=device, requires_grad=True)
    outputs, _ = core(x, core.initial_state(x.shape[1], device), batch.first.to(device))
    torch.autograd.grad(outputs, [x, *core.parameters()], torch.ones_like(outputs))


def _table(result: Result) -> Table:
    table = Table(
        title=f"Supervised training: {result['task']}, core {result['core']}",
        caption=f"On {result['device']}, threads: {result['threads']}. {result['machine']['platform']}, torch"
        f" {result['machine']['torch']}.",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_header=False,
    )
    table.add_row("tokens/s in training", _speed(result, "packed"))
    if result["padded_tokens_per_second"] is not None:
        table.add_row("tokens/s on padded rows", _speed(result, "padded"))
        table.add_row("gain of packing", f"{result['packing_gain']:.2f} ×")
    table.add_row("tokens/s of the core alone", _speed(result, "core"))
    table.add_row("training over the core alone", f"{result['share_of_core']:.0%}")
    table.add_row("an update", f"{result['sequences']:,.0f} sequences, {result['tokens']:,.0f} tokens")
    return table


def _speed(result: Result, name: str) -> str:
    timing = Timing(**result[f"{name}_ms"])
    low, high = (1e3 * result["tokens"] / each for each in (timing.p80, timing.p20))
    return f"{result[f'{name}_tokens_per_second']:,.0f}  ({low:,.0f} to {high:,.0f})"


def _add_options(parser: Parser) -> None:
    parser.description = f"{DESCRIPTION} Takes the settings of `rfwp train`, such as --task listops."
    parser.epilog = "keys of the JSON: " + "; ".join(f"{key}: {meaning}" for key, meaning in KEYS.items())
    parser.add_argument("--seconds", type=float, default=5.0, help="approximate time of each measurement")
    parser.add_argument("--json", type=str | None, metavar="FILE", help="write an object; - for standard output")
