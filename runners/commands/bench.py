"""`rfwp bench WHAT`: how long parts of the program take on this machine."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser
from rich.console import Console

from rfwp.runners import bench_cores, bench_kernels, files, machine
from rfwp.runners.benchmark import Benchmark, Row
from rfwp.runners.errors import UserError
from rfwp.runners.options import parse

BENCHMARKS = {"cores": bench_cores.BENCHMARK, "kernels": bench_kernels.BENCHMARK}
MOST_SECONDS = 3600

# What the times of any benchmark depend on: keys of each row, and their meanings.
CIRCUMSTANCES = {
    "precision": "data type of weights, inputs and state",
    "device": "cpu, cuda, ...",
    "device_name": "the processor or GPU",
    "threads": "threads of PyTorch's operators on the CPU",
    "torch": "version of PyTorch",
}


def run(argv: Sequence[str]) -> int:
    """`rfwp bench`: runs the benchmark that the first word names; prints a table, or JSON: a list of its rows."""
    name = argv[0] if argv else None
    if name in ("-h", "--help"):
        print("\n".join(["usage: rfwp bench WHAT ...", "", *_summary(), "", "`rfwp bench WHAT --help` lists options."]))
        return 0
    if name not in BENCHMARKS:
        got = f"got {name!r}; " if name else ""
        raise UserError(f"what to time: {got}allowed: {', '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[name]
    values = parse(_parser(name, benchmark), argv[1:])
    if not 0 < values.seconds <= MOST_SECONDS:
        raise UserError(f"seconds: got {values.seconds}; allowed: a number above 0, up to {MOST_SECONDS}")
    benchmark.check(values)
    _check_writable(values.json)
    device = machine.pick_device(values.device)
    machine.keep_freed_memory()
    torch.set_num_threads(machine.learner_threads())
    circumstances, console = _circumstances(device), Console(stderr=values.json == "-")
    with console.status("timing ...") as status:
        rows = benchmark.run(values, device, lambda what: status.update(f"timing {what} ..."))
    rows = [row | circumstances for row in rows]
    if values.json == "-":
        print(json.dumps(rows, indent=2))
        return 0
    if values.json:
        _write(Path(values.json), rows)
    console.print(benchmark.table(rows))
    console.print("{device} ({device_name}), threads: {threads}, {precision}, torch {torch}".format(**circumstances))
    return 0


def _summary() -> list[str]:
    return [f"  rfwp bench {name}   {benchmark.description}" for name, benchmark in BENCHMARKS.items()]


def _parser(name: str, benchmark: Benchmark) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"rfwp bench {name}",
        exit_on_error=False,
        allow_abbrev=False,
        description=benchmark.description,
        epilog="keys of the JSON: "
        + "; ".join(f"{key}: {meaning}" for key, meaning in (benchmark.keys | CIRCUMSTANCES).items()),
    )
    benchmark.add_options(parser)
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long to repeat each measurement")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:0, ...")
    parser.add_argument(
        "--json", type=str | None, metavar="FILE", help="write a list of objects; - for standard output"
    )
    return parser


def _circumstances(device: torch.device) -> Row:
    on_gpu = device.type == "cuda"
    return {
        "precision": "float32",
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if on_gpu else machine.versions()["platform"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _check_writable(name: str | None) -> None:
    """UserError, before anything is timed, if the result could not be written."""
    if name is not None and name != "-" and (Path(name).is_dir() or not Path(name).absolute().parent.is_dir()):
        raise UserError(f"json: cannot write {name!r}; allowed: a file in a folder that exists, or -")


def _write(path: Path, rows: Sequence[Row]) -> None:
    try:
        files.write_whole(path, json.dumps(rows, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"json: cannot write {str(path)!r}: {error.strerror}") from None
