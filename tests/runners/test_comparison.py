"""What can be compared and what is refused; what a comparison remembers of itself."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from grids import asked

from rfwp.runners.cli import main
from rfwp.runners.compare.comparison import Cell, find_titles, read_record
from rfwp.runners.compare.launcher import largest_run
from rfwp.runners.machine import resources
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.folder import RunFolder

FINAL = {"env": "pong", "protocol": "dqn", "score": "episode", "policy": "sampled", "mean": -20.5}
FINAL |= {"steps": 9, "episodes": 30, "seed": 0}
WRONG = [
    (
        "--envs pnog --cores gru --steps 9",
        "envs: got 'pnog'; allowed: counting, .*, atari/5, .*; and the names of atari, gym, procgen, which `rfwp envs`"
        " lists; nearest: pong, up_n_down",
    ),
    ("--envs bigfih --cores gru --steps 9", "envs: got 'bigfih'; allowed: .*; nearest: .*, bigfish, "),
    ("--envs popgym/esay --cores gru --steps 9", "envs: got 'popgym/esay'; .*did you mean popgym/easy"),
    ("--envs Recal --cores gru --steps 9", "envs: got 'Recal'; .*did you mean recall"),
    ("--envs ALE/Pnog-v5 --cores gru --steps 9", "envs: got 'ALE/Pnog-v5'; allowed: .*; nearest: pong"),
    ("--envs pong --cores gru --steps 9 --env.game pong", "env.game: .*use --envs"),
    ("--envs recall --cores grr --steps 9", "cores: got 'grr'; allowed: .*did you mean gru"),
    ("--envs recall --cores gru", "steps: missing"),
    ("--cores gru --steps 9", "envs: missing"),
    ("--envs --cores gru --steps 9", "envs"),
    ("--envs recall --cores gru --steps many", "steps: got many; allowed: a whole number"),
    ("--envs recall --cores gru --steps 0", "steps: got 0"),
    ("--envs recall --cores gru --steps 9 --seeds 0", "seeds: got 0"),
    ("--envs recall --cores gru --steps 9 --seeds -1", "seeds"),
    ("--envs recall --cores gru --steps 9 --jobs 0", "jobs: got 0"),
    ("--envs recall --cores gru --steps 9 --preset big", "preset: got 'big'; allowed: paper, gpu, cpu, toy"),
    ("--envs recall --cores gru --steps 9 --seed 3", "seed: .*use --seeds"),
    ("--envs recall --cores gru --steps 9 --resume_from best", "resume_from: .*use rfwp train --run RUN"),
    ("--envs recall --cores gru --steps 9 --core=lstm", "core: .*use --cores"),
    ("--envs recall --cores gru --steps 9 --final_episodes 0", "final_episodes: got 0"),
    ("--envs recall --cores gru --steps 9 --learner.batch_size 0", "learner.batch_size: got 0"),
    ("--envs recall --cores rdn gru --steps 9 --core.feature_map elu", "core.feature_map: .*runs of gru on recall"),
    ("--envs recall pong --cores gru --steps 9 --env.num_values 2", "env.num_values: .*runs of gru on pong"),
    ("--envs recall --cores gru --steps 9 --encoder shallow", "encoder"),
    ("--envs recall --cores gru --steps 9 --device cuda:99", "device: got 'cuda:99'"),
    ("--envs recall --cores gru --steps 9 --actors.envs 100_000_000_000", "actors.envs"),
    ("--tasks listop --cores gru --steps 9", "tasks: got 'listop'; .*did you mean listops"),
    ("--tasks listops --envs recall --cores gru --steps 9", "tasks: got listops beside envs recall; allowed: one"),
    ("--tasks listops --cores gru --steps 9 --task.depth 0", "task.depth: got 0; .*runs of gru on listops"),
    ("stray --envs recall --cores gru --steps 9", "stray"),
]


def test_a_set_stands_for_all_its_environments_in_their_usual_spelling():
    found = find_titles("envs", ["ALE/Pong-v5", "atari/5", "popgym/easy", "recall"])
    assert found[:3] == ["pong", "battle_zone", "double_dunk"]
    assert found[-2:] == ["popgym-VelocityOnlyCartpoleEasy-v0", "recall"]
    for name, size in (("atari/57", 57), ("popgym/hard", 14), ("minigrid/memory", 6)):
        titles = find_titles("envs", [name])
        assert len(set(titles)) == size
        assert titles == find_titles("envs", titles)


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_a_wrong_word_is_refused_in_one_line_before_anything_is_written(tmp_path, capsys, words, message):
    assert main(["compare", *words.split(), "--out", str(tmp_path / "grid")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert list(tmp_path.iterdir()) == []


def test_every_game_is_played_by_every_core_with_every_seed_and_gets_its_own_preset():
    comparison = asked()
    assert comparison.subjects == ("recall", "pong")
    assert comparison.presets[0] == "toy"
    assert comparison.presets[1] in ("cpu", "gpu")
    assert len(set(comparison.cells)) == 8
    assert [cell.seed for cell in comparison.cells] == [1] * 4 + [2] * 4
    configs = dict(comparison.configs())
    assert {config.total_steps for config in configs.values()} == {9}
    assert configs[Cell("pong", "rdn", 2)].seed == 2
    assert configs[Cell("pong", "rdn", 2)].env.title == "pong"
    assert len({config.final_episodes for config in configs.values()}) == 1


def begin(out: Path, comparison) -> None:
    """As if the runs had been begun, but not trained."""
    for cell, config in comparison.configs():
        folder = RunFolder(out / cell.name)
        folder.create()
        folder.write_config(config)
    comparison.write(out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--steps 10", "steps: got 10, but the run .* was started with 9"),
        ("--core.num_layers 3", r"core.num_layers: got 3, but the run .*recall-lstm-1.* was started with 1"),
        ("--final_episodes 5", "final_episodes: got 5, but the run .* was started with 30"),
        ("--preset cpu --encoder flat", "got .* but the run .* was started with"),
    ],
)
def test_other_settings_than_those_of_the_runs_are_refused_with_both_values(tmp_path, capsys, words, message):
    begin(tmp_path, asked(subjects=["recall"], cores=["lstm"], seeds=1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["compare", "--out", str(tmp_path), *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_going_on_keeps_the_preset_of_a_game_however_it_is_spelt(tmp_path, capsys):
    comparison = asked(subjects=["pong"], cores=["gru"], seeds=1, presets=["toy"], settings=["--encoder", "shallow"])
    begin(tmp_path, comparison)
    (tmp_path / "pong-gru-1" / "eval").mkdir()
    (tmp_path / "pong-gru-1" / "eval" / "step-000000000009-final.json").write_text(json.dumps(FINAL))
    assert main(["compare", "--out", str(tmp_path), "--envs", "Pong-v5"]) == 0
    assert "-20.50" in capsys.readouterr().out
    assert read_record(tmp_path) == comparison


def test_what_was_asked_for_is_read_back(tmp_path):
    comparison = asked(settings=["--learner.learning_rate", "1e-3"], presets=["toy", "paper"])
    comparison.write(tmp_path)
    assert read_record(tmp_path) == comparison


BAD_OPTION = json.dumps({**dataclasses.asdict(asked()), "option": "games"})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"subjects": 3}', '{"subjects": ["pong"]', "\0", BAD_OPTION])
def test_a_damaged_record_is_refused_in_one_line(tmp_path, capsys, text):
    (tmp_path / "comparison.json").write_text(text)
    assert main(["compare", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "comparison.json" in error
    assert error.count("\n") == 1


def test_the_folder_of_a_run_and_a_file_are_no_place_for_a_comparison(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("seed: 1\n...\n")
    words = "--envs recall --cores gru --steps 9"
    for place in (tmp_path, tmp_path / "config.yaml"):
        assert main(["compare", *words.split(), "--out", str(place)]) == 2
        assert "choose another name" in capsys.readouterr().err


def test_a_run_ended_before_its_settings_were_written_can_be_begun_again_but_nothing_else_is_overwritten(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    with folder.locked():
        folder.check_free()
    (folder.checkpoints.folder / "step-000000000100").mkdir()
    with pytest.raises(Exception, match="not a run folder"):
        folder.check_free()


def test_a_run_on_a_gpu_is_not_measured_by_the_memory_of_the_machine(monkeypatch):
    monkeypatch.setattr(resources, "free_memory", lambda: 100_000_000)
    comparison = asked(subjects=["pong"], cores=["lstm"], settings=["--learner.batch_size", "512"], presets=["cpu"])
    with pytest.raises(UserError, match="need .* of memory"):
        largest_run(comparison)
    monkeypatch.setattr(resources, "pick_device", lambda name: torch.device("cuda"))
    assert largest_run(comparison) < 1_000_000_000
