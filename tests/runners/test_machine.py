"""How the machine is shared, and how signals stop a run."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rfwp.agents import host
from rfwp.runners.machine import resources, signals
from rfwp.runners.runfolder.folder import commit


@pytest.mark.parametrize("processes", [1, 2, 3, 7, 64])
def test_cores_are_shared_out_whole_and_evenly(monkeypatch, processes):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 5, 7, 11, 13, 17})
    shares = resources.share_cores(processes)
    assert len(shares) == processes
    assert {core for share in shares for core in share} == {2, 3, 5, 7, 11, 13, 17}
    sizes = {len(share) for share in shares}
    assert max(sizes) - min(sizes) <= 1
    if processes <= 7:
        assert sum(map(len, shares)) == 7  # no core twice


def test_no_more_cores_are_shared_out_than_the_container_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(host, "cpu_limit", lambda: 4.0)
    assert resources.share_cores(4) == [[0], [1], [2], [3]]


def test_the_echo_of_a_signal_does_not_end_the_process(monkeypatch):
    now, stops = [50.0], []
    monkeypatch.setattr(signals, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(os, "_exit", sys.exit)
    with signals.StopSignals(lambda: stops.append(1)) as received:
        signal.raise_signal(signal.SIGINT)
        now[0] += 0.9 * signals.ECHO
        signal.raise_signal(signal.SIGTERM)
        assert (stops, received.exit_code) == ([1], 130)
        now[0] += 0.2 * signals.ECHO
        with pytest.raises(SystemExit, match="143"):
            signal.raise_signal(signal.SIGTERM)


def test_the_commit_is_that_of_the_checkout_and_of_no_repository_around_it(tmp_path):
    git = ["git", "-c", "user.name=x", "-c", "user.email=x", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, encoding="utf-8").stdout.strip()
    assert commit(tmp_path) == head
    (tmp_path / "unpacked").mkdir()
    assert commit(tmp_path / "unpacked") == "not a git checkout"
    root = Path(__file__).resolve().parent.parent.parent
    if (root / ".git").exists():
        assert re.fullmatch("[0-9a-f]{40}[+]?", commit())
