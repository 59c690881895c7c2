"""The commands of the command line, each from its words to its exit code."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from rfwp.agents.actors import ActorFailure
from rfwp.envs.worlds import atari
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners import components, machine
from rfwp.runners.config import FIXED, TrainConfig, to_dict
from rfwp.runners.display import open_display
from rfwp.runners.errors import UserError
from rfwp.runners.evaluate import Evaluation, Policy, Score
from rfwp.runners.evaluate import evaluate as evaluate_agent
from rfwp.runners.options import build_config, parse, parse_train, peek, read_config_file
from rfwp.runners.run_folder import RunFolder, new_run_folder
from rfwp.runners.signals import StopSignals
from rfwp.runners.train import Trainer, build_agent
from rfwp.runners.video import film


def train(argv: Sequence[str]) -> int:
    """`rfwp train`: begins or resumes a run, evaluates it at its end."""
    early = peek(argv)
    run, config_file = early["run"], early["config"]
    folder = RunFolder(Path(run)) if run else None
    resuming = folder is not None and folder.exists
    if folder is not None and resuming:
        if config_file:
            raise UserError(f"config: got {config_file!r}, but the run {run!r} has its own already; leave --config out")
        base = folder.read_values()
    else:
        base = read_config_file(Path(config_file)) if config_file else {}
    values = parse_train(argv, base)
    config = build_config(values)
    if early["print_config"]:
        print(yaml.safe_dump(to_dict(config), sort_keys=False), end="")
        return 0
    if folder is not None and resuming:
        _refuse_changes(folder, config)
    folder = folder or new_run_folder(config)
    return _train(config, folder, Console())


def _train(config: TrainConfig, folder: RunFolder, console: Console) -> int:
    machine.keep_freed_memory()
    machine.pick_device(config.device)
    folder.create()
    with folder.locked(), StopSignals() as stop:
        with open_display(str(folder.path), config.total_steps, console) as display:
            trainer = Trainer(config, folder, display)
            if folder.checkpoints.steps():
                trainer.resume()
            folder.write_config(config)
            _announce(trainer, console)
            if not trainer.done:
                try:
                    trainer.run(stop)
                except ActorFailure as failure:
                    print(f"rfwp train: the games cannot be played: {failure}", file=sys.stderr)
                    return 1
        resume = f"rfwp train --run {folder.path}"
        if stop.received is not None:
            console.print(
                f"Stopped at {trainer.learner.agent_steps:,} agent steps; saved. To go on:\n  {resume}", soft_wrap=True
            )
            return stop.exit_code
        if config.final_games:
            result = _evaluate(trainer.agent, config, config.final_games, trainer.learner.agent_steps, console)
            result.write(folder.evaluations / f"step-{trainer.learner.agent_steps:012d}-final.json")
            _print_evaluation(result, console)
    console.print(
        f"Run folder: {folder.path}\n"
        f"  score it again:  rfwp evaluate {folder.path}\n"
        f"  watch a game:    rfwp evaluate {folder.path} --video\n"
        f"  see its curves:  tensorboard --logdir {folder.path}",
        soft_wrap=True,
        highlight=False,
    )
    return 0


def _announce(trainer: Trainer, console: Console) -> None:
    config, steps = trainer.config, trainer.learner.agent_steps
    parameters = sum(parameter.numel() for parameter in trainer.agent.parameters())
    processes = config.actors.num_processes(machine.cores())
    console.print(
        f"{config.env.title}, core {components.name_of(config.core)}, {parameters:,} parameters, on {trainer.device} "
        f"({str(trainer.agent.encoder_precision).removeprefix('torch.')} encoder); "
        f"{config.actors.games} games in {processes} processes on {machine.cores()} cores",
        soft_wrap=True,
        highlight=False,
    )
    if trainer.done:
        console.print(f"The run is complete: {steps:,} steps. A larger --total_steps goes on.", soft_wrap=True)
    elif steps:
        console.print(f"Resuming at {steps:,} of {config.total_steps:,} agent steps.", soft_wrap=True)


def _refuse_changes(folder: RunFolder, config: TrainConfig) -> None:
    """UserError if what a run has learned would not fit its new settings."""
    before, after = to_dict(folder.read_config()), to_dict(config)
    for section in FIXED:
        for name in before[section].keys() | after[section].keys():
            old, new = before[section].get(name), after[section].get(name)
            if old != new:
                raise UserError(
                    f"{section}.{name}: got {new!r}, but the run {str(folder.path)!r} was begun with {old!r};"
                    " that cannot change in a resumed run: choose another --run"
                )


def evaluate(argv: Sequence[str]) -> int:
    """`rfwp evaluate`: scores a checkpoint of a run."""
    values = parse(_evaluate_parser(), argv)
    if values.episodes < 1:
        raise UserError(f"episodes: got {values.episodes}; allowed: a whole number of at least 1")
    folder = RunFolder(Path(values.run))
    config = folder.read_config()
    machine.keep_freed_memory()
    agent = build_agent(config, machine.pick_device(values.device))
    checkpoint = folder.checkpoints.find(values.checkpoint)
    checkpoint.load_weights(agent)
    steps, console = checkpoint.manifest.agent_steps, Console(stderr=values.json == "-")
    result = _evaluate(agent, config, values.episodes, steps, console, values.policy, values.score, values.seed)
    if values.json == "-":
        print(json.dumps(result.summary(), indent=2))
        return 0
    name = f"step-{steps:012d}-{values.policy}-{values.score}-seed{values.seed}.json"
    try:
        result.write(Path(values.json) if values.json else folder.evaluations / name)
    except OSError as error:
        raise UserError(
            f"json: cannot write {values.json or str(folder.evaluations / name)!r}: {error.strerror}"
        ) from None
    _print_evaluation(result, console)
    if values.video:
        _film(agent, config, folder, steps, values.policy, values.seed, console)
    return 0


def _film(
    agent: ActorCritic,
    config: TrainConfig,
    folder: RunFolder,
    steps: int,
    policy: Policy,
    seed: int,
    console: Console,
) -> None:
    if not isinstance(config.env, atari.Config):
        raise UserError(f"video: {config.env.title} has no screen to film; only Atari games have")
    path = folder.videos / f"step-{steps:012d}-{policy}-seed{seed}.mp4"
    with console.status("filming a game ..."):
        game = film(agent, config.env, path, policy, seed)
    console.print(f"Filmed a game that scored {game.score:g}: {path}", soft_wrap=True)


def _evaluate_parser() -> ArgumentParser:
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


def _evaluate(
    agent: ActorCritic,
    config: TrainConfig,
    episodes: int,
    agent_steps: int,
    console: Console,
    policy: Policy = "sampled",
    score: Score = "game",
    seed: int = 0,
) -> Evaluation:
    torch.set_num_threads(machine.cores())
    with console.status(f"playing {episodes} {'games' if score == 'game' else 'lives'} ...") as status:
        return evaluate_agent(
            agent,
            config.env,
            episodes,
            policy,
            score,
            seed,
            agent_steps,
            machine.cores(),
            lambda finished: status.update(f"{finished} of {episodes} finished"),
        )


def _print_evaluation(result: Evaluation, console: Console) -> None:
    facts = result.summary()
    unit = "full games, all lives" if result.score == "game" else "single lives: not comparable with full games"
    table = Table(title=f"{result.game}: {len(result.games)} {unit}", title_justify="left", show_header=False)
    for name in ("mean", "median", "standard_deviation", "min", "max"):
        table.add_row(name.replace("_", " "), f"{facts[name]:,.2f}")
    if facts["human_normalised"] is not None and result.score == "game":
        table.add_row("human-normalised", f"{facts['human_normalised']:,.1f} %")
    table.add_row("mean length", f"{facts['length_mean']:,.0f} agent steps")
    table.add_row(
        "protocol",
        ", ".join(filter(None, [result.protocol, f"{result.policy} actions", "raw scores", f"seed {result.seed}"])),
    )
    table.add_row("trained for", f"{result.agent_steps:,} agent steps ({result.frames:,} frames)")
    console.print(table)


def cores(argv: Sequence[str]) -> int:
    """`rfwp cores`: every memory core, its size in the agent of the `paper` preset for Pong, and what it is."""
    parser = ArgumentParser(
        prog="rfwp cores", exit_on_error=False, allow_abbrev=False, description="Lists the memory cores."
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    values = parse(parser, argv)
    rows = [_core_facts(name) for name in components.names("core")]
    if values.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table("core", "parameters", "state floats", "what it is")
    for row in rows:
        table.add_row(row["name"], f"{row['parameters']:,}", f"{row['state_floats']:,}", row["description"])
    Console().print(table)
    return 0


def _core_facts(name: str) -> dict[str, Any]:
    words = ["--preset=paper", "--env=atari", "--env.game=pong", f"--core={name}", "--device=cpu"]
    agent = build_agent(build_config(parse_train(words, {})), torch.device("cpu"))
    return {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in agent.parameters()),
        "state_floats": sum(leaf.numel() for leaf in agent.initial_state(1)),
        "description": components.description("core", name),
    }
