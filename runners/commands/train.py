"""`rfwp train`: starts or resumes a run, and evaluates it at its end."""

import shlex
import sys
from argparse import Namespace
from collections.abc import Container, Sequence
from pathlib import Path

import yaml

from rfwp.agents.actor_pool import ActorFailure
from rfwp.agents.learner import Diverged, Stuck
from rfwp.envs.spaces import described
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.signals import StopSignals
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder.folder import RunFolder, create_run_folder
from rfwp.runners.runfolder.metrics_file import check_metrics, newest_metrics
from rfwp.runners.settings.components import name_of
from rfwp.runners.settings.config import AgentRunConfig, RunConfig
from rfwp.runners.settings.consent import trusting
from rfwp.runners.settings.kinds import MOVABLE, kind_of
from rfwp.runners.settings.layers import differences, to_dict
from rfwp.runners.settings.options import named_run, read_command_line
from rfwp.runners.training.dashboard import command, open_display
from rfwp.runners.training.kinds import build_training
from rfwp.runners.training.memory_estimate import sizes_named
from rfwp.runners.training.trainer import Trainer
from rfwp.runners.training.training import AnyTraining


def run(argv: Sequence[str]) -> int:
    """Run `rfwp train` with these words; return the exit code."""
    place = named_run(argv)
    if place == "":
        raise UserError("run: got ''; allowed: a folder")
    folder = RunFolder(Path(place)) if place else None
    before = folder.read_config() if folder is not None and folder.exists else None
    config, own, given = read_command_line(argv, below=None if before is None else to_dict(before))
    _check_request(own, config, folder, before)
    if own.print_config:
        print(yaml.safe_dump(to_dict(config), sort_keys=False), end="")
        return 0
    if folder is not None:
        folder.check_free()
    console = Terminal()
    with console.status("reading the data and building the model ..."), sizes_named(config):
        training = build_training(config)  # refuses what does not fit before anything is written
        _check_encoder(config, given)
        expected_bytes = training.check_sizes()
    if folder is None:
        folder = create_run_folder(config)
    folder.create()
    display = open_display(str(folder.path), training, console)
    trainer = Trainer(training, folder, display, own.profile)
    with folder.locked(), sizes_named(config):
        training.prepare(folder)
        _take_up(trainer, own.resume_from, (before or config).total_steps)
        if before is not None:
            _say_what_changed(folder, config, console)
        folder.write_config(config)
        _announce(training, expected_bytes, console)
        code = 0 if training.system.done else _train(trainer, console)
        if code == 0:
            _conclude(trainer, console)
    return code


def _check_request(own: Namespace, config: RunConfig, folder: RunFolder | None, before: RunConfig | None) -> None:
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
    fixed = kind_of(to_dict(config)).fixed
    for name, (old, new) in differences(before, config).items():
        if name not in MOVABLE and (name in fixed or name.partition(".")[0] in fixed):
            raise UserError(
                f"{name}: got {new!r}, but the run {str(folder.path)!r} was started with {old!r};"
                " a resumed run cannot change it: choose another --run"
            )


def _check_encoder(config: RunConfig, given: Container[str]) -> None:
    """Raise UserError if the command line chooses an encoder of images though there are none."""
    if isinstance(config, AgentRunConfig) and "encoder.name" in given:
        fields = config.env.spec().observation
        if not any(field.kind == "image" for field in fields):
            raise UserError(
                f"encoder: got {name_of(config.encoder)}, but {config.env.title} has no images, only"
                f" {' and '.join(map(described, fields))}; leave --encoder out"
            )


def _take_up(trainer: Trainer, which: str | None, total_before: int) -> None:
    """Load the checkpoint `which`, by default the last. Raise UserError before changing anything if it does not fit."""
    folder, config = trainer.folder, trainer.config
    if which is None and not folder.checkpoints.steps():
        _check_never_saved(folder, trainer.training)
        return
    with folder.checkpoints.suggesting_an_intact_one("--resume_from"):
        checkpoint = folder.checkpoints.find("last" if which is None else which)
        trainer.resume(checkpoint)
    check_metrics(folder.metrics_file, checkpoint.manifest.metrics_bytes, checkpoint.manifest.metrics_sha256)
    steps, total = checkpoint.manifest.steps, config.total_steps
    if total < min(steps, total_before):  # a run usually overshoots its total_steps a little
        raise UserError(f"total_steps: got {total:,}, but the run is at {steps:,}; allowed: {steps:,} or more")
    folder.set_aside_after(steps)


def _say_what_changed(folder: RunFolder, config: RunConfig, console: Terminal) -> None:
    """Tell the user if the packages of the environment have other versions than when the run was last started."""
    before = folder.read_origin()
    for name, version in config.subject.packages.items():
        if before.get(name, version) != version:
            console.say(f"{name} is {version} now; until now, this run used {before[name]}")


def _check_never_saved(folder: RunFolder, training: AnyTraining) -> None:
    """Raise UserError if a run's checkpoints are gone, because it would start again and overwrite its metrics."""
    config, newest = training.config, newest_metrics(folder.metrics_file)
    steps, seconds = int(newest.get("steps", 0)), newest.get("wall_seconds", 0.0)
    if steps >= config.total_steps or seconds > 60 * (config.checkpoint.minutes + 1):
        raise UserError(
            f"checkpoint: there is none in {str(folder.checkpoints.folder)!r}, though the run has trained for {steps:,}"
            f" {training.kind.step}s; restore it, or choose another --run"
        )


def _train(trainer: Trainer, console: Terminal) -> int:
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
        unit = f"{trainer.training.kind.step}s"
        where = f"at {steps:,} {unit}; {saved}. To resume" if steps else "before the first update. To start again"
        again = f"{command('rfwp')} train --run {path}{trusting(trainer.config.subject)}"
        console.say(f"Stopped {where}:\n  {again}")
    return signals.exit_code


def _conclude(trainer: Trainer, console: Terminal) -> None:
    """Evaluate a complete run unless it was evaluated before, and print what to do next."""
    training, path = trainer.training, shlex.quote(str(trainer.folder.path))
    try:
        training.evaluate(trainer.folder, console)
    except (KeyboardInterrupt, SystemExit):
        score_it = f"{command('rfwp')} evaluate {path}{trusting(training.config.subject)}"
        console.say(f"Stopped. The run is complete and saved; to score it:\n  {score_it}")
        raise
    hints = {what: f"{command('rfwp')} {words.format(run=path)}" for what, words in training.hints.items()}
    hints["see its curves"] = f"{command('tensorboard')} --logdir {path}"
    lines = [f"  {what + ':':16} {words}" for what, words in hints.items()]
    console.say("\n".join([f"Run folder: {path}", *lines]))


def _announce(training: AnyTraining, expected_bytes: int, console: Terminal) -> None:
    console.say(training.opening(expected_bytes))
    steps, total, unit = training.system.learner.steps, training.config.total_steps, f"{training.kind.step}s"
    if training.system.done:
        console.say(f"The run is complete: {steps:,} {unit}. To train further, give a larger --total_steps.")
    elif steps:
        console.say(f"Resuming at {steps:,} of {total:,} {unit}.")
