"""What is printed: text as it is, and a run that goes on when its output reaches nobody."""

import io
import os
import sys

import pytest
from rich.table import Table

from rfwp.runners.cli import main
from rfwp.runners.machine.terminal import Terminal

TRAIN = (
    "train --env delayed_cue --core lstm --core.hidden_size 8 --encoder.size 8 --final_episodes 2 --total_steps 200"
    " --learner.batch_size 4 --actors.envs 8 --log_seconds 0.01"
).split()


def pipe_without_a_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def closed_terminal():
    keyboard, screen = os.openpty()
    os.close(keyboard)
    return os.fdopen(screen, "w")


def locale_without_a_dash():
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


@pytest.mark.parametrize("output", [pipe_without_a_reader, closed_terminal, locale_without_a_dash])
def test_a_run_whose_output_fails_trains_and_is_scored(monkeypatch, tmp_path, output):
    monkeypatch.setattr(sys, "stdout", output())
    monkeypatch.setattr(sys, "stderr", output())
    assert main([*TRAIN, "--run", str(tmp_path / "run")]) == 0
    assert list((tmp_path / "run" / "eval").glob("*-final.json"))


def test_json_that_reaches_nobody_is_a_failure(monkeypatch, tmp_path):
    assert main([*TRAIN, "--run", str(tmp_path / "run")]) == 0
    monkeypatch.setattr(sys, "stdout", pipe_without_a_reader())
    assert main(["evaluate", str(tmp_path / "run"), "--episodes", "1", "--json", "-"]) == 141


@pytest.mark.parametrize(
    ("is_terminal", "variables", "redraws"),
    [
        (True, {"TERM": "xterm"}, True),
        (True, {"TERM": "dumb"}, False),
        (False, {"TERM": "xterm", "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}, False),
    ],
)
def test_only_a_terminal_that_can_is_drawn_on(monkeypatch, is_terminal, variables, redraws):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    assert Terminal().is_terminal is redraws


def test_names_are_printed_as_they_are_and_cannot_move_the_cursor(capsys):
    table = Table("lr[/1e-3] [bold]\x1b[2J")
    table.add_row("run [lr=0.1] :smile: \x1b]0;title\x07")
    terminal = Terminal(width=80)
    terminal.print(table)
    terminal.say("[lr=0.1]\x1b[2J")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "lr[/1e-3] [bold]\\x1b[2J" in shown
    assert "run [lr=0.1] :smile: \\x1b]0;title\\x07" in shown
    assert "[lr=0.1]\\x1b[2J\n" in shown
