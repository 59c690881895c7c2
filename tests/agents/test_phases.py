"""Phases: what was done when is added up by name, and waiting is told apart from work."""

import pytest

from rfwp.agents import phases as phases_module
from rfwp.agents.phases import WAIT, Phases, busy_seconds


def test_seconds_add_up_by_phase_and_waiting_is_not_work(monkeypatch):
    clock = iter([0.0, 1.0, 5.0, 7.0, 10.0, 14.0])
    monkeypatch.setattr(phases_module.time, "perf_counter", lambda: next(clock))
    phases = Phases()
    for name in ("act", "act", WAIT):
        with phases(name):
            pass
    assert phases.seconds == {"act": 3.0, WAIT: 4.0}
    assert busy_seconds(phases.seconds) == 3.0


def test_a_phase_that_fails_is_counted_too():
    phases = Phases()
    with pytest.raises(KeyError), phases("act"):
        raise KeyError
    assert phases.seconds.keys() == {"act"}
