"""`rfwp bench kernels`: checks the fused kernels, then times them against alternatives."""

import warnings
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from torch import Tensor

from rfwp.agents.graphs import graphed
from rfwp.cuda.available import available
from rfwp.cuda.launch import FEATURE_MAPS
from rfwp.cuda.rdn import rdn_act
from rfwp.models.core import Core, State
from rfwp.models.gated import GatedCore
from rfwp.runners.bench.benchmark import Benchmark, Row, measure_runs, timing_columns, timing_keys
from rfwp.runners.bench.kernel_peers import WITHOUT_RESETS, Way, kernel, memory_of, peers
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder import files
from rfwp.runners.settings import components
from rfwp.runners.settings.parsing import Parser

CORES = ("linear_transformer", "delta_net", "gated_delta_net", "delta_rnn", "rdn", "lstm", "gru")
SHAPES = ((50, 32), (80, 256))  # agent steps and sequences of an unroll
ACTING_BATCHES = (64, 1024)
RESET_DENSITY = 0.01
INPUT_SIZE = 257
BESIDE = ("compiled", "cudnn", "packed", "fla")
MAPPED = {"rdn": "feature_map", "delta_rnn": "feedback_map"}  # settings of the maps that kernels compute
TOLERANCE = 1e-3  # of the largest number, in float32 over a whole unroll; real bugs differ by far more

KEYS = {
    "core": "core whose recurrence is timed, with default settings: one layer, only the recurrence",
    "feature_map": "feature map that the kernel computes; null if it computes none",
    "way": "kernel; loop: PyTorch, step by step; compiled: the same with torch.compile; cudnn: PyTorch's LSTM; packed:"
    " the same over episodes, cut and packed; fla: flash-linear-attention's fused recurrent kernel; paper: the"
    " published kernel",
    "what": "forward; both: forward and backward; act: one step, states gathered and changed in place",
    "launch": "eager; graph: replayed as a CUDA graph",
    "steps": "agent steps of the unroll",
    "batch": "sequences",
    "reset_density": "share of the steps that start an episode",
    **timing_keys("time", "a run"),
    "error": "largest difference from the loop in outputs, final states and, for both, gradients, relative to the"
    " largest number of each; null for the loop and for what cannot be compared",
}


class Problem(NamedTuple):
    """The inputs of a recurrence."""

    inputs: tuple[Tensor, ...]  # each [T, ...], with gradients
    state: State
    first: Tensor  # bool [T, B]
    weights: tuple[Tensor, ...]  # slow weights within the recurrence


def build_core(name: str, feature_map: str, device: torch.device) -> Core:
    """Build a core with default settings, but for the feature map that its kernel computes."""
    changes = {MAPPED[name]: feature_map} if name in MAPPED else {}
    core: Core = components.config_class("core", name)(**changes).build(INPUT_SIZE).to(device)
    return core


def problem_for(core: Core, steps: int, batch: int, density: float, device: torch.device) -> Problem:
    """Draw a problem for a core, in float32."""
    x = torch.randn(steps, batch, INPUT_SIZE, device=device)
    first = torch.rand(steps, batch, device=device) < density
    state = tuple(0.1 * torch.randn_like(leaf) for leaf in core.initial_state(batch, device))
    if isinstance(core, GatedCore):
        return Problem((x.requires_grad_(),), state, first, tuple(core.parameters()))
    memory = memory_of(core)
    hidden = torch.randn(steps, batch, core.output_size, device=device)
    inputs = tuple(each.detach().requires_grad_() for each in memory.prepare(memory.project(hidden)))
    rows = memory.to_rows(state[: len(memory.state_shapes)])
    weights = tuple(weight for name, weight in memory.named_parameters() if name == "recurrent")
    return Problem(inputs, rows, first, weights)


def forward(way: Way, problem: Problem) -> list[Tensor]:
    """Return the outputs and the state after."""
    # The paper's kernel changes its input state.
    output, after = way(problem.inputs, tuple(leaf.clone() for leaf in problem.state), problem.first)
    return [output, *after]


def both(way: Way, problem: Problem) -> list[Tensor]:
    """Return the same and the gradients of the outputs' sum of squares."""
    output, after = way(problem.inputs, problem.state, problem.first)
    gradients = torch.autograd.grad(output.square().sum(), (*problem.inputs, *problem.weights))
    return [output, *after, *gradients]


def largest_error(actual: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest difference, relative to the largest number of its tensor."""
    return max(
        ((given - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)).item()
        for given, wanted in zip(actual, expected, strict=True)
    )


def launches(function: Callable[[], object], device: torch.device, way: str) -> dict[str, Callable[[], object]]:
    """Return the function and, if possible, its CUDA graph; a graph cannot hold code that reads tensors on the host."""
    if device.type != "cuda" or way in ("packed", "paper"):
        return {"eager": function}
    try:
        return {"eager": function, "graph": graphed(function, device)}
    except RuntimeError as error:
        if way == "kernel":
            raise
        # Compiled code may do something that a graph cannot capture.
        warnings.warn(f"{way}: not timed as a CUDA graph: {str(error).partition(chr(10))[0]}", stacklevel=2)
        return {"eager": function}


def time_unroll(name: str, way_name: str, ways: dict[str, Way], problem: Problem, values: Namespace) -> list[Row]:
    """Check one way against the loop, then time forward alone and forward with backward."""
    steps, batch = problem.first.shape
    facts = {"core": name, "feature_map": values.feature_map if name in MAPPED else None, "way": way_name}
    facts |= {"steps": steps, "batch": batch, "reset_density": problem.first.float().mean().item()}
    rows = []
    for what, run in {"forward": forward, "both": both}.items():
        error = None
        # The published backward pass is wrong after 24 steps, and has no gradient of the state's part.
        if way_name != "loop" and (what, way_name) != ("both", "paper"):
            error = largest_error(run(ways[way_name], problem), run(ways["loop"], problem))
            if way_name == "kernel" and not error < TOLERANCE:  # others' errors are in the table
                raise UserError(f"kernels: {name}, {what}: differs from the loop by {error:.1e}")
        functions = launches(partial(run, ways[way_name], problem), problem.first.device, way_name)
        for launch, function in functions.items():
            timing = timing_columns("time", measure_runs(function, values.runs, problem.first.device))
            rows.append(facts | {"what": what, "launch": launch} | timing | {"error": error})
    return rows


def time_acting(batch: int, values: Namespace, device: torch.device) -> list[Row]:
    """Check and time the acting step of the Recurrent Delta Net."""
    core = build_core("rdn", values.feature_map, device)
    problem, recurrent = (
        problem_for(core, 1, batch, RESET_DENSITY, device),
        memory_of(core).get_parameter("recurrent").detach(),
    )
    slow, slots = problem.inputs[0][0].detach().flatten(0, 1), torch.randperm(len(problem.state[0]), device=device)

    def act(state: State) -> list[Tensor]:
        return [rdn_act(slow, recurrent, *state, slots, problem.first[0], values.feature_map), *state]

    kept = tuple(torch.empty_like(leaf).index_copy_(0, slots, leaf) for leaf in problem.state)
    read, *after = act(tuple(leaf.clone() for leaf in kept))
    expected = forward(kernel(core), problem)
    error = largest_error([read, *(leaf[slots] for leaf in after)], [expected[0][0], *expected[1:]])
    if not error < TOLERANCE:
        raise UserError(f"kernels: rdn, act: differs from the unroll by {error:.1e}")
    facts = {"core": "rdn", "feature_map": values.feature_map, "way": "kernel", "what": "act", "steps": 1}
    facts |= {"batch": batch, "reset_density": RESET_DENSITY}
    return [
        facts
        | {"launch": launch, **timing_columns("time", measure_runs(function, values.runs, device)), "error": error}
        for launch, function in launches(lambda: act(kept), device, "kernel").items()
    ]


def _unrolls(name: str, values: Namespace, device: torch.device, tell: Callable[[str], None]) -> list[Row]:
    rows = []
    for steps, batch in SHAPES:
        core = build_core(name, values.feature_map, device)
        checkout = Path(values.paper) if values.paper else None
        ways = {"kernel": kernel(core)} | peers(name, core, values.beside, checkout)
        for density in (0.0, RESET_DENSITY):
            problem = problem_for(core, steps, batch, density, device)
            for way in ways:
                if density == 0 or way not in WITHOUT_RESETS:
                    tell(f"{name}, {way}, {steps} × {batch}")
                    rows += _timed(name, way, ways, problem, values)
    return rows


def _timed(name: str, way: str, ways: dict[str, Way], problem: Problem, values: Namespace) -> list[Row]:
    """Return the rows of a way. A peer that fails only causes a warning, so that the kernels' rows are kept."""
    try:
        return time_unroll(name, way, ways, problem, values)
    except Exception as error:
        if way in ("kernel", "loop"):
            raise
        warnings.warn(f"{name}, {way}: not timed: {error!r}".partition("\n")[0], stacklevel=2)
        return []


def _add_options(parser: Parser) -> None:
    parser.add_argument("--cores", type=str, nargs="+", metavar="NAME", help=f"only these of {', '.join(CORES)}")
    parser.add_argument("--feature_map", type=str, default="softmax", help="map in the kernels of rdn and delta_rnn")
    parser.add_argument("--runs", type=int, default=50, help="repeats of each measurement")
    parser.add_argument(
        "--beside",
        type=str,
        nargs="*",
        default=list(BESIDE),
        help=f"ways to time beside the loop; by default {', '.join(BESIDE)}",
    )
    parser.add_argument(
        "--paper", type=str | None, metavar="FOLDER", help="checkout of the paper's code, to time its kernel"
    )
    parser.add_argument("--markdown", type=str | None, metavar="FILE", help="also write the table as Markdown")


def _check(values: Namespace) -> None:
    for field, names, allowed in (
        ("cores", values.cores or (), CORES),
        ("beside", values.beside, BESIDE),
        ("feature_map", [values.feature_map], FEATURE_MAPS),
    ):
        for name in names:
            if name not in allowed:
                raise UserError(f"{field}: got {name!r}; allowed: {', '.join(allowed)}")
    if values.paper is not None and values.feature_map != "softmax":
        raise UserError(f"feature_map: got {values.feature_map!r}; allowed beside --paper: softmax")
    if values.runs < 1:
        raise UserError(f"runs: got {values.runs}; allowed: 1 or more")
    if values.markdown is not None and not Path(values.markdown).absolute().parent.is_dir():
        raise UserError(f"markdown: cannot write {values.markdown!r}; allowed: a file in an existing folder")


def _run(values: Namespace, device: torch.device, tell: Callable[[str], None]) -> list[Row]:
    if not available(device.type, torch.float32, 32):
        raise UserError(f"device: got {device}; the fused kernels run on NVIDIA's GPUs, unless RFWP_KERNELS=off")
    torch.manual_seed(0)
    rows: list[Row] = []

    def add(more: list[Row]) -> None:
        """Write the table at once, so that a later failure cannot lose it."""
        rows.extend(more)
        if values.markdown is not None:
            files.write_whole(Path(values.markdown), _markdown(rows, device))

    for name in values.cores or CORES:
        add(_unrolls(name, values, device, tell))
    for batch in ACTING_BATCHES if "rdn" in (values.cores or CORES) else ():
        add(time_acting(batch, values, device))
    return rows


COLUMNS = ("core", "map", "what", "steps", "batch", "resets", "way", "launch", "µs", "p20", "p80", "error")


def _cells(row: Row) -> list[str]:
    times = [f"{1e3 * row[key]:.1f}" for key in ("time_ms", "time_ms_p20", "time_ms_p80")]
    shape = [str(row["steps"]), str(row["batch"]), f"{row['reset_density']:.1%}"]
    error = "" if row["error"] is None else f"{row['error']:.0e}"
    return [row["core"], row["feature_map"] or "", row["what"], *shape, row["way"], row["launch"], *times, error]


def _markdown(rows: list[Row], device: torch.device) -> str:
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    lines = [COLUMNS, ["---"] * len(COLUMNS), *map(_cells, rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"Fused kernels on {machine}, torch {torch.__version__}, CUDA {torch.version.cuda}.\n\n{table}\n"


def _table(rows: list[Row]) -> Table:
    table = Table(title="Fused kernels", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    lines = [_cells(row) for row in rows]
    for column, cells in zip(COLUMNS, zip(*lines, strict=True), strict=True):
        # No narrower than its cells: a line that is too long for the terminal goes on below, but loses no digit.
        justify: JustifyMethod = "left" if column in ("core", "map", "what", "way", "launch") else "right"
        table.add_column(column, justify=justify, min_width=max(map(len, (column, *cells))))
    for line in lines:
        table.add_row(*line)
    return table


BENCHMARK = Benchmark(
    description="Check the fused kernels, then time them against loops, torch.compile and others.",
    keys=KEYS,
    add_options=_add_options,
    check=_check,
    run=_run,
    table=_table,
)
