"""Fixtures of several files."""

import shutil

import pytest
from saved import TRAIN, resume

from rfwp.runners.cli import main


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """A run with two checkpoints."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    for steps in ("400", "800"):
        assert (
            main([*TRAIN, "--total_steps", steps, "--run", str(path)] if steps == "400" else resume(path, steps)) == 0
        )
    return path


@pytest.fixture
def run(whole_run, tmp_path):
    return shutil.copytree(whole_run, tmp_path / "run")
