"""Benchmarks: what they print, write and refuse. How fast anything is is not tested."""

import json
import re
from itertools import repeat

import pytest
import torch

from rfwp.runners.bench import benchmark
from rfwp.runners.bench import cores as bench_cores
from rfwp.runners.bench.benchmark import LEAST_REPEATS, measure
from rfwp.runners.cli import main
from rfwp.runners.commands.bench import BENCHMARKS, CIRCUMSTANCES
from rfwp.runners.settings import components

CPU = torch.device("cpu")
CORES = "bench cores --seconds 0.001 --device cpu".split()


@pytest.fixture(autouse=True)
def _short_unrolls(monkeypatch):
    monkeypatch.setattr(bench_cores, "UNROLL_LENGTH", 2)


def times(row):
    return {key: value for key, value in row.items() if "_ms" in key}


class Clock:
    """Stands still but while a function "runs"."""

    def __init__(self, seconds):
        self.now, self._seconds = 0.0, iter(seconds)

    def perf_counter(self):
        return self.now

    def run(self):
        self.now += next(self._seconds)


def test_a_timing_is_the_median_between_its_percentiles(monkeypatch):
    clock = Clock([1, 1, *[0.02] * 4, 0.001])  # the first two are the warm-up
    monkeypatch.setattr(benchmark, "time", clock)
    timing = measure(clock.run, 1e-9, CPU)
    assert timing.repeats == LEAST_REPEATS
    assert timing[:3] == pytest.approx((20, 1 + 0.8 * 19, 20))


def test_a_function_is_timed_for_as_long_as_was_asked(monkeypatch):
    clock = Clock(repeat(1 / 64))
    monkeypatch.setattr(benchmark, "time", clock)
    assert measure(clock.run, 0.5, CPU).repeats == 32
    assert clock.now == 0.5 + 0.125  # with the warm-up


def test_cores_are_timed_and_weighed(capsys):
    assert main([*CORES, "--json", "-", "--cores", "gru", "feedforward"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["core"] for row in rows] == ["gru", "feedforward"]
    for row in rows:
        assert row.keys() == BENCHMARKS["cores"].keys.keys() | CIRCUMSTANCES.keys()
        assert all(value > 0 for value in times(row).values())
        assert all(row[f"{name}_ms_p20"] <= row[f"{name}_ms"] <= row[f"{name}_ms_p80"] for name in ("act_1", "unroll"))
        assert (row["device"], row["precision"], row["torch"]) == ("cpu", "float32", torch.__version__)
    gru, feedforward = rows
    assert (gru["parameters"], gru["state_bytes"]) == (3 * 256 * (257 + 256 + 2), 4 * 256)
    assert (feedforward["parameters"], feedforward["state_bytes"]) == (0, 0)


def test_a_file_gets_the_json_and_the_screen_the_table(tmp_path, capsys):
    path = tmp_path / "cores.json"
    assert main([*CORES, "--json", str(path), "--cores", "feedforward", "feedforward"]) == 0
    (row,) = json.loads(path.read_text())
    shown = capsys.readouterr().out
    assert "feedforward" in shown
    assert f"torch {row['torch']}" in " ".join(shown.split())


def test_every_core_is_timed_unless_some_are_named(capsys):
    assert main([*CORES, "--json", "-"]) == 0
    rows = {row["core"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == components.names("core")
    # RDN: 4 bytes; two layers of four heads, each with a 32 x 32 matrix and its last output.
    assert rows["rdn"]["state_bytes"] == 4 * 2 * 4 * (32 * 32 + 32)


WRONG = [
    ("bench", "allowed: cores, kernels"),
    ("bench core", "got 'core'; allowed: cores"),
    ("bench cores --cores lstm rnd", "got 'rnd'; allowed: .*did you mean rdn"),
    ("bench cores --cores", "cores"),
    ("bench cores --seconds 0", "seconds: got 0.0; allowed: a number above 0"),
    ("bench cores --seconds nan", "seconds: got nan; allowed: a finite number"),
    ("bench cores --seconds inf", "seconds: got inf; allowed: a finite number"),
    ("bench cores --seconds soon", "seconds: got soon; allowed: a finite number"),
    ("bench cores --device tpu", "device: got 'tpu'; allowed: auto, cpu, cuda"),
    ("bench cores --json nowhere/cores.json", "json: got 'nowhere/cores.json'"),
    ("bench cores --json .", "json: got '.'"),
    ("bench cores stray", "stray: there is no such option"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_a_wrong_word_is_refused_in_one_line_before_anything_is_timed(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rfwp.runners.bench.cores.time_core", None)
    assert main(words.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert re.search(message, shown.err)
