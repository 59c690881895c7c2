"""Options of the commands that load saved agents and models."""

from argparse import Namespace

from rfwp.runners.film.picture import OverlayName
from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings.consent import add_trust_option
from rfwp.runners.settings.parsing import Parser


def add_loading_options(parser: Parser, checkpoint: str) -> None:
    """Add options for the checkpoint, with its default, and the device."""
    parser.add_argument(
        "--checkpoint", type=str, default=checkpoint, metavar="best|last|STEP", help="checkpoint to load"
    )
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:0, ...")


def add_scoring_options(parser: Parser) -> None:
    """Add options for the runs to score and for a file of the result."""
    parser.add_argument(
        "runs", type=str, nargs="+", metavar="RUN", help="runs, checkpoints, or folders that contain them"
    )
    parser.add_argument("--json", type=str | None, metavar="FILE", help="write the result here; - for standard output")


def add_playing_options(parser: Parser) -> None:
    """Add options for the checkpoint, seed, device and overlay."""
    add_loading_options(parser, checkpoint="last")
    add_trust_option(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the episodes and of sampled actions")
    parser.add_argument(
        "--overlay",
        type=OverlayName | None,
        help="memory: show policy, value and memory beside the game (1280 x 720)",
    )


def check_playing_options(values: Namespace) -> None:
    """Raise UserError for a number that is not allowed."""
    if values.episodes is not None and values.episodes < 1:
        raise UserError(f"episodes: got {values.episodes}; allowed: a whole number of at least 1")
    if not 0 <= values.seed < 2**31:
        raise UserError(f"seed: got {values.seed}; allowed: a whole number from 0 to {2**31 - 1}")
