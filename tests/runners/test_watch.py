"""Watching: frames at their time, keys that do what the window says, and one line where there is no window."""

import os
import shutil
import subprocess
import time

import numpy as np
import pytest
from PIL import ImageGrab
from saved import edit_manifest
from waiting import HANGS

from rfwp.runners.cli import main
from rfwp.runners.film.player import Player, Quit
from rfwp.runners.machine.resources import own_command

FRAME = 1 / 60


class Clock:
    """Time that passes when it is slept through."""

    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds


class Recorder:
    """A display that notes what it shows and when; `keys` are pressed at their times."""

    def __init__(self, clock, keys=(), cost=0.0):
        self.clock, self.keys, self.cost = clock, list(keys), cost
        self.shown = []  # time, frame, status

    def show(self, image, status):
        self.shown.append((self.clock.time, int(image), status))
        self.clock.time += self.cost

    def commands(self):
        while self.keys and self.keys[0][0] <= self.clock.time:
            yield self.keys.pop(0)[1]

    def numbers(self):
        return [number for _, number, _ in self.shown]


def play(steps, speed=1.0, keys=(), cost=0.0):
    """Plays agent steps of four numbered frames; gives the display, once the user quits or the steps are over."""
    clock = Clock()
    display = Recorder(clock, keys, cost)
    player = Player(display, speed, 60, clock.now, clock.sleep)
    try:
        for step in range(steps):
            player.play(np.arange(4 * step, 4 * step + 4))
    except Quit:
        pass
    return display


def test_the_real_speed_shows_every_frame_for_a_sixtieth_of_a_second():
    display = play(30)
    assert display.numbers() == list(range(120))
    assert np.diff([moment for moment, _, _ in display.shown]) == pytest.approx(FRAME)


def test_half_speed_takes_twice_as_long():
    assert play(30, speed=0.5).clock.time == pytest.approx(2 * play(30).clock.time)


def test_high_speed_leaves_frames_out_but_is_as_fast_as_asked():
    display = play(60, speed=4)
    assert display.clock.time == pytest.approx(1.0, rel=0.02)
    assert 55 <= len(display.shown) <= 61


def test_a_machine_that_is_too_slow_leaves_frames_out_and_does_not_hurry_afterwards():
    display = play(60, cost=0.05)
    assert len(display.shown) < 240
    assert max(np.diff([moment for moment, _, _ in display.shown])) < 0.15
    assert display.clock.time < 5.0


def test_pause_holds_the_picture_and_a_step_plays_four_frames():
    display = play(30, keys=[(0.5, "pause"), (1.5, "step"), (2.5, "step"), (3.5, "pause"), (4.0, "quit")])
    held = {number: status for _, number, status in display.shown if status == "paused"}
    ends = [last for last in held if last % 4 == 3]
    assert len(ends) == 3  # where it was paused, and after each step
    assert ends[1] - ends[0] == ends[2] - ends[1] == 4
    assert display.shown[-1][2] == "speed 1"
    assert len(set(display.numbers())) == max(display.numbers()) + 1  # none was left out


def test_keys_change_the_speed_within_bounds_and_the_status_says_so():
    keys = [(0.1, "faster"), (0.2, "faster"), *[(0.5, "slower")] * 20, (10, "quit")]
    statuses = [status for _, _, status in play(100, keys=keys).shown]
    assert list(dict.fromkeys(statuses)) == ["speed 1", "speed 2", "speed 4", "speed 0.0625"]


def test_quit_ends_a_pause():
    assert play(30, keys=[(0.1, "pause"), (1.0, "quit")]).clock.time < 1.1


@pytest.fixture
def no_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)


def one_line(capsys, *words):
    assert main(["watch", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_without_a_display_the_video_is_offered(atari_run, no_display, capsys):
    error = one_line(capsys, atari_run)
    assert (
        f"there is no display to open a window on; film an episode instead: rfwp evaluate {atari_run} --video" in error
    )


def test_a_display_that_cannot_be_opened_is_said_to_be_so(atari_run, no_display, monkeypatch, capsys):
    monkeypatch.setenv("DISPLAY", ":98765")
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")  # as the command sets it: undone after the test
    assert "cannot open a window" in one_line(capsys, atari_run)


def test_what_cannot_be_watched_gets_one_line(atari_run, tmp_path, no_display, capsys):
    assert "there is no such run folder" in one_line(capsys, tmp_path / "nowhere")
    assert "checkpoint: got '77'; allowed: best, last, " in one_line(capsys, atari_run, "--checkpoint", "77")
    assert "speed: got 0; allowed: 0.0625 to 16" in one_line(capsys, atari_run, "--speed", "0")
    assert "episodes: got 0; allowed: a whole number of at least 1" in one_line(capsys, atari_run, "--episodes", "0")
    empty = shutil.copytree(atari_run, tmp_path / "empty", ignore=shutil.ignore_patterns("step-*"))
    assert "checkpoint" in one_line(capsys, empty)


@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors"])
def test_instead_of_a_damaged_checkpoint_the_newest_whole_one_is_offered(
    atari_run, tmp_path, no_display, monkeypatch, capsys, name
):
    run = shutil.copytree(atari_run, tmp_path / "run")
    damaged = shutil.copytree(run / "checkpoints/step-000000000000", run / "checkpoints/step-000000000010") / name
    edit_manifest(run, steps=10)
    damaged.write_bytes(damaged.read_bytes()[:-9])
    monkeypatch.setenv("DISPLAY", ":98765")  # which is looked for before weights are loaded
    error = one_line(capsys, run)
    assert str(damaged) in error
    assert error.endswith("--checkpoint 0\n")


@pytest.fixture
def screen(monkeypatch):
    """A display of its own, in memory."""
    if not shutil.which("Xvfb") or not shutil.which("xdotool"):
        pytest.skip("needs Xvfb and xdotool: apt-get install xvfb xdotool")
    read, write = os.pipe()
    words = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1440x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(words, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as numbers:
        name = f":{numbers.readline().strip()}"
    monkeypatch.setenv("DISPLAY", name)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    yield name
    server.terminate()
    server.wait(timeout=HANGS)


def xdotool(*words):
    return subprocess.run(["xdotool", *words], capture_output=True, text=True, timeout=HANGS).stdout.strip()


def wait_for_title(end, seconds=HANGS):
    """Waits until the window that the keys go to has a title that ends so."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        title = xdotool("getwindowfocus", "getwindowname")
        if title.startswith("rfwp watch ") and title.endswith(f" - {end}"):
            return
        time.sleep(0.1)
    raise AssertionError(f"no window says {end}")


def look_until(condition, screen, seconds=HANGS):
    """The newest of pictures of the screen, half a second apart, once one and the next fulfil a condition."""
    until, now = time.monotonic() + seconds, np.asarray(ImageGrab.grab(xdisplay=screen))
    while True:
        time.sleep(0.5)
        before, now = now, np.asarray(ImageGrab.grab(xdisplay=screen))
        if condition(before, now):
            return now
        assert time.monotonic() < until, "waited in vain"


@pytest.mark.slow
def test_the_window_shows_the_game_and_obeys_its_keys(atari_run, screen):
    command = own_command("watch", str(atari_run), "--overlay", "memory")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_title("speed 1")
        for key, title in [("Up", "speed 2"), ("minus", "speed 1"), ("space", "paused")]:
            xdotool("key", "--delay", "0", key)  # a key that stays down is repeated
            wait_for_title(title)
        still = look_until(lambda before, now: (before == now).all(), screen)  # the step is played to its end
        xdotool("key", "--delay", "0", "Right")
        stepped = look_until(lambda _, now: (now != still).any(), screen)
        red_paddle = (stepped == (200, 72, 72)).all(-1).sum()
        assert red_paddle > 1000  # Breakout's, and its bricks
        xdotool("key", "q")
        output, error = process.communicate(timeout=HANGS)
        assert (process.returncode, error) == (0, "")
        assert "Traceback" not in output
    finally:
        process.kill()
        process.wait()
