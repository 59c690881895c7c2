"""`rfwp bench cores`: times acting and learning of every memory core, with default settings and no encoder."""

from argparse import Namespace
from collections.abc import Callable

import torch
from rich import box
from rich.table import Table

from rfwp.models.core import Core
from rfwp.runners.bench.benchmark import Benchmark, Row, Timing, measure, timing_cell, timing_columns, timing_keys
from rfwp.runners.settings import components
from rfwp.runners.settings.parsing import Parser

ACTING_BATCHES = (1, 32, 256)
UNROLL_LENGTH, UNROLL_BATCH = 50, 32
INPUT_SIZE = 257  # 256 features and the reward
RESET_DENSITY = 0.01

_ACTING = {batch: f"an agent step of {batch} environments (T = 1, no gradients)" for batch in ACTING_BATCHES}
_UNROLL = "forward and backward over an unroll, with gradients of all weights and the input"

KEYS = {
    "core": "name of the core, with default settings",
    "parameters": "weights of the core, without encoder and heads",
    "state_bytes": "bytes of recurrent state per environment",
    **{key: meaning for batch, what in _ACTING.items() for key, meaning in timing_keys(f"act_{batch}", what).items()},
    **timing_keys("unroll", _UNROLL),
    "input_size": "size of the core's input",
    "unroll_length": "agent steps of the unroll",
    "unroll_batch": "sequences of the unroll",
    "reset_density": "share of the unroll's steps that start an episode",
}


def time_core(name: str, seconds: float, device: torch.device) -> Row:
    """Return facts and times of one core in float32; each measurement takes about `seconds` seconds."""
    torch.manual_seed(0)
    core: Core = components.config_class("core", name)().build(INPUT_SIZE).to(device)
    row: Row = {
        "core": name,
        "parameters": sum(parameter.numel() for parameter in core.parameters()),
        "state_bytes": sum(leaf.numel() * leaf.element_size() for leaf in core.initial_state(1)),
    }
    for batch in ACTING_BATCHES:
        row |= timing_columns(f"act_{batch}", time_acting(core, batch, seconds, device))
    row |= timing_columns("unroll", time_unroll(core, seconds, device))
    return row | {
        "input_size": INPUT_SIZE,
        "unroll_length": UNROLL_LENGTH,
        "unroll_batch": UNROLL_BATCH,
        "reset_density": RESET_DENSITY,
    }


def time_acting(core: Core, batch: int, seconds: float, device: torch.device) -> Timing:
    """Time one agent step of a batch of environments as in acting: T = 1, no gradients."""
    x = torch.randn(1, batch, INPUT_SIZE, device=device)
    first = torch.zeros(1, batch, dtype=torch.bool, device=device)
    with torch.no_grad():
        _, state = core(x, core.initial_state(batch, device), first)
        return measure(lambda: core(x, state, first), seconds, device)


def time_unroll(core: Core, seconds: float, device: torch.device) -> Timing:
    """Time forward and backward over an unroll [UNROLL_LENGTH, UNROLL_BATCH] with some resets in it."""
    x = torch.randn(UNROLL_LENGTH, UNROLL_BATCH, INPUT_SIZE, device=device, requires_grad=True)
    first = torch.rand(UNROLL_LENGTH, UNROLL_BATCH, device=device) < RESET_DENSITY
    state, wanted = core.initial_state(UNROLL_BATCH, device), [x, *core.parameters()]
    direction = torch.randn(UNROLL_LENGTH, UNROLL_BATCH, core.output_size, device=device)

    def learn() -> None:
        outputs, _ = core(x, state, first)
        torch.autograd.grad(outputs, wanted, direction)

    return measure(learn, seconds, device)


def _add_options(parser: Parser) -> None:
    parser.add_argument("--cores", type=str, nargs="+", metavar="NAME", help="only these cores")


def _chosen(values: Namespace) -> list[str]:
    return list(dict.fromkeys(values.cores or components.names("core")))


def _check(values: Namespace) -> None:
    for name in _chosen(values):
        components.config_class("core", name)


def _run(values: Namespace, device: torch.device, tell: Callable[[str], None]) -> list[Row]:
    rows = []
    for name in _chosen(values):
        tell(name)
        rows.append(time_core(name, values.seconds, device))
    return rows


def _table(rows: list[Row]) -> Table:
    table = Table(
        title="Memory cores",
        caption="Times in milliseconds: median, and 20th to 80th percentile. Acting: one agent step of a batch."
        f" Learning: forward and backward over an unroll of {UNROLL_LENGTH} steps of {UNROLL_BATCH} sequences.",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("\ncore", no_wrap=True)
    learn = f"learn\n{UNROLL_LENGTH} × {UNROLL_BATCH}"
    for heading in ("\nweights", "state\nkB", *(f"act\n{batch}" for batch in ACTING_BATCHES), learn):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        times = [timing_cell(row, name) for name in (*(f"act_{batch}" for batch in ACTING_BATCHES), "unroll")]
        table.add_row(row["core"], f"{row['parameters']:,}", f"{row['state_bytes'] / 1e3:.1f}", *times)
    return table


BENCHMARK = Benchmark(
    description="Time every memory core: acting steps, and forward and backward over an unroll.",
    keys=KEYS,
    add_options=_add_options,
    check=_check,
    run=_run,
    table=_table,
)
