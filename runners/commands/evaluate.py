"""`rfwp evaluate`: scores and films checkpoints of runs."""

import dataclasses
import hashlib
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from rfwp.envs.vector_env import EnvConfig
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.commands import evaluate_sequences
from rfwp.runners.evaluation.saved_agents import SavedAgent, find_agents, say_left_out
from rfwp.runners.evaluation.scoreboard import Line, print_evaluation, print_scoreboard, run_evaluation
from rfwp.runners.evaluation.scoring import BATCHES, Evaluation, Score
from rfwp.runners.evaluation.variants import split_words, variants
from rfwp.runners.film.picture import picture_of
from rfwp.runners.film.screens import open_screen
from rfwp.runners.film.video import film
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError, reason
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder.evaluations import Policy, write_evaluation
from rfwp.runners.runfolder.files import check_writable, write_json
from rfwp.runners.runfolder.folder import short_names
from rfwp.runners.settings.config import AgentRunConfig
from rfwp.runners.settings.glance import names_a_task
from rfwp.runners.settings.kinds import AGENT, MOVABLE
from rfwp.runners.settings.layers import differences
from rfwp.runners.settings.parsing import Parser, parse
from rfwp.runners.settings.playing_options import add_playing_options, add_scoring_options, check_playing_options

KINDS: dict[str, tuple[Score, ...]] = {"episode": ("episode",), "life": ("life",), "both": ("episode", "life")}
POLICIES: dict[Score, Policy] = {"episode": "sampled", "life": "greedy"}  # defaults; for lives, as in the paper


def run(argv: Sequence[str]) -> int:
    """Run `rfwp evaluate` with these words; return the exit code: 1 if one of several runs was left out."""
    if names_a_task(argv):
        return evaluate_sequences.run(argv)
    words, settings = split_words(AGENT, argv)
    values = parse(_parser(), words)
    policies = {kind: values.policy or POLICIES[kind] for kind in KINDS[values.score]}
    values.policy = next(iter(policies.values()))  # for films
    saved_agents, left_out = find_agents([Path(name) for name in values.runs], values.checkpoint, values.trust)
    names = short_names([saved.folder.path for saved in saved_agents])
    wanted = [
        (name, saved, env)
        for name, saved in zip(names, saved_agents, strict=True)
        for env in _envs_to_play(saved, settings, values.protocol)
    ]
    for _, saved, env in wanted:
        _check(values, dataclasses.replace(saved.config, env=env))
    if not values.mixed:
        _check_protocols([(saved, env) for _, saved, env in wanted])
    device = resources.pick_device(values.device)
    console = Terminal(stderr=values.json == "-")
    lines: list[Line] = []
    try:
        for name, opened, env in wanted:
            try:
                saved = opened.as_it_is_now()
                agent, config = saved.load(device, env), dataclasses.replace(saved.config, env=env)
                lines.append(_score_all(name, agent, config, saved, values, policies, console))
                if len(wanted) > 1:
                    console.say(f"{len(lines)} of {len(wanted)} scored: {name}, {saved.steps:,} agent steps")
                _keep(lines[-1], saved, values)
                _film(agent, config, lines[-1], saved, values, console)
            except (UserError, OSError) as error:  # keep the scores that there are, and go on
                left_out.append(f"{reason(error)} (in {name})")
    finally:  # also after Ctrl-C
        if lines:
            _show(lines, values.json, console)
    if not lines:
        raise UserError(left_out[0])
    return say_left_out(left_out)


def _score_all(
    name: str,
    agent: ActorCritic,
    config: AgentRunConfig,
    saved: SavedAgent,
    values: Namespace,
    policies: dict[Score, Policy],
    console: Terminal,
) -> Line:
    """Score an agent in the environment of `config`. Raise UserError if it cannot be scored this way."""
    steps, seed = saved.steps, values.seed
    results: dict[Score, Evaluation] = {}
    for kind, policy in policies.items():
        drop = values.drop_negative and kind == "life"
        result = run_evaluation(agent, config, values.episodes, steps, console, policy, kind, seed, drop)
        other = {name: new for name, (_, new) in differences(saved.config, config).items() if name not in MOVABLE}
        changed = {name.removeprefix("env."): value for name, value in other.items()}
        results[kind] = dataclasses.replace(result, changed=changed)
    return Line(name, saved.config, results.get("episode"), results.get("life"))


def _keep(line: Line, saved: SavedAgent, values: Namespace) -> None:
    """Write the scores of an agent into its run folder unless --json is given. Raise OSError if that fails."""
    for result in (line.episodes, line.lives) if values.json is None else ():
        if result:
            dropped = "-not-negative" if values.drop_negative and result.score == "life" else ""
            what = f"{result.policy}-{result.score}-x{values.episodes}{_mark(line)}{dropped}-seed{values.seed}"
            name = f"step-{saved.steps:012d}-{what}"
            write_evaluation(saved.folder, name, result.summary(), saved.checkpoint)


def _show(lines: Sequence[Line], json_file: str | None, console: Terminal) -> None:
    """Print one result as its own table, several in one table; write JSON as one object or a list."""
    results = [result for line in lines for result in (line.episodes, line.lives) if result]
    if len(lines) > 1 and json_file != "-":
        print_scoreboard(lines, console)
    elif json_file != "-":
        for result in results:
            print_evaluation(result, console)
    facts = [result.summary() for result in results]
    write_json(json_file, facts[0] if len(facts) == 1 else facts)


def _envs_to_play(saved: SavedAgent, settings: Mapping[str, str], protocol: str | None) -> list[EnvConfig]:
    """Return the environments to score an agent in: its own with these settings, under this protocol."""
    try:
        envs: list[EnvConfig] = variants(AGENT, saved.config, settings)
        return [env.under(protocol) if protocol not in (None, env.protocol) else env for env in envs]
    except (UserError, ValueError) as error:
        raise UserError(f"{error} (in {saved.folder.path})") from None


def _mark(line: Line) -> str:
    """Return what the names of files say about the settings in which an environment differs from that of training."""
    changed = "".join(f"-{name}={value}" for name, value in line.either.changed.items())
    mark = re.sub(r"[^\w.+=-]", "_", changed)
    return mark if len(mark) <= 80 else f"-{hashlib.sha256(changed.encode()).hexdigest()[:16]}"


def _check_protocols(played: Sequence[tuple[SavedAgent, EnvConfig]]) -> None:
    """Raise UserError if the table would mix protocols."""
    found: dict[str, str] = {}
    for saved, env in played:
        if env.protocol is not None:
            found.setdefault(env.protocol, str(saved.folder.path))
    if len(found) > 1:
        listed = ", ".join(f"{protocol} ({run})" for protocol, run in found.items())
        raise UserError(
            f"protocol: got runs of several, {listed}, whose scores are not comparable;"
            " give --protocol, or --mixed to put them in one table anyway"
        )


def _check(values: Namespace, config: AgentRunConfig) -> None:
    """Raise UserError if the options do not fit, before playing anything."""
    check_playing_options(values)
    if "life" in KINDS[values.score] and not config.env.lives:
        raise UserError(f"score: got {values.score}; allowed: episode, because {_why_no_lives(config.env)}")
    if values.drop_negative and "life" not in KINDS[values.score]:
        raise UserError("drop_negative: applies to lives only; add --score life")
    _check_film(values)
    check_writable(values.json)


def _why_no_lives(env: EnvConfig) -> str:
    elsewhere = [protocol for protocol in env.protocols if env.under(protocol).lives]
    if elsewhere:
        return f"a lost life does not end an episode under {env.protocol} (it does under {' and '.join(elsewhere)})"
    return f"{env.title} has no lives"


def _check_film(values: Namespace) -> None:
    wanted = next((option for option in ("video", "gif") if getattr(values, option)), None)
    if wanted is None:
        for option in ("overlay", "film_seconds"):
            if getattr(values, option) is not None:
                raise UserError(f"{option}: there is no film to apply it to; add --video or --gif")
    elif values.film_seconds is not None and values.film_seconds <= 0:
        raise UserError(f"film_seconds: got {values.film_seconds:g}; allowed: a number above 0")


def _film(
    agent: ActorCritic, config: AgentRunConfig, line: Line, saved: SavedAgent, values: Namespace, console: Terminal
) -> None:
    """Film an agent as the options ask. Raise UserError or OSError if a film cannot be written."""
    suffixes = [suffix for suffix, wanted in ((".mp4", values.video), (".gif", values.gif)) if wanted]
    if not suffixes:
        return
    folder, steps = saved.folder, saved.steps
    overlay = "-memory" if values.overlay else ""
    name = f"step-{steps:012d}-{values.policy}{_mark(line)}-seed{values.seed}{overlay}"
    paths = [folder.videos / f"{name}{suffix}" for suffix in suffixes]
    picture = picture_of(values.overlay, agent, config, steps, values.policy)
    with console.status("filming an episode ..."):
        screen = partial(open_screen, config.env)
        episode = film(agent, screen, paths, values.policy, values.seed, picture, values.film_seconds)
    what = f"an episode that scored {episode.score:g}" if episode else f"the first {values.film_seconds:g} s"
    for path in paths:
        size = resources.megabytes(path.stat().st_size)
        console.say(f"Filmed {what}: {path} ({size})")


def _parser() -> Parser:
    parser = Parser(
        "rfwp evaluate",
        "Play full episodes with saved agents and print their raw scores and protocol in one table. A setting of the"
        " environment, such as --env.length 50, plays that variant, which must have the same observations and actions;"
        " --env.length 10,50 gives a row for each value. Runs on supervised tasks have other options: rfwp evaluate RUN"
        " --help lists them.",
    )
    add_scoring_options(parser)
    parser.add_argument(
        "--episodes", type=int, default=30, help=f"episodes, or lives in each of {BATCHES} batches; all are finished"
    )
    parser.add_argument(
        "--policy", type=Policy | None, help="how actions are chosen; default: sampled in episodes, greedy in lives"
    )
    parser.add_argument(
        "--score",
        type=Literal["episode", "life", "both"],
        default="episode",
        help="episode: full episodes; life: single lives, as the RFWP paper's code scores them; both: side by side",
    )
    parser.add_argument(
        "--drop_negative", action="store_true", help="play on until enough lives have a score of 0 or more"
    )
    parser.add_argument(
        "--protocol",
        type=str | None,
        metavar="NAME",
        help="play by this protocol (Atari: dqn, machado; ProcGen: its mode); default: the run's. The agent keeps its"
        " actions",
    )
    parser.add_argument("--mixed", action="store_true", help="allow several protocols in one table, and mark them")
    add_playing_options(parser)
    parser.add_argument("--video", action="store_true", help="film one more episode into the run's videos/ (mp4)")
    parser.add_argument(
        "--gif", action="store_true", help="the same as a GIF with half the frames; can be combined with --video"
    )
    parser.add_argument("--film_seconds", type=float | None, help="film only this many seconds from the start")
    return parser
