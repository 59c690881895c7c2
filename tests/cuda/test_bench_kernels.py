"""`rfwp bench kernels`, with the kernels on the CPU: everything but the clock and the graphs of a GPU."""

import json
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from rfwp.runners.bench import benchmark
from rfwp.runners.bench import kernels as bench_kernels
from rfwp.runners.bench.benchmark import LEAST_RUN, measure_runs
from rfwp.runners.bench.kernel_peers import PAPER_MODULE, peers, segments_of
from rfwp.runners.cli import main
from rfwp.runners.commands.bench import CIRCUMSTANCES
from rfwp.runners.settings import components

CPU = torch.device("cpu")
BENCH = "bench kernels --device cpu --runs 2 --json -".split()


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(bench_kernels, "SHAPES", ((4, 2),))
    monkeypatch.setattr(bench_kernels, "ACTING_BATCHES", (3,))
    monkeypatch.setattr(bench_kernels, "RESET_DENSITY", 0.4)


def rows_of(words, capsys):
    assert main([*BENCH, *words.split()]) == 0
    rows, table = capsys.readouterr()
    assert "…" not in table  # in 80 columns
    return json.loads(rows)


def test_every_kernel_is_checked_and_timed_beside_its_loop(on_cpu, capsys):
    rows = rows_of("--beside", capsys)
    for row in rows:
        assert row.keys() == bench_kernels.KEYS.keys() | CIRCUMSTANCES.keys()
        assert 0 < row["time_ms_p20"] <= row["time_ms"] <= row["time_ms_p80"]
        assert (row["launch"], row["time_repeats"]) == ("eager", 2)
    unrolls = [(row["core"], row["way"], row["what"]) for row in rows if row["what"] != "act"]
    wanted = [
        (core, way, what) for core in bench_kernels.CORES for way in ("kernel", "loop") for what in ("forward", "both")
    ]
    assert sorted(unrolls) == sorted(wanted * 2)  # with resets and without
    assert [row["batch"] for row in rows if row["what"] == "act"] == [3]
    assert all(row["error"] < 1e-4 for row in rows if row["way"] == "kernel")
    assert all(row["error"] is None for row in rows if row["way"] == "loop")


def test_kernels_are_timed_with_another_feature_map(on_cpu, capsys):
    rows = rows_of("--cores rdn delta_net --feature_map l2 --beside", capsys)
    assert {(row["core"], row["feature_map"]) for row in rows} == {("rdn", "l2"), ("delta_net", None)}


def test_pytorchs_lstm_whole_and_cut_into_episodes_is_the_lstm(on_cpu, capsys):
    rows = [row for row in rows_of("--cores lstm --beside cudnn packed", capsys) if row["way"] in ("cudnn", "packed")]
    assert [(row["way"], row["what"]) for row in rows] == [
        (way, what) for way in ("cudnn", "packed", "packed") for what in ("forward", "both")
    ]
    assert all(row["error"] < 1e-4 for row in rows)


@pytest.mark.slow
def test_a_compiled_step_is_timed(on_cpu, capsys):
    rows = [row for row in rows_of("--cores delta_net --beside compiled", capsys) if row["way"] == "compiled"]
    assert len(rows) == 4
    assert all(row["error"] < 1e-4 for row in rows)


def test_episodes_are_cut_at_resets():
    reset = torch.tensor([[0, 1], [1, 0], [0, 0]]).bool()
    assert segments_of(reset) == [(0, 0, 1, False), (0, 1, 3, True), (1, 0, 3, True)]


def delta_rule(q, k, v, beta, scale, initial_state, output_final_state):
    """The equations of flash-linear-attention's kernel, by its signature: [B, T, H, ...], state [B, H, K, V]."""
    state, reads = initial_state, []
    for t in range(q.shape[1]):
        old = torch.einsum("bhkv,bhk->bhv", state, k[:, t])
        change = beta[:, t, :, None] * (v[:, t] - old)
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, t], change)
        reads.append(scale * torch.einsum("bhkv,bhk->bhv", state, q[:, t]))
    return torch.stack(reads, 1), state


def test_flash_linear_attention_is_given_what_it_takes(on_cpu, capsys, monkeypatch):
    module = ModuleType("fla.ops.delta_rule")
    module.fused_recurrent_delta_rule = delta_rule
    for name in ("fla", "fla.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "fla.ops.delta_rule", module)
    rows = [row for row in rows_of("--cores delta_net --beside fla", capsys) if row["way"] == "fla"]
    assert [(row["what"], row["reset_density"]) for row in rows] == [("forward", 0), ("both", 0)]
    assert all(row["error"] < 1e-4 for row in rows)


# The equations of the paper's kernel, by its signature: [B, H, T, ...], W [B, H, K, V], and R as [1, H, D, ...].
PAPER = """
import torch

def rec_update_fwm_tanh(qx, kx, vx, bx, R_q, R_k, R_v, r_b, W, h0):
    given, W, h, outs = W, W.clone(), h0, []
    for t in range(qx.shape[2]):
        s = h.tanh()
        q, k = ((x[:, :, t : t + 1] + s @ R).softmax(-1) for x, R in ((qx, R_q), (kx, R_k)))
        v, beta = vx[:, :, t : t + 1] + s @ R_v, (bx[:, :, t : t + 1] + s @ r_b.mT).sigmoid()
        W = W + k.mT @ (beta * (v - k @ W))
        h = q @ W
        outs.append(h)
    given.copy_(W.detach())  # as the paper's does
    return torch.cat(outs, 2)
"""


def test_the_papers_kernel_is_given_what_it_takes(on_cpu, capsys, tmp_path):
    path = tmp_path / PAPER_MODULE
    path.parent.mkdir(parents=True)
    path.write_text(PAPER)
    core = components.config_class("core", "rdn")().build(bench_kernels.INPUT_SIZE)
    problem = bench_kernels.problem_for(core, 4, 2, 0.0, CPU)
    ways = peers("rdn", core, (), tmp_path)
    read, expected = (bench_kernels.forward(ways[way], problem)[0] for way in ("paper", "loop"))
    torch.testing.assert_close(read.view_as(expected), expected)
    rows = [row for row in rows_of(f"--cores rdn --beside --paper {tmp_path}", capsys) if row["way"] == "paper"]
    assert [(row["what"], row["reset_density"]) for row in rows] == [("forward", 0), ("both", 0)]


def test_a_kernel_that_is_wrong_is_not_timed(on_cpu, capsys, monkeypatch):
    monkeypatch.setattr(bench_kernels, "largest_error", lambda *_: float("nan"))
    assert main([*BENCH, "--cores", "gru"]) == 2
    assert "gru, forward: differs from the loop by nan" in capsys.readouterr().err


def test_the_table_is_written_as_markdown(on_cpu, capsys, tmp_path):
    rows = rows_of(f"--cores gru --beside --markdown {tmp_path / 'kernels.md'}", capsys)
    heading, _, *table = (tmp_path / "kernels.md").read_text().splitlines()
    assert torch.__version__ in heading
    assert len(table) == 2 + len(rows)
    assert {line.count("|") for line in table} == {len(bench_kernels.COLUMNS) + 1}


def test_a_run_too_short_for_the_clock_is_many_calls(monkeypatch):
    calls, seconds = [], LEAST_RUN / 16  # of a call
    monkeypatch.setattr(benchmark, "time", SimpleNamespace(perf_counter=lambda: seconds * len(calls)))
    timing = measure_runs(lambda: calls.append(1), 3, CPU)
    assert timing.repeats == 3
    assert timing.median == pytest.approx(1e3 * seconds)
    assert len(calls) in (2 + 3 * 16, 2 + 3 * 17)  # by rounding


WRONG = [
    ("", "device: got cpu; the fused kernels run on NVIDIA's GPUs"),
    ("--cores srwm", "cores: got 'srwm'; allowed: linear_transformer, .*"),
    ("--beside rival", "beside: got 'rival'; allowed: compiled, cudnn, packed, fla"),
    ("--runs 0", "runs: got 0; allowed: 1 or more"),
    ("--markdown nowhere/x.md", "markdown: cannot write 'nowhere/x.md'"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_a_wrong_word_is_refused_in_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*BENCH, *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)


def test_a_checkout_without_the_kernel_is_refused(on_cpu, capsys, tmp_path):
    assert main([*BENCH, "--cores", "rdn", "--paper", str(tmp_path)]) == 2
    assert "allowed: a checkout of the paper's code" in capsys.readouterr().err
