"""`rfwp compare`: trains and scores every combination of environments or tasks, cores and seeds."""

import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rfwp.agents import host
from rfwp.runners.compare.comparison import (
    KINDS,
    RECORD,
    Comparison,
    check_settings,
    find_titles,
    make_comparison,
    named_settings,
    read_record,
)
from rfwp.runners.compare.display import SCORE_CELL, count_states, open_launcher_display, score_table
from rfwp.runners.compare.launcher import Launcher, Run, default_jobs, find_runs, gpus_to_share, largest_run
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.signals import StopSignals
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder.files import check_own, locked
from rfwp.runners.settings.config import FINAL_POLICY, FINAL_SEED, AgentRunConfig
from rfwp.runners.settings.consent import add_trust_option, trusting
from rfwp.runners.settings.kinds import AGENT
from rfwp.runners.settings.parsing import Parser, parse
from rfwp.runners.training.dashboard import command

OPTIONS = (
    "-h",
    "--help",
    "--envs",
    "--tasks",
    "--cores",
    "--seeds",
    "--steps",
    "--out",
    "--jobs",
    "--preset",
    "--trust",
)
DEFAULT_SEEDS = 3


def run(argv: Sequence[str]) -> int:
    """Run `rfwp compare` with these words; return the exit code: 1 if a run failed."""
    words, settings = _split(argv)
    values = parse(_parser(), words)
    if not values.out:
        raise UserError("out: missing; allowed: a folder, new or of an earlier comparison")
    if values.jobs is not None and values.jobs < 1:
        raise UserError(f"jobs: got {values.jobs}; allowed: a whole number of at least 1")
    out = Path(values.out)
    _check_folder(out)
    check_own(out, [RECORD, "logs"], "out")
    comparison = _read_request(values, settings, read_record(out))
    comparison.check(out, values.trust, named_settings(settings), subjects_named=values.envs is not None)
    device, run_bytes = comparison.any_config.device, largest_run(comparison)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "out") as folder:
        comparison.write(out)
        runs = find_runs(comparison, out)
        waiting = sum(run.state == "waiting" for run in runs)
        jobs = max(1, min(waiting, values.jobs or default_jobs(device, run_bytes)))
        return _launch(comparison, out, Launcher(runs, folder, jobs, gpus_to_share(device)), Terminal())


def _launch(comparison: Comparison, out: Path, launcher: Launcher, console: Terminal) -> int:
    """Run the cells that are not done; print the results and how to continue."""
    runs = launcher.runs
    _announce(comparison, out, launcher, console)
    with StopSignals() as stop, open_launcher_display(str(out), comparison, runs, console) as display:
        launcher.run(display, stop)
    out = launcher.folder.find()
    trust = trusting(comparison.any_config.subject)
    go_on = f"{command('rfwp')} compare --out {shlex.quote(str(out))}{trust}"
    if stop.received is not None:
        console.say(f"Stopped: {count_states(runs)}. To continue:\n  {go_on}")
        return stop.exit_code
    _conclude(comparison, out, runs, console)
    failed = [run.cell.name for run in runs if run.state == "failed"]
    if failed:
        console.say(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}. To try again:\n  {go_on}")
    return 1 if failed else 0


def _announce(comparison: Comparison, out: Path, launcher: Launcher, console: Terminal) -> None:
    total, done = len(launcher.runs), sum(run.state == "done" for run in launcher.runs)
    at_once = f"; {launcher.jobs} at once on {host.cores()} CPU cores" if done < total else ""
    what = "environment" if comparison.kind is AGENT else "task"
    counts = {what: len(comparison.subjects), "core": len(comparison.cores), "seed": comparison.seeds}
    grid = " × ".join(f"{count} {what}{'s' if count > 1 else ''}" for what, count in counts.items())
    chosen = zip(comparison.subjects, comparison.presets, strict=True)
    presets = ", ".join(f"{subject} {preset}" for subject, preset in chosen)
    console.say(
        f"{grid}: {total} runs of {comparison.steps:,} {comparison.kind.step}s, {done} of them done{at_once}\n"
        f"Presets: {presets}. Logs: {out / 'logs'}",
    )


def _conclude(comparison: Comparison, out: Path, runs: Sequence[Run], console: Terminal) -> None:
    config = comparison.any_config
    if isinstance(config, AgentRunConfig):
        what = f"{config.final_episodes} full episodes, raw scores, {FINAL_POLICY} actions, seed {FINAL_SEED}"
    else:
        what = "the test split, by the checkpoint that validates best, accuracies in percent"
    console.say(f"Final evaluations: {what}, after {comparison.steps:,} {comparison.kind.step}s")
    console.print(score_table(comparison, runs))
    console.say(SCORE_CELL)
    console.say(f"Curves and statistics:\n  {command('rfwp')} report {shlex.quote(str(out))}")


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the words into those of the comparison and those of the runs' settings."""
    ours: list[str] = []
    theirs: list[str] = []
    side = ours
    for word in argv:
        if word.startswith("--") or word in OPTIONS:
            side = ours if word.partition("=")[0] in OPTIONS else theirs
        side.append(word)
    check_settings(theirs)
    return ours, theirs


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"out: {str(out)!r} is not a folder; choose another name")
    if (out / "config.yaml").exists():
        raise UserError(f"out: {str(out)!r} is a run folder; choose another name")


def _read_request(values: Namespace, settings: list[str], before: Comparison | None) -> Comparison:
    """Build the requested comparison; missing options come from the earlier one, `before`."""
    request: dict[str, Any] = vars(before).copy() if before else {"seeds": DEFAULT_SEEDS, "settings": ()}
    presets = dict(zip(before.subjects, before.presets, strict=True)) if before else {}
    _read_subjects(values, request)
    for name in ("cores", "seeds", "steps"):
        if getattr(values, name) is not None:
            request[name] = getattr(values, name)
        elif name not in request:
            raise UserError(f"{name}: missing, and {values.out!r} has no {RECORD} to take it from; see --help")
    request["subjects"] = find_titles(request["option"], request["subjects"])
    request["presets"] = [values.preset or presets.get(subject) for subject in request["subjects"]]
    request["settings"] = settings or request["settings"]
    return make_comparison(**request)


def _read_subjects(values: Namespace, request: dict[str, Any]) -> None:
    """Put the subjects that the options name into the request."""
    given = [option for option in KINDS if getattr(values, option) is not None]
    if len(given) > 1:
        raise UserError(
            f"tasks: got {' '.join(values.tasks)} beside envs {' '.join(values.envs)}; allowed: one of the two"
        )
    if given:
        request |= {"option": given[0], "subjects": getattr(values, given[0])}
    elif "subjects" not in request:
        raise UserError(f"envs: missing, and {values.out!r} has no {RECORD} to take it from; see --help")


def _parser() -> Parser:
    parser = Parser(
        "rfwp compare",
        "Train and score every combination of environments or supervised tasks, cores and seeds, several at once."
        " Finished runs are skipped, unfinished ones resumed. Any setting of `rfwp train` can follow and applies to all"
        " runs.",
        epilog="Every run trains for --steps. Then an agent plays the same --final_episodes, with"
        f" {FINAL_POLICY} actions and seed {FINAL_SEED}; of a sequence model the checkpoint that validates best is"
        " scored on the test split. Example: rfwp compare --envs pong breakout --cores lstm rdn"
        " --seeds 3 --steps 2_000_000 --out runs/pong-breakout --learner.learning_rate 3e-4",
    )
    envs = "games of Atari and ProcGen, memory tasks such as recall, and IDs of Gymnasium such as CartPole-v1"
    parser.add_argument(
        "--out", type=str | None, metavar="DIR", help="folder of the runs; alone, continues the comparison in it"
    )
    parser.add_argument("--envs", type=str, nargs="+", metavar="ENV", help=envs)
    parser.add_argument("--tasks", type=str, nargs="+", metavar="TASK", help="supervised tasks, such as listops")
    parser.add_argument("--cores", type=str, nargs="+", metavar="CORE", help="`rfwp cores` lists them")
    parser.add_argument("--seeds", type=int | None, metavar="N", help=f"seeds 1 to N; default: {DEFAULT_SEEDS}")
    parser.add_argument("--steps", type=int | None, metavar="N", help="agent steps, or updates, of each run")
    parser.add_argument(
        "--jobs",
        type=int | None,
        metavar="N",
        help="runs at once; default: as many as GPUs, or cores and memory, allow",
    )
    presets = f"one of {', '.join(AGENT.presets({}).settings)}; default: per environment or task, as in `rfwp train`"
    add_trust_option(parser)
    parser.add_argument("--preset", type=str | None, metavar="NAME", help=presets)
    return parser
