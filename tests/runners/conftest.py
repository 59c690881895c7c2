"""What tests of the command line share: a run that nobody had to wait for, and processes."""

import subprocess

import pytest
import torch

from rfwp.runners.build import build_agent
from rfwp.runners.machine.resources import own_command
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.runfolder.manifest import Manifest
from rfwp.runners.settings.options import config_from_words


@pytest.fixture(scope="session")
def atari_run(tmp_path_factory):
    """The folder of a run on Breakout with an untrained agent as its only checkpoint; to be read only."""
    folder = RunFolder(tmp_path_factory.mktemp("atari") / "run")
    words = "--preset=cpu --env=atari --env.game=breakout --core=rdn --core.hidden_size=16".split()
    config = config_from_words(words)
    torch.manual_seed(0)
    folder.create()
    folder.keep_interface("env", config.env.spec().interface)
    folder.write_config(config)
    manifest = Manifest(steps=0, score=None)
    folder.checkpoints.save(build_agent(config, torch.device("cpu")), {}, manifest)
    return folder.path


@pytest.fixture
def start():
    """Starts the command line in its own process group, and kills it after the test."""
    started = []

    def run(*words: str) -> subprocess.Popen:
        started.append(
            subprocess.Popen(
                own_command(*words),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield run
    for process in started:
        process.kill()
        if not process.stdout.closed:  # by the test
            process.communicate()
