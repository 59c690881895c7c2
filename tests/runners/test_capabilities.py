"""An environment without any capability is trained, scored, compared and reported on; what it cannot do is refused."""

import json
import sys

import pytest
from grids import asked
from PIL import Image
from reports import report

from rfwp.envs import worlds
from rfwp.runners.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run on an environment that a file in `envs/worlds` would add."""
    folder = tmp_path_factory.mktemp("environments")
    (folder / "ladder.py").write_text('"""A test\'s environment."""\nfrom ladder import Config\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "__path__", [*worlds.__path__, str(folder)])
        small = "--total_steps 100 --final_episodes 3 --encoder.size 8 --learner.batch_size 4 --actors.envs 8"
        path = tmp_path_factory.mktemp("ladder") / "run"
        assert main(["train", "--env", "ladder", *small.split(), "--run", str(path)]) == 0
        yield path
    del sys.modules["rfwp.envs.worlds.ladder"], worlds.ladder


def test_it_is_evaluated_and_reported_without_protocol_and_normalised_score(run, tmp_path, capsys):
    (evaluation,) = (run / "eval").iterdir()
    facts = json.loads(evaluation.read_text())
    assert (facts["env"], facts["protocol"], facts["mean"], facts["normalised_percent"]) == ("ladder", None, 2.0, None)
    assert main(["evaluate", str(run), "--episodes", "1"]) == 0
    assert "for comparison" not in capsys.readouterr().out
    (row,), _ = report(run, tmp_path / "report")
    assert (row["task"], row["score"], row["from"]) == ("ladder", "2.0", "3 episodes, sampled")
    assert "normalised, %" not in row
    assert not (tmp_path / "report" / "figures" / "aggregates.svg").exists()


def test_it_is_compared_under_its_name_with_the_preset_of_small_tasks(run):
    comparison = asked(subjects=["ladder", "ALE/Pong-v5"], cores=["gru"], seeds=1)
    assert comparison.subjects == ("ladder", "pong")
    assert comparison.presets[0] == "toy"
    assert [config.env.title for _, config in comparison.configs()] == ["ladder", "pong"]


def test_its_observations_are_filmed_five_steps_a_second(run, capsys):
    assert main(["evaluate", str(run), "--episodes", "1", "--gif", "--overlay", "memory"]) == 0
    assert "Filmed an episode that scored 1" in capsys.readouterr().out
    (path,) = (run / "videos").iterdir()
    with Image.open(path) as film:
        assert (film.size, film.info["duration"]) == ((800, 450), 200)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate --protocol dqn", "protocol: got 'dqn'; allowed: none, because ladder has no protocols"),
        ("evaluate --score life", "score: got life; allowed: episode, because ladder has no lives"),
    ],
)
def test_what_it_cannot_do_is_refused_in_one_line(run, capsys, words, message):
    command, *options = words.split()
    assert main([command, str(run), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
