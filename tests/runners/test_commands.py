"""What the commands print and refuse, as a user meets them: exit codes, one line on stderr, nothing touched."""

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from rfwp.agents.actor_learner import ActorLearner
from rfwp.runners.build import build_system
from rfwp.runners.cli import main
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.resources import own_command
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder.folder import RunFolder, create_run_folder
from rfwp.runners.runfolder.metrics_log import METRICS
from rfwp.runners.settings.kinds import AGENT
from rfwp.runners.settings.options import config_from_words
from rfwp.runners.training.agent_training import AgentTraining
from rfwp.runners.training.dashboard import Dashboard, PlainLines, open_display

TRAIN = "train --env delayed_cue --final_episodes 0 --encoder.size 8 --learner.batch_size 4 --actors.envs 8".split()


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "whole"
    assert main([*TRAIN, "--total_steps", "200", "--run", str(path)]) == 0
    return path


@pytest.fixture
def run(whole_run, tmp_path):
    """A copy of a finished run, to be damaged."""
    return shutil.copytree(whole_run, tmp_path / "run")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "no config": lambda run: (run / "config.yaml").unlink(),
    "truncated config": lambda run: cut(run / "config.yaml"),
    "foreign config": lambda run: (run / "config.yaml").write_text("apiVersion: v1\nkind: Pod\n"),
    "binary config": lambda run: (run / "config.yaml").write_bytes(b"\x80\x04\x95"),
    "truncated weights": lambda run: cut(next(run.glob("checkpoints/*/weights.safetensors"))),
    "truncated manifest": lambda run: cut(next(run.glob("checkpoints/*/manifest.json"))),
    "missing weights": lambda run: next(run.glob("checkpoints/*/weights.safetensors")).unlink(),
    "missing checkpoint": lambda run: shutil.rmtree(next(run.glob("checkpoints/step-*"))),
    "missing checkpoints": lambda run: shutil.rmtree(run / "checkpoints"),
}


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_refused_in_one_line_and_left_as_it_is(run, capsys, command, damage):
    DAMAGE[damage](run)
    before = contents(run)
    assert main(["train", "--run", str(run)] if command == "train" else ["evaluate", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    after = contents(run)
    after.pop(run.relative_to(run) / ".lock", None)
    before.pop(run.relative_to(run) / ".lock", None)
    assert after == before


def test_a_truncated_trainer_state_stops_a_resume_but_not_an_evaluation(run, capsys):
    cut(next(run.glob("checkpoints/*/trainer.pt")))
    assert main(["evaluate", str(run), "--episodes", "2"]) == 0
    assert main(["train", "--run", str(run), "--total_steps", "400"]) == 2
    assert "trainer.pt is damaged" in capsys.readouterr().err


def test_a_long_run_that_has_lost_its_checkpoints_does_not_begin_anew(run, capsys):
    shutil.rmtree(run / "checkpoints")
    for seconds, words in ((400, ["--total_steps", "400"]), (10, [])):
        with (run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"steps": 300, "wall_seconds": seconds}) + "\n")
        before = contents(run)
        assert main(["train", "--run", str(run), *words]) == 2
        assert "though the run has trained for 300 agent steps" in capsys.readouterr().err
        assert contents(run) == before


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(run):
    shutil.rmtree(run / "checkpoints")
    assert main(["train", "--run", str(run), "--total_steps", "400"]) == 0
    assert min(RunFolder(run).checkpoints.steps()) >= 400


def test_a_run_cannot_end_before_where_it_is_but_may_have_come_further_than_it_was_to_go(run, capsys):
    before = contents(run)
    assert main(["train", "--run", str(run), "--total_steps", "100"]) == 2
    assert "total_steps: got 100, but the run is at 256; allowed: 256 or more" in capsys.readouterr().err
    assert contents(run) == before


def test_a_checkpoint_that_is_not_there_is_no_damage(run, capsys):
    assert main(["evaluate", str(run), "--checkpoint", "5"]) == 2
    assert capsys.readouterr().err == "rfwp evaluate: checkpoint: got '5'; allowed: best, last, 256\n"


@pytest.mark.parametrize("place", ["", ".", "nowhere/x.json"])
def test_where_a_score_cannot_be_written_no_game_is_played(run, capsys, monkeypatch, place):
    monkeypatch.setattr("rfwp.runners.commands.evaluate.run_evaluation", None)
    assert main(["evaluate", str(run), f"--json={place}"]) == 2
    assert f"json: got {place!r}; allowed: a file in a folder" in capsys.readouterr().err


def test_an_encoder_that_does_not_suit_the_world_is_named(capsys):
    assert main(["train", "--env", "recall", "--encoder", "shallow"]) == 2
    assert "encoder: got shallow, which does not suit recall: " in capsys.readouterr().err


def test_a_missing_run_is_said_to_be_missing(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_name_gets_game_core_and_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main([*TRAIN, "--core", "gru", "--total_steps", "20"]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["delayed_cue-gru-1", "delayed_cue-gru-2"]


def test_runs_without_a_name_that_start_at_once_get_folders_of_their_own(tmp_path):
    config = config_from_words("--env recall --core gru".split())
    with ThreadPoolExecutor(16) as threads:
        folders = list(threads.map(lambda _: create_run_folder(config, tmp_path).path.name, range(64)))
    assert sorted(folders) == sorted(f"recall-gru-{number}" for number in range(1, 65))


@pytest.mark.parametrize(("option", "value"), [("seed", "9"), ("initialisation", "default"), ("core", "gru")])
def test_what_came_before_the_first_step_cannot_change_in_a_resumed_run(run, capsys, option, value):
    before = contents(run)
    assert main(["train", "--run", str(run), f"--{option}", value]) == 2
    assert "a resumed run cannot change it" in capsys.readouterr().err
    assert contents(run) == before


def test_a_resumed_run_tells_what_it_depended_on_before(tmp_path, monkeypatch):
    folder, config = RunFolder(tmp_path / "run"), config_from_words("--env recall --core gru".split())
    folder.create()
    for version in ("1", "2", "2", "3", "4"):
        monkeypatch.setattr(resources, "versions", lambda version=version: {"python": "3.11", "torch": version})
        folder.write_config(config)
    told = [line for line in folder.config_file.read_text().splitlines() if "python" in line or "torch" in line]
    assert told == ["# python: 3.11", "# torch: 4", "# earlier torch: 3", "# earlier torch: 2", "# earlier torch: 1"]
    assert folder.read_config() == config


def test_the_config_of_one_run_begins_another(whole_run, tmp_path):
    words = ["train", "--config", str(whole_run / "config.yaml"), "--seed", "9", "--run", str(tmp_path / "second")]
    assert main(words) == 0
    assert "seed: 9" in (tmp_path / "second" / "config.yaml").read_text()


def test_a_config_for_a_run_that_has_one_is_refused(run, capsys):
    assert main(["train", "--run", str(run), "--config", str(run / "config.yaml")]) == 2
    assert "leave --config out" in capsys.readouterr().err


def test_print_config_creates_nothing(tmp_path, capsys):
    assert main([*TRAIN, "--print_config", "--run", str(tmp_path / "run")]) == 0
    assert "delayed_cue" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_metrics_have_documented_names(whole_run):
    for line in (whole_run / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line).keys() == METRICS[AGENT].keys()


def test_cores_are_listed_with_the_sizes_of_the_paper_agent(capsys):
    assert main(["cores", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    # LSTM: 4 gates of 256, from 257 inputs, 256 of its own, two biases; beside the encoder and the heads.
    lstm, feedforward = rows["lstm"], rows["feedforward"]
    heads = lambda size: 7 * (size + 1)  # noqa: E731  six actions and the value
    assert lstm["parameters"] - feedforward["parameters"] == 4 * 256 * (257 + 256 + 2) + heads(256) - heads(257)
    assert (lstm["state_floats"], feedforward["state_floats"]) == (512, 0)
    # RDN: two layers of four heads, each with a 32 x 32 matrix and its last output.
    assert rows["rdn"]["state_floats"] == 2 * 4 * (32 * 32 + 32)
    assert all(row["description"] for row in rows.values())


@pytest.mark.parametrize("words", [[], ["fly"], ["train", "--bogus"], ["cores", "extra"], ["evaluate"]])
def test_wrong_commands_end_with_2(words, capsys):
    assert main(words) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("words", [[], ["--version"]])
def test_output_that_cannot_be_written_is_one_line_and_no_mistake_of_the_users(words):
    with open("/dev/full", "w") as full:
        result = subprocess.run(own_command(*words), stdout=full, stderr=subprocess.PIPE, text=True)
    assert (result.stderr, result.returncode) == (f"{' '.join(['rfwp', *words])}: output: No space left on device\n", 1)


def test_too_little_shared_memory_is_said_with_the_sizes(monkeypatch):
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(64, 0, 1_000_000))
    with pytest.raises(UserError, match=r"48 environments need 2 MB of shared memory, but /dev/shm has 1 MB free"):
        resources.check_shared_memory(2_000_000, "48 environments")


def test_too_little_memory_is_said_before_anything_starts(tmp_path, capsys):
    words = [*TRAIN, "--actors.envs", "8192", "--learner.unroll_length", "1_000_000", "--learner.batch_size", "8192"]
    assert main([*words, "--run", str(tmp_path / "run")]) == 2
    assert "8192 environments with observations of 1x1x" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_agent_that_is_too_large_is_refused_before_its_weights_are_made(tmp_path, capsys):
    assert main([*TRAIN, "--core", "lstm", "--core.hidden_size", "1000000", "--run", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "core.hidden_size" in error
    assert error.count("\n") == 1


def test_a_refused_start_leaves_nothing_behind_and_a_refused_resume_changes_nothing(run, tmp_path, capsys):
    other = tmp_path / "other"
    assert main([*"train --env delayed_cue --encoder shallow --actors.envs 8 --run".split(), str(other)]) == 2
    assert not other.exists()
    before = contents(run)
    assert main(["train", "--run", str(run), "--actors.envs", "100_000_000_000"]) == 2
    assert contents(run) == before


def test_weights_that_are_not_finite_end_the_run_and_are_not_saved(tmp_path, capsys):
    words = [*TRAIN, "--core", "linear_transformer", "--learner.learning_rate", "1e37", "--sync"]
    assert main([*words, "--run", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "lower learner.learning_rate" in error
    assert "Traceback" not in error
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_another_type_of_device_begins_new_random_numbers(run):
    system = ActorLearner(RunFolder(run).read_config())
    system.load_state_dict(system.state_dict() | {"device": "cuda", "sampling": torch.zeros(16, dtype=torch.uint8)})


LINE = dict.fromkeys(METRICS[AGENT]) | {"steps": 500.0, "frames": 2000.0, "steps_per_second": 100.0, "return_mean": 1.5}


@pytest.fixture
def training():
    config = config_from_words("--env recall --core gru --device cpu --total_steps 1000".split())
    return AgentTraining(config, build_system(config))


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"episodes": 40}, "500 agent steps (50%)"),
        ({"episodes": 40}, "(last 40 of 40 episodes)"),
        ({"episodes": 4000}, "(last 100 of 4,000 episodes)"),
        ({"episodes": 40}, "to go 0:00:05"),
        ({"steps": 1280.0}, "1,280 agent steps (100%)"),  # a run ends with the batch that reaches its last step
    ],
)
def test_a_pipe_gets_plain_lines(training, capsys, facts, shown):
    with open_display("run", training, Terminal(force_terminal=False, width=200)) as display:
        assert isinstance(display, PlainLines)
        display.update(LINE | facts)
    assert shown in (printed := capsys.readouterr().out)
    assert "\x1b" not in printed


def test_a_terminal_gets_a_dashboard(training, capsys):
    with open_display("runs/x", training, Terminal(force_terminal=True, width=120)) as display:
        assert isinstance(display, Dashboard)
        display.update(LINE)
        display.advance(500)
    shown = capsys.readouterr().out
    assert "runs/x" in shown
    assert "return (last 100 episodes)" in shown
    assert "500 of 1,000 agent steps" in shown
