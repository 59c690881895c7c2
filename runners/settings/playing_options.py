"""Options of the commands in which a saved agent plays."""

from argparse import Namespace

from rfwp.runners.film.picture import OverlayName
from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings.parsing import Parser


def add_playing_options(parser: Parser) -> None:
    """Add options for the checkpoint, seed, device and overlay."""
    parser.add_argument("--checkpoint", type=str, default="last", metavar="best|last|STEP", help="checkpoint to load")
    parser.add_argument("--seed", type=int, default=0, help="seed of the episodes and of sampled actions")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:0, ...")
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
