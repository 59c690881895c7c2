"""`rfwp bench WHAT`: times parts of the program on this machine."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch

from rfwp.agents import host
from rfwp.agents.device import prepare_cpu
from rfwp.runners.bench import cores, kernels, scaling, sequence, speed, suite
from rfwp.runners.bench.benchmark import Benchmark, Row, check_seconds
from rfwp.runners.bench.workloads import WORKLOADS
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder import files
from rfwp.runners.settings.parsing import Parser, parse

# Benchmarks of parts: a table with a row for each part.
BENCHMARKS = {"cores": cores.BENCHMARK, "kernels": kernels.BENCHMARK}
# Benchmarks with the settings of `rfwp train`.
REPORTS = {
    "sequence": (sequence.DESCRIPTION, sequence.run),
    "suite": (suite.DESCRIPTION, suite.run),
    "scaling": (scaling.DESCRIPTION, scaling.run),
}

# What all times depend on: keys in every row, and their meanings.
CIRCUMSTANCES = {
    "precision": "data type of weights, inputs and state",
    "device": "cpu, cuda, ...",
    "device_name": "the processor or GPU",
    "threads": "threads of PyTorch's operators on the CPU",
    "torch": "version of PyTorch",
}


def run(argv: Sequence[str]) -> int:
    """Run `rfwp bench` with these words; return the exit code. The first word names the benchmark."""
    name = argv[0] if argv else None
    if name in ("-h", "--help"):
        print("\n".join(["usage: rfwp bench WHAT ...", "", *_summary(), "", "`rfwp bench WHAT --help` lists options."]))
        return 0
    if name in WORKLOADS:
        return speed.run(name, argv[1:])
    if name in REPORTS:
        _, run_report = REPORTS[name]
        return run_report(argv[1:])
    if name in BENCHMARKS:
        return _time_parts(name, BENCHMARKS[name], argv[1:])
    got = f"got {name!r}; " if name else ""
    raise UserError(f"benchmark: {got}allowed: {', '.join([*BENCHMARKS, *WORKLOADS, *REPORTS])}")


def _time_parts(name: str, benchmark: Benchmark, argv: Sequence[str]) -> int:
    """Run a benchmark of parts; print a table, or its rows as a JSON list."""
    values = parse(_parser(name, benchmark), argv)
    check_seconds(values.seconds)
    benchmark.check(values)
    files.check_writable(values.json)
    device = resources.pick_device(values.device)
    prepare_cpu(host.operator_threads(host.cores()))
    circumstances, console = _circumstances(device), Terminal(stderr=values.json == "-")
    on_device = torch.cuda.device(device) if device.type == "cuda" else nullcontext()  # for its streams and events
    with on_device, console.status("timing ...") as status:
        rows = benchmark.run(values, device, lambda what: status.update(f"timing {what} ..."))
    rows = [row | circumstances for row in rows]
    if values.json != "-":
        console.print(benchmark.table(rows), crop=False)
        console.print(
            "{device} ({device_name}), threads: {threads}, {precision}, torch {torch}".format(**circumstances)
        )
    files.write_json(values.json, rows)
    return 0


def _summary() -> list[str]:
    what = {name: benchmark.description for name, benchmark in BENCHMARKS.items()}
    what |= {name: speed.summary(name) for name in WORKLOADS}
    what |= {name: description for name, (description, _) in REPORTS.items()}
    return [f"  rfwp bench {name:8} {description}" for name, description in what.items()]


def _parser(name: str, benchmark: Benchmark) -> Parser:
    parser = Parser(
        f"rfwp bench {name}",
        benchmark.description,
        epilog="keys of the JSON: "
        + "; ".join(f"{key}: {meaning}" for key, meaning in (benchmark.keys | CIRCUMSTANCES).items()),
    )
    benchmark.add_options(parser)
    parser.add_argument("--seconds", type=float, default=1.0, help="approximate time to repeat each measurement")
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
        "device_name": torch.cuda.get_device_name(device) if on_gpu else resources.versions()["platform"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
