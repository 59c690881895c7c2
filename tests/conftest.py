"""Fixtures for all tests."""

import multiprocessing

import pytest
import torch


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Keep what is cached on disk in the test's own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def denormal_numbers():
    """Undo what training in the same process has set: Hypothesis draws denormal numbers."""
    torch.set_flush_denormal(False)


def pytest_sessionfinish() -> None:
    """Kill actors that a failed test left behind: Python would wait for them at its exit, and they ignore SIGTERM."""
    for process in multiprocessing.active_children():
        process.kill()
