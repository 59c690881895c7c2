"""What a user is told of a grid of runs."""

import pytest
from grids import asked

from rfwp.runners.compare.comparison import Cell
from rfwp.runners.compare.display import GridDashboard, GridLines, open_launcher_display, score_table
from rfwp.runners.compare.launcher import Launcher, find_runs
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder.files import locked


def grid_of_scores(tmp_path, envs, cores):
    comparison = asked(subjects=envs, cores=cores)
    runs = find_runs(comparison, tmp_path)
    for run in runs:
        if run.cell != Cell("recall", "rdn", 2):
            run.score, run.state = 10.0 * run.cell.seed, "done"
    return comparison, runs


@pytest.mark.parametrize(("envs", "cores"), [(["recall"], ["gru", "rdn"]), (["recall", "n_back"], ["rdn"])])
def test_the_table_says_mean_range_and_number_of_seeds(tmp_path, capsys, envs, cores):
    Terminal(width=100).print(score_table(*grid_of_scores(tmp_path, envs, cores)))
    shown = capsys.readouterr().out
    assert "15.00" in shown
    assert "10.00 to 20.00 (2)" in shown
    assert "10.00 to 10.00 (1)" in shown  # the seed that is missing is not made up


def test_a_terminal_gets_one_dashboard_for_all_runs(tmp_path, capsys):
    comparison, runs = grid_of_scores(tmp_path, ["recall"], ["gru", "rdn"])
    runs[-1].state, runs[-1].metrics = "running", {"steps": 3, "return_mean": 1.25, "steps_per_second": 7.0}
    with open_launcher_display("out", comparison, runs, Terminal(force_terminal=True, width=120, height=60)) as display:
        assert isinstance(display, GridDashboard)
        display.update(runs)
    shown = capsys.readouterr().out
    assert "3 of 4 runs done, 1 running" in shown
    assert "recall-rdn-2" in shown
    assert "33%" in shown


def test_a_pipe_gets_plain_lines(tmp_path, capsys, monkeypatch):
    comparison, runs = grid_of_scores(tmp_path, ["recall"], ["gru", "rdn"])
    monkeypatch.setattr(GridLines, "SECONDS", 0.0)
    with open_launcher_display("out", comparison, runs, Terminal(force_terminal=False, width=60)) as display:
        display.update(runs)
        display.note("[a] note")
    shown = capsys.readouterr().out
    assert "3 of 4 runs done, 1 waiting; to go" in shown
    assert "[a] note" in shown
    assert "\x1b" not in shown


def test_nothing_is_started_when_all_is_done(tmp_path):
    comparison, runs = grid_of_scores(tmp_path, ["recall", "n_back"], ["gru"])

    class Silence:
        def update(self, runs):
            raise AssertionError("there was something to do")

        note = update

    with locked(tmp_path, "out") as folder:
        Launcher(runs, folder, 1).run(Silence(), stop=None)
    assert all(run.state == "done" for run in runs)
    assert comparison.cells == [run.cell for run in runs]
