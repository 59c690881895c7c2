"""Runs on Gymnasium environments, from the command line, and whose code they import."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from rfwp.runners.cli import main
from rfwp.runners.machine.resources import own_command
from rfwp.runners.runfolder.evaluations import final_evaluation
from rfwp.runners.runfolder.folder import RunFolder

CARDS = '''"""A card is shown at the start and asked for at the end. It notes who imports it."""

from pathlib import Path

import gymnasium
from gymnasium.spaces import Dict, Discrete

Path(__file__).with_name("imported").touch()


class Cards(gymnasium.Env):
    observation_space = Dict({"card": Discrete(3), "time": Discrete(5)})
    action_space = Discrete(2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.card = 0, int(self.np_random.integers(2))
        print("shuffled")
        return {"card": self.card, "time": 0}, {}

    def step(self, action):
        self.time += 1
        over = self.time == 4
        return {"card": 2, "time": self.time}, float(over and action == self.card), over, False, {}
'''
QUICK = "--core gru --total_steps 2_000 --final_episodes 3 --actors.envs 4 --learner.batch_size 4".split()


def rfwp(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(own_command(*words), cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with cards.py and a run on it; to be copied."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "cards.py").write_text(CARDS)
    words = f"train --env gym --env.id cards:Cards --last_action --run run {' '.join(QUICK)}"
    done = rfwp(folder, *words.split())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Observation: card (categories of 3), time (categories of 5)" in done.stdout
    assert "shuffled" not in done.stdout + done.stderr
    assert "evaluate run --trust" in done.stdout
    (folder / "imported").unlink()
    return folder


@pytest.fixture
def own(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "own")
    return tmp_path / "own"


@pytest.mark.slow
def test_an_environment_in_a_file_of_the_current_folder_trains_by_one_command(trained):
    run = RunFolder(trained / "run")
    assert run.read_config().env.title == "Cards"
    assert final_evaluation(run)["episodes"] == 3
    assert "shuffled" in run.actor_output.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    ["train --run run --total_steps 3000", "train --config run/config.yaml", "evaluate run", "watch run"],
)
def test_code_that_only_a_file_names_is_not_imported(own, words):
    done = rfwp(own, *words.split())
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "env.id: Cards imports cards" in done.stderr
    assert "add --trust" in done.stderr
    assert not (own / "imported").exists()


@pytest.mark.slow
def test_a_report_imports_nothing(own):
    done = rfwp(own, "report", "run", "--out", "page")
    assert done.returncode == 0, done.stderr
    assert not (own / "imported").exists()


@pytest.mark.slow
def test_who_trusts_a_run_scores_and_resumes_it_also_from_elsewhere(own):
    done = rfwp(own, *"evaluate run --episodes 2 --trust --json -".split())
    assert json.loads(done.stdout)["episodes"] == 2
    elsewhere = own / "elsewhere"
    elsewhere.mkdir()
    done = rfwp(elsewhere, *"train --run ../run --total_steps 3000 --trust".split())
    assert done.returncode == 2
    assert "--env.path FOLDER" in done.stderr
    done = rfwp(elsewhere, *"train --run ../run --total_steps 3000 --trust --env.path ..".split())
    assert done.returncode == 0, done.stderr
    config = RunFolder(own / "run").read_config()
    assert (config.total_steps, config.env.path) == (3000, "..")


@pytest.mark.slow
def test_an_environment_that_became_another_is_refused(own):
    file = own / "cards.py"
    file.write_text(file.read_text().replace("action_space = Discrete(2)", "action_space = Discrete(3)"))
    for words in ("evaluate run --trust", "train --run run --total_steps 3000 --trust"):
        done = rfwp(own, *words.split())
        assert done.returncode == 2
        assert "env: got other actions than those in 'run/interface.json'" in done.stderr


@pytest.mark.slow
def test_a_comparison_goes_on_with_code_only_if_it_is_trusted(own):
    words = f"compare --envs cards:Cards --cores gru --seeds 1 --steps 2000 --out grid {' '.join(QUICK[4:])}"
    done = rfwp(own, *words.split())
    assert done.returncode == 0, done.stdout + done.stderr
    assert (own / "grid" / "cards-Cards-gru-1" / "config.yaml").exists()
    (own / "imported").unlink()
    assert rfwp(own, *"compare --out grid".split()).returncode == 2
    assert not (own / "imported").exists()
    assert rfwp(own, *"compare --out grid --trust".split()).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env_id", "settings"),
    [
        ("CartPole-v1", ""),
        ("Blackjack-v1", ""),
        ("popgym-AutoencodeEasy-v0", ""),
        ("popgym-CountRecallEasy-v0", ""),
        ("popgym-BattleshipEasy-v0", ""),
        ("popgym-NoisyPositionOnlyPendulumEasy-v0", "--env.action_bins 5"),
        ("MiniGrid-MemoryS7-v0", "--env.max_steps 40"),
        (
            "MiniGrid-MemoryS7-v0",
            """--env.max_steps 40 --env.wrappers '["minigrid.wrappers:RGBImgPartialObsWrapper"]'""",
        ),
    ],
)
def test_an_installed_environment_is_trained_resumed_and_scored(tmp_path, capsys, env_id, settings):
    run = str(tmp_path / "run")
    assert main(["train", "--env", "gym", "--env.id", env_id, *shlex.split(settings), "--run", run, *QUICK]) == 0
    assert main(["train", "--run", run, "--total_steps", "3_000"]) == 0
    assert main(["evaluate", run, "--episodes", "2", "--json", "-"]) == 0
    assert "Traceback" not in capsys.readouterr().err
    assert final_evaluation(RunFolder(Path(run)))["steps"] >= 3000


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ("modules: [json]", "json"),
        ("id: json:JSONDecoder", "json"),
        ("id: GymV21Environment-v0", "GymV21Environment-v0"),
        ("path: elsewhere", "modules in elsewhere"),
        ("""wrappers: '["os:system"]'""", "os:system"),
        ("""wrappers: '["gymnasium.wrappers:RecordVideo"]'""", "gymnasium.wrappers:RecordVideo"),
    ],
)
def test_every_setting_that_names_code_needs_trust(tmp_path, capsys, settings, code):
    file = tmp_path / "config.yaml"
    file.write_text(f"env:\n  name: gym\n  {settings}\n")
    assert main(["train", "--config", str(file), "--run", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rfwp train: env.{settings.partition(':')[0]}: ")
    assert f" imports {code}, which" in error
    assert not (tmp_path / "run").exists()


def test_the_command_line_may_name_code(capsys):
    words = "train --env gym --env.modules [json] --print_config"
    assert main(words.split()) == 0
    assert "modules:\n  - json" in capsys.readouterr().out


def test_an_encoder_of_images_needs_an_image(tmp_path, capsys):
    assert main(["train", "--env", "gym", "--encoder", "nature", "--run", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "encoder: got nature, but CartPole-v1 has no images, only observation (vector of 4)" in error
    assert os.listdir(tmp_path) == []


def test_a_comparison_refuses_an_id_that_is_not_registered(tmp_path, capsys):
    words = ["compare", "--envs", "CartPole-v99", "--cores", "gru", "--steps", "100", "--out", str(tmp_path / "grid")]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("rfwp compare: env.id: ")
    assert os.listdir(tmp_path) == []


def test_environments_are_listed_and_described(capsys):
    assert main(["envs", "cartpole"]) == 0
    printed = capsys.readouterr().out
    assert "CartPole-v1" in printed
    assert "--env recall" not in printed
    assert "compare" not in printed
    assert main(["envs", "POPGym"]) == 0
    assert "rfwp compare --envs: popgym/easy, popgym/medium, popgym/hard\n" in capsys.readouterr().out
    assert main(["envs", "MountainCarContinuous-v0", "--env.action_bins", "3"]) == 0
    printed = capsys.readouterr().out
    assert "observation (vector of 2)" in printed
    assert "3 values: -1, 0, 1" in printed
    assert main(["envs", "recall"]) == 0
    assert "--env recall" in capsys.readouterr().out
    assert main(["envs", "no_such_name"]) == 2
    assert "word: no environment has 'no_such_name'" in capsys.readouterr().err
