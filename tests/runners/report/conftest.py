"""Run folders as training leaves them, with records that were made up, so that what comes out can be worked out."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.runfolder.metrics_log import METRICS
from rfwp.runners.settings.config import AgentRunConfig
from rfwp.runners.settings.kinds import AGENT
from rfwp.runners.settings.options import config_from_words


@functools.cache
def config_of(words: str) -> AgentRunConfig:
    return config_from_words(words.split())


def write_run(
    parent: Path,
    game: str,
    core: str,
    seed: int,
    score: float | None = None,
    returns: tuple[float | None, ...] = (None, 1.0, 2.0),
    total_steps: int = 3000,
    words: str = "",
) -> RunFolder:
    """A run with a line of metrics every 1,000 agent steps and 10 s, and an evaluation if there is a `score`."""
    if game.endswith(("-v0", "-v1")):
        env = f"--env gym --env.id {game}"
    else:
        env = f"--env {game}" if game in ("recall", "delayed_cue") else f"--env atari --env.game {game} --preset cpu"
    config = config_of(f"{env} --core {core} {words}")
    folder = RunFolder(parent / f"{game}-{core}-{seed}")
    folder.create()
    folder.write_config(dataclasses.replace(config, seed=seed, total_steps=total_steps))
    with folder.metrics_file.open("w") as file:
        for line, value in enumerate(returns, start=1):
            facts = {
                "steps": 1000 * line,
                "wall_seconds": 10.0 * line,
                "episodes": 40 * line,
                "return_mean": value,
            }
            facts |= {"steps_per_second": 100.0, "policy_lag": 2.0, "importance_weight_clipped": 0.4}
            file.write(json.dumps(dict.fromkeys(METRICS[AGENT]) | facts) + "\n")
    if score is not None:
        write_evaluation(folder, score, steps=1000 * len(returns))
    return folder


def write_evaluation(folder: RunFolder, mean: float, **facts: object) -> None:
    env = folder.read_values()["env"]
    facts = {"env": env.get("game", env.get("id", env["name"])), "protocol": env.get("protocol")} | facts
    facts = {"policy": "sampled", "score": "episode", "seed": 0, "episodes": 30} | facts
    folder.evaluations.mkdir(exist_ok=True)
    path = folder.evaluations / f"{len(list(folder.evaluations.iterdir()))}.json"
    path.write_text(json.dumps(facts | {"mean": mean}))


@pytest.fixture(scope="session")
def make_run() -> Callable[..., RunFolder]:
    return write_run


@pytest.fixture(scope="session")
def add_evaluation() -> Callable[..., None]:
    return write_evaluation
