"""Films hold every frame of the game as it was played, in formats that play everywhere, and are whole or not there."""

import resource
import shutil
import signal
import subprocess
import time

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image
from waiting import HANGS

from rfwp.runners.build import build_agent
from rfwp.runners.cli import main
from rfwp.runners.evaluation.rollout import rollout
from rfwp.runners.film.ffmpeg import Mp4
from rfwp.runners.film.video import film
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.resources import own_command
from rfwp.runners.runfolder.folder import RunFolder

SECONDS = 2


@pytest.fixture(scope="module")
def films(atari_run, tmp_path_factory):
    """An mp4 and a GIF of the same game, and its screens."""
    folder = RunFolder(atari_run)
    config = folder.read_config()
    agent = build_agent(config, torch.device("cpu")).eval()
    folder.checkpoints.find("last").load_weights(agent)
    paths = [tmp_path_factory.mktemp("films") / name for name in ("game.mp4", "game.gif")]
    assert film(agent, config.env.renderer, paths, "sampled", 3, seconds=SECONDS) is None
    with config.env.renderer() as screen:
        played = rollout(agent, screen, "sampled", 3)
        screens = [image for _ in range(SECONDS * 15) if next(played) for image in screen.screens().copy()]
    return *paths, screens


def test_an_mp4_is_h264_for_every_player_at_the_real_speed(films):
    facts = next(imageio_ffmpeg.read_frames(str(films[0])))
    assert (facts["codec"], facts["size"], facts["fps"]) == ("h264", (3 * 160, 3 * 210), 60)
    assert facts["pix_fmt"].startswith("yuv420p(tv, bt709")
    assert facts["duration"] == pytest.approx(SECONDS, abs=0.02)


def test_an_mp4_holds_all_four_frames_of_every_agent_step(films):
    path, _, screens = films
    frames = imageio_ffmpeg.read_frames(str(path))
    next(frames)
    shown = [np.frombuffer(frame, np.uint8).reshape(630, 480, 3) for frame in frames]
    assert len(shown) == len(screens) == SECONDS * 60
    for image, screen in zip(shown, screens, strict=True):
        # Three pixels to one; their middle is least disturbed by the compression.
        assert np.abs(image[1::3, 1::3].astype(int) - screen).mean() < 4
        assert np.abs(image[0::3, 0::3].astype(int) - image[2::3, 2::3]).mean() < 8


def test_a_gif_is_the_brightest_of_two_frames_at_half_the_rate(films):
    _, path, screens = films
    milliseconds, shown = 0, []
    with Image.open(path) as gif:
        for index in range(gif.n_frames):
            gif.seek(index)
            shown += [np.asarray(gif.convert("RGB"))] * round(gif.info["duration"] * 30 / 1000)
            milliseconds += gif.info["duration"]
            assert gif.info["duration"] >= 20  # browsers slow down what is quicker
    assert milliseconds == pytest.approx(SECONDS * 1000, abs=20)
    pairs = [np.maximum(*screens[index : index + 2]) for index in range(0, len(screens), 2)]
    assert len(shown) == len(pairs)
    for image, pair in zip(shown, pairs, strict=True):
        assert np.abs(image[1::3, 1::3].astype(int) - pair).mean() < 1  # 128 colours are enough for a game


def evaluate(run, *words, **options):
    command = own_command("evaluate", str(run), "--episodes", "1", *words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--video", "--gif"])
def test_a_disk_that_is_full_gets_one_line_and_leaves_nothing(atari_run, tmp_path, option):
    run = shutil.copytree(atari_run, tmp_path / "run")
    full = (8000, 8000)  # bytes that a file may have, in place of a disk that has no more
    process = evaluate(run, option, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, full))
    shown, error = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "breakout: 1 full episodes" in shown  # the scores are not lost
    assert "cannot write" in error
    assert error.count("\n") == 1
    assert list((run / "videos").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_film_that_is_broken_off_leaves_nothing(atari_run, tmp_path, number):
    run = shutil.copytree(atari_run, tmp_path / "run")
    # Ctrl-C means something to the program even where these tests run in the background, which ignores it.
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = evaluate(run, "--video", "--overlay", "memory", **heeding)
    while not list(run.glob("videos/.unfinished*")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    process.communicate(timeout=HANGS)
    assert process.returncode == 128 + number
    assert list((run / "videos").iterdir()) == []


def test_an_encoder_that_cannot_write_says_where(tmp_path):
    with (
        pytest.raises(UserError, match=r"cannot write '.*film.mp4': "),
        Mp4(tmp_path / "film.mp4", (15, 15), 60) as encoder,
    ):
        encoder.write(np.zeros((15, 15, 3), np.uint8))  # yuv420p needs even sizes
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--overlay memory", "overlay: there is no film to apply it to; add --video or --gif"),
        ("--film_seconds 3", "film_seconds: there is no film to apply it to; add --video or --gif"),
        ("--gif --film_seconds 0", "film_seconds: got 0; allowed: a number above 0"),
        ("--gif --overlay brain", "overlay: got brain; allowed: memory or null"),
    ],
)
def test_wrong_words_get_one_line(atari_run, capsys, words, message):
    assert main(["evaluate", str(atari_run), *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
