"""The record of a run: no gap, no step told twice, nothing that JSON cannot hold."""

import hashlib
import json
import math
import os
import tracemalloc

import torch

from rfwp.agents.averages import Averages
from rfwp.agents.metrics import Episode, EpisodeStatistics
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.runfolder.metrics_file import check_metrics
from rfwp.runners.runfolder.metrics_log import MetricsLog
from rfwp.runners.settings.kinds import AGENT


def written(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_resuming_drops_what_lies_beyond_the_checkpoint_and_lines_cut_short(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(RunFolder(tmp_path), AGENT, 0) as log:
        for steps in (10, 20, 30):
            log.write({"steps": steps})
    path.write_text(path.read_text() + '{"agent_st')
    with MetricsLog(RunFolder(tmp_path), AGENT, 20) as log:
        log.write({"steps": 40})
    assert [line["steps"] for line in written(path)] == [10, 20, 40]


def test_a_long_record_is_taken_up_without_holding_it_in_memory(tmp_path):
    folder, lines = RunFolder(tmp_path), 50_000
    folder.metrics_file.write_text("".join(f'{{"steps": {n}, "note": "{"x" * 200}"}}\n' for n in range(lines)))
    size = folder.metrics_file.stat().st_size
    sha256 = hashlib.sha256(folder.metrics_file.read_bytes()).hexdigest()
    tracemalloc.start()
    try:
        check_metrics(folder.metrics_file, size, sha256)
        with MetricsLog(folder, AGENT, lines - 2) as log:
            kept, of_kept = log.position()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 10e6
    assert peak < 4e6
    text = folder.metrics_file.read_bytes()
    assert len(text.splitlines()) == lines - 1
    assert (kept, of_kept) == (len(text), hashlib.sha256(text).hexdigest())


def test_metrics_that_a_checkpoint_counts_on_are_on_disk(tmp_path, monkeypatch):
    on_disk = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: on_disk.append(os.fstat(descriptor).st_size))
    with MetricsLog(RunFolder(tmp_path), AGENT, 0) as log:
        log.write({"steps": 10})
        size, _ = log.position()
    assert on_disk == [size] == [(tmp_path / "metrics.jsonl").stat().st_size]


def test_what_is_not_finite_becomes_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(RunFolder(tmp_path), AGENT, 0) as log:
        log.write({"steps": 1, "entropy": math.nan, "value_mean": math.inf, "return_mean": None})
    assert written(path) == [{"steps": 1, "entropy": None, "value_mean": None, "return_mean": None}]


def test_averages_are_means_since_they_were_last_taken():
    averages = Averages()
    for value in (1.0, 3.0):
        averages.add({"entropy": torch.tensor(value), "value_mean": torch.tensor(-value)})
    assert averages.take() == {"entropy": 2.0, "value_mean": -2.0}
    assert averages.take() == {}


def test_statistics_cover_the_last_hundred_games_and_survive_a_round_trip():
    statistics = EpisodeStatistics()
    statistics.add(Episode(float(score), score) for score in range(150))
    again = EpisodeStatistics()
    again.load_state_dict(statistics.state_dict())
    assert again.metrics() == statistics.metrics()
    recent = {"return_mean": 99.5, "return_max": 149.0, "length_mean": 99.5}
    assert again.metrics() == {"episodes": 150, "return_total": 11175.0, **recent}
