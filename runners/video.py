"""Films an agent at play: every frame of the real game, at its real speed."""

import shutil
from collections.abc import Generator
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from rfwp.agents.collector import Game
from rfwp.envs.screen import Screen
from rfwp.envs.world import Step
from rfwp.envs.worlds import atari
from rfwp.models.actor_critic import ActorCritic
from rfwp.runners.errors import UserError
from rfwp.runners.evaluate import Policy, play

FRAMES_PER_SECOND = 60
SCALE = 3  # each pixel of the game is so many pixels wide and high


def film(agent: ActorCritic, config: atari.Config, path: Path, policy: Policy, seed: int) -> Game:
    """Plays one full game and writes it to `path` as H.264; returns its score.

    Frames are written as they are played: a long game takes no more memory than a short one.
    """
    agent.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".unfinished-{path.name}")
    with Screen(config) as screen:
        screen.reset(seed)  # for the size of its screens
        _, height, width, _ = screen.screens().shape
        writer = _open(temporary, (width * SCALE, height * SCALE))
        try:

            def write(step: Step) -> None:
                for image in screen.screens().repeat(SCALE, axis=1).repeat(SCALE, axis=2):
                    writer.send(np.ascontiguousarray(image))

            (games,) = play(agent, screen, np.ones(1, np.int64), policy, "game", seed, on_step=write)
            writer.close()  # waits for ffmpeg to finish the file
            temporary.rename(path)
        except OSError:  # of the pipe to ffmpeg, which has said what is wrong, and ended
            full = shutil.disk_usage(path.parent).free == 0
            cause = "no space left on device" if full else "ffmpeg failed"
            raise UserError(f"video: cannot write {str(path)!r}: {cause}") from None
        finally:
            writer.close()
            temporary.unlink(missing_ok=True)
    return games[0]


def _open(path: Path, size: tuple[int, int]) -> Generator[None, object, None]:
    writer: Generator[None, object, None] = imageio_ffmpeg.write_frames(
        str(path),
        size,
        fps=FRAMES_PER_SECOND,
        codec="libx264",
        pix_fmt_out="yuv420p",
        macro_block_size=2,  # what yuv420p needs; more would stretch the picture
        ffmpeg_log_level="error",
    )
    writer.send(None)
    return writer
