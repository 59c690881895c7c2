"""`rfwp train`: begins or resumes a run, and evaluates it at its end."""

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console

from rfwp.agents.actors import ActorFailure
from rfwp.runners import components, machine
from rfwp.runners.config import FIXED, TrainConfig, to_dict
from rfwp.runners.display import open_display
from rfwp.runners.errors import UserError
from rfwp.runners.options import build_config, parse_train, peek, read_config_file
from rfwp.runners.run_folder import RunFolder, new_run_folder
from rfwp.runners.scoreboard import print_evaluation, run_evaluation
from rfwp.runners.signals import StopSignals
from rfwp.runners.train import Trainer


def run(argv: Sequence[str]) -> int:
    """From the words after `rfwp train` to the exit code."""
    early = peek(argv)
    path, config_file = early["run"], early["config"]
    folder = RunFolder(Path(path)) if path else None
    resuming = folder is not None and folder.exists
    if folder is not None and resuming:
        if config_file:
            raise UserError(
                f"config: got {config_file!r}, but the run {path!r} has its own already; leave --config out"
            )
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
    with folder.locked():
        with StopSignals() as stop, open_display(str(folder.path), config.total_steps, console) as display:
            trainer = Trainer(config, folder, display)
            if folder.checkpoints.steps():
                trainer.resume()
            folder.write_config(config)
            _announce(trainer, console)
            try:
                if not trainer.done:
                    trainer.run(stop)
            except ActorFailure as failure:
                print(f"rfwp train: the games cannot be played: {failure}", file=sys.stderr)
                return 1
        if stop.received is not None:
            steps = f"{trainer.learner.agent_steps:,} agent steps"
            console.print(f"Stopped at {steps}; saved. To go on:\n  rfwp train --run {folder.path}", soft_wrap=True)
            return stop.exit_code
        _conclude(trainer, console)
    return 0


def _conclude(trainer: Trainer, console: Console) -> None:
    """Evaluates a run that is complete, and says what can be done with it."""
    config, folder, steps = trainer.config, trainer.folder, trainer.learner.agent_steps
    if config.final_games:
        result = run_evaluation(trainer.agent, config, config.final_games, steps, console)
        result.write(folder.evaluations / f"step-{steps:012d}-final.json")
        print_evaluation(result, console)
    hints = {
        "score it again": f"rfwp evaluate {folder.path}",
        "watch a game": f"rfwp evaluate {folder.path} --video",
        "see its curves": f"tensorboard --logdir {folder.path}",
    }
    lines = [f"  {what + ':':16} {command}" for what, command in hints.items()]
    console.print("\n".join([f"Run folder: {folder.path}", *lines]), soft_wrap=True, highlight=False)


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
