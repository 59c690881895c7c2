"""Fixtures for all tests."""

import pytest


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Keep what is cached on disk in the test's own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
