"""`rfwp train`: starts or resumes a run, and evaluates it at its end."""

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from rich.console import Console

from rfwp.agents import host
from rfwp.agents.actor_learner import ActorLearner
from rfwp.agents.actor_pool import ActorFailure
from rfwp.agents.collector import Diverged
from rfwp.agents.learner import Stuck
from rfwp.runners.build import build_system
from rfwp.runners.evaluation.scoreboard import print_evaluation, run_evaluation
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.signals import StopSignals
from rfwp.runners.runfolder.evaluations import final_evaluation, final_path, write_evaluation
from rfwp.runners.runfolder.folder import RunFolder, create_run_folder
from rfwp.runners.runfolder.metrics_log import check_metrics, newest_metrics
from rfwp.runners.settings import components
from rfwp.runners.settings.config import FINAL_POLICY, FINAL_SEED, FIXED, TrainConfig, differences, to_dict
from rfwp.runners.settings.options import named_run, read_command_line
from rfwp.runners.training.dashboard import command, open_display, say
from rfwp.runners.training.memory_estimate import check_sizes, sizes_named
from rfwp.runners.training.trainer import Trainer


def run(argv: Sequence[str]) -> int:
    """Run `rfwp train` with these words; return the exit code."""
    place = named_run(argv)
    if place == "":
        raise UserError("run: got ''; allowed: a folder")
    folder = RunFolder(Path(place)) if place else None
    before = folder.read_config() if folder is not None and folder.exists else None
    config, own = read_command_line(argv, below=None if before is None else to_dict(before))
    _check_request(own, config, folder, before)
    if own.print_config:
        print(yaml.safe_dump(to_dict(config), sort_keys=False), end="")
        return 0
    if folder is not None:
        folder.check_free()
    with sizes_named(config):  # refuse what does not fit before writing anything
        system = build_system(config)
        expected_bytes = check_sizes(config, system.agent, system.num_processes, system.device)
    if folder is None:
        folder = create_run_folder(config)
    folder.create()
    console = Console()
    display = open_display(str(folder.path), config.total_steps, console)
    trainer = Trainer(system, config, folder, display, own.profile)
    with folder.locked(), sizes_named(config):
        _take_up(trainer, own.resume_from, (before or config).total_steps)
        folder.write_config(config)
        _announce(system, config, expected_bytes, console)
        code = 0 if system.done else _train(trainer, console)
        if code == 0:
            _conclude(trainer, console)
    return code


def _check_request(own: Namespace, config: TrainConfig, folder: RunFolder | None, before: TrainConfig | None) -> None:
    """Raise UserError if a new run, or one resumed with the settings `before`, cannot take these options."""
    if own.profile < 0:
        raise UserError(f"profile: got {own.profile}; allowed: a number of updates, 1 or more")
    if folder is None or before is None:
        if own.resume_from is not None:
            raise UserError(f"resume_from: got {own.resume_from!r}; allowed: only with --run and an existing run")
        return
    for option in ("config", "preset"):
        if hasattr(own, option):
            raise UserError(
                f"{option}: got {getattr(own, option)!r}, but the run {str(folder.path)!r} already has"
                f" settings; leave --{option} out"
            )
    for name, (old, new) in differences(before, config).items():
        if name in FIXED or name.partition(".")[0] in FIXED:
            raise UserError(
                f"{name}: got {new!r}, but the run {str(folder.path)!r} was started with {old!r};"
                " a resumed run cannot change it: choose another --run"
            )


def _take_up(trainer: Trainer, which: str | None, total_before: int) -> None:
    """Load the checkpoint `which`, by default the last. Raise UserError before changing anything if it does not fit."""
    folder, config = trainer.folder, trainer.config
    if which is None and not folder.checkpoints.steps():
        _check_never_saved(folder, config)
        return
    with folder.checkpoints.suggesting_an_intact_one("--resume_from"):
        checkpoint = folder.checkpoints.find("last" if which is None else which)
        trainer.resume(checkpoint)
    check_metrics(folder.metrics_file, checkpoint.manifest.metrics_bytes, checkpoint.manifest.metrics_sha256)
    steps, total = checkpoint.manifest.agent_steps, config.total_steps
    if total < min(steps, total_before):  # a run usually overshoots its total_steps a little
        raise UserError(f"total_steps: got {total:,}, but the run is at {steps:,}; allowed: {steps:,} or more")
    folder.checkpoints.set_aside_after(steps, folder.metrics_file)


def _check_never_saved(folder: RunFolder, config: TrainConfig) -> None:
    """Raise UserError if a run's checkpoints are gone, because it would start again and overwrite its metrics."""
    newest = newest_metrics(folder.metrics_file)
    steps, seconds = int(newest.get("agent_steps", 0)), newest.get("wall_seconds", 0.0)
    if steps >= config.total_steps or seconds > 60 * (config.checkpoint.minutes + 1):
        raise UserError(
            f"checkpoint: there is none in {str(folder.checkpoints.folder)!r}, though the run has trained for {steps:,}"
            " agent steps; restore it, or choose another --run"
        )


def _train(trainer: Trainer, console: Console) -> int:
    """Train until the end or a signal; return the exit code."""
    try:
        with StopSignals(trainer.system.stop) as signals, trainer.display:
            trainer.run()
    except ActorFailure as failure:
        print(f"rfwp train: environments keep failing: {failure}", file=sys.stderr)
        return 1
    except Diverged as error:
        advice = "the newest checkpoint is from before: lower learner.learning_rate"
        print(f"rfwp train: {error}; {advice}", file=sys.stderr)
        return 1
    except Stuck as error:
        print(f"rfwp train: {error}", file=sys.stderr)
        return 1
    if signals.received is not None:
        steps, path = trainer.system.learner.steps, shlex.quote(str(trainer.folder.path))
        saved = "saved" if trainer.saved else "not saved"
        say(console, f"Stopped at {steps:,} agent steps; {saved}. To resume:\n  {command('rfwp')} train --run {path}")
    return signals.exit_code


def _conclude(trainer: Trainer, console: Console) -> None:
    """Evaluate a complete run unless it was evaluated before, and print what to do next."""
    config, folder, steps = trainer.config, trainer.folder, trainer.system.learner.steps
    path = shlex.quote(str(folder.path))
    if config.final_episodes and not _evaluated(folder, config, steps):
        episodes, policy, seed = config.final_episodes, FINAL_POLICY, FINAL_SEED
        try:
            result = run_evaluation(trainer.system.agent, config, episodes, steps, console, policy, seed=seed)
        except (KeyboardInterrupt, SystemExit):
            say(console, f"Stopped. The run is complete and saved; to score it:\n  {command('rfwp')} evaluate {path}")
            raise
        write_evaluation(final_path(folder, steps), result.summary())
        print_evaluation(result, console)
    hints = {"score it again": f"{command('rfwp')} evaluate {path}"}
    if config.env.renderer is not None:
        hints["watch it play"] = f"{command('rfwp')} watch {path}"
        hints["film it"] = f"{command('rfwp')} evaluate {path} --video"
    hints["see its curves"] = f"{command('tensorboard')} --logdir {path}"
    lines = [f"  {what + ':':16} {words}" for what, words in hints.items()]
    say(console, "\n".join([f"Run folder: {path}", *lines]))


def _evaluated(folder: RunFolder, config: TrainConfig, agent_steps: int) -> bool:
    """Return True if the final evaluation exists, with these agent steps and the configured number of episodes."""
    found = final_evaluation(folder)
    wanted = {"agent_steps": agent_steps, "episodes": config.final_episodes}
    return found is not None and all(found.get(name) == value for name, value in wanted.items())


def _announce(system: ActorLearner, config: TrainConfig, expected_bytes: int, console: Console) -> None:
    steps, threads = system.learner.steps, torch.get_num_threads()
    parameters = sum(parameter.numel() for parameter in system.agent.parameters())
    precision = str(system.agent.encoder_precision).removeprefix("torch.")
    say(
        console,
        f"{config.env.title}, core {components.name_of(config.core)}, {parameters:,} parameters, on {system.device}"
        f" ({precision} encoder, {threads} thread{'s' if threads > 1 else ''}); {config.actors.envs} environments in"
        f" {system.num_processes} processes on {host.cores()} cores; unrolls, activations and weights take about"
        f" {resources.megabytes(expected_bytes)}",
    )
    if system.done:
        say(console, f"The run is complete: {steps:,} steps. To train further, give a larger --total_steps.")
    elif steps:
        say(console, f"Resuming at {steps:,} of {config.total_steps:,} agent steps.")
