"""How the machine is shared."""

import os

import pytest

from rfwp.agents import host
from rfwp.runners.machine import resources


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
