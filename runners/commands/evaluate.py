"""`rfwp evaluate`: scores a checkpoint of a run, and films a game of it."""

import json
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from rfwp.envs.worlds import atari
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners import machine
from rfwp.runners.config import TrainConfig
from rfwp.runners.errors import UserError
from rfwp.runners.evaluate import Policy, Score
from rfwp.runners.options import parse
from rfwp.runners.run_folder import RunFolder
from rfwp.runners.scoreboard import print_evaluation, run_evaluation
from rfwp.runners.train import build_agent
from rfwp.runners.video import film


def run(argv: Sequence[str]) -> int:
    """From the words after `rfwp evaluate` to the exit code."""
    values = parse(_parser(), argv)
    folder = RunFolder(Path(values.run))
    config = folder.read_config()
    _check(values, config)
    machine.keep_freed_memory()
    agent = build_agent(config, machine.pick_device(values.device))
    with folder.checkpoints.whole_one_offered("--checkpoint"):
        checkpoint = folder.checkpoints.find(values.checkpoint)
        checkpoint.load_weights(agent)
    steps, console = checkpoint.manifest.agent_steps, Console(stderr=values.json == "-")
    policy, score, seed = values.policy, values.score, values.seed
    result = run_evaluation(agent, config, values.episodes, steps, console, policy, score, seed)
    if values.json == "-":
        print(json.dumps(result.summary(), indent=2))
    else:
        name = f"step-{steps:012d}-{policy}-{score}-seed{seed}.json"
        result.write(Path(values.json) if values.json else folder.evaluations / name)
        print_evaluation(result, console)
    if values.video:
        _film(agent, config, folder, steps, policy, seed, console)
    return 0


def _check(values: Namespace, config: TrainConfig) -> None:
    """UserError for what cannot be done, before any game is played."""
    atari_env = config.env if isinstance(config.env, atari.Config) else None
    if values.episodes < 1:
        raise UserError(f"episodes: got {values.episodes}; allowed: a whole number of at least 1")
    if not 0 <= values.seed < 2**31:
        raise UserError(f"seed: got {values.seed}; allowed: a whole number from 0 to {2**31 - 1}")
    if values.score == "life" and not (atari_env and atari_env.rules.life_ends_episode):
        raise UserError(
            "score: got life; allowed: game, for lost lives end no episode in this run (in protocol dqn they do)"
        )
    if values.video and atari_env is None:
        raise UserError(f"video: {config.env.title} has no screen to film; only Atari games have")
    if values.json not in (None, "-") and not Path(values.json).absolute().parent.is_dir():
        raise UserError(f"json: got {values.json!r}; allowed: a file in a folder that exists, or -")


def _film(
    agent: ActorCritic,
    config: TrainConfig,
    folder: RunFolder,
    steps: int,
    policy: Policy,
    seed: int,
    console: Console,
) -> None:
    assert isinstance(config.env, atari.Config)  # `_check` has seen to it
    path = folder.videos / f"step-{steps:012d}-{policy}-seed{seed}.mp4"
    with console.status("filming a game ..."):
        game = film(agent, config.env, path, policy, seed)
    console.print(f"Filmed a game that scored {game.score:g}: {path}", soft_wrap=True, markup=False)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="rfwp evaluate",
        exit_on_error=False,
        allow_abbrev=False,
        description="Plays full games with the agent of a run and prints its raw scores with their protocol.",
    )
    parser.add_argument("run", type=str, metavar="RUN", help="folder of the run")
    parser.add_argument("--episodes", type=int, default=30, help="games (or lives) that are started; all are finished")
    parser.add_argument("--policy", type=Policy, default="sampled", help="how actions are chosen")
    parser.add_argument("--score", type=Score, default="game", help="score full games, or single lives")
    parser.add_argument("--checkpoint", type=str, default="last", metavar="best|last|STEP", help="which checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="of the games and of sampled actions")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:0, ...")
    parser.add_argument("--video", action="store_true", help="film one more game into the run's videos/ (mp4)")
    parser.add_argument("--json", type=str | None, metavar="FILE", help="write the result here; - for standard output")
    return parser
