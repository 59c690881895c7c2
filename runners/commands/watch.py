"""`rfwp watch`: shows the agent of a run playing in a window."""

import shlex
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from rfwp.agents import host
from rfwp.agents.device import prepare_cpu
from rfwp.runners.evaluation.rollout import Transition, rollout
from rfwp.runners.evaluation.saved_agents import open_agent
from rfwp.runners.film.picture import Picture, picture_of
from rfwp.runners.film.player import FASTEST, SLOWEST, Player, Quit
from rfwp.runners.film.screens import open_screen
from rfwp.runners.film.window import Window, check_display
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.evaluations import Policy
from rfwp.runners.settings.parsing import Parser, parse
from rfwp.runners.settings.playing_options import add_playing_options, check_playing_options


def run(argv: Sequence[str]) -> int:
    """Run `rfwp watch` with these words; return the exit code."""
    values = parse(_parser(), argv)
    saved = open_agent(Path(values.run), values.checkpoint, values.trust)
    _check(values)
    instead = f"rfwp evaluate {shlex.quote(values.run)} --video"
    check_display(instead)
    prepare_cpu(host.operator_threads(host.cores()))
    agent = saved.load(resources.pick_device(values.device))
    picture_for = picture_of(values.overlay, agent, saved.config, saved.steps, values.policy)
    with open_screen(saved.config.env) as screen:
        screen.reset(values.seed)  # to know the size of its screen
        with picture_for(screen) as picture, Window(f"rfwp watch {values.run}", picture.size, instead) as window:
            steps = rollout(agent, screen, values.policy, values.seed)
            with suppress(Quit):
                player = Player(window, values.speed, screen.frames_per_second)
                _watch(player, picture, steps, values.episodes)
    return 0


def _watch(player: Player, picture: Picture, steps: Iterator[Transition], episodes: int | None) -> None:
    """Play `episodes` episodes, or until the user quits; print the return of each."""
    ended = 0
    for transition in steps:
        player.play(picture.frames(transition))
        if transition.step.episode_over[0]:
            ended += 1
            score, length = transition.step.episode_return[0], transition.step.episode_length[0]
            print(f"episode {ended}: return {score:g} in {length:,} agent steps", flush=True)
            if ended == episodes:
                return


def _check(values: Namespace) -> None:
    """Raise UserError for an option that is not allowed."""
    check_playing_options(values)
    if not SLOWEST <= values.speed <= FASTEST:
        raise UserError(f"speed: got {values.speed:g}; allowed: {SLOWEST:g} to {FASTEST:g}")


def _parser() -> Parser:
    parser = Parser(
        "rfwp watch",
        "Show the agent of a run playing in a window. Keys: space pauses, right plays one agent step, up"
        " and down change the speed, q quits.",
    )
    parser.add_argument("run", type=str, metavar="RUN", help="run folder")
    parser.add_argument("--episodes", type=int | None, help="episodes to play; default: until you quit")
    parser.add_argument("--policy", type=Policy, default="sampled", help="how actions are chosen")
    parser.add_argument("--speed", type=float, default=1.0, help="1: real time (Atari: 60 frames a second)")
    add_playing_options(parser)
    return parser
