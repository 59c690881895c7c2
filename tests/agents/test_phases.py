"""Phases: what was done when is added up by name, and waiting is told apart from work."""

import time

import pytest

from rfwp.agents.phases import WAIT, Phases, busy_seconds


def test_seconds_add_up_by_phase_and_waiting_is_not_work():
    phases = Phases()
    for _ in range(2):
        with phases("act"):
            time.sleep(0.01)
    with phases(WAIT):
        time.sleep(0.05)
    assert phases.seconds["act"] >= 0.02
    assert phases.seconds[WAIT] >= 0.05
    assert busy_seconds(phases.seconds) == phases.seconds["act"]


def test_a_phase_that_fails_is_counted_too():
    phases = Phases()
    with pytest.raises(KeyError), phases("act"):
        raise KeyError
    assert phases.seconds.keys() == {"act"}
