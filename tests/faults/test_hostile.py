"""What a run folder says is checked like the words of a user: types, ranges, names."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from saved import checkpoints, edit_manifest, resume

from rfwp.runners.cli import main
from rfwp.runners.runfolder.evaluations import read_evaluation
from rfwp.runners.runfolder.metrics_file import read_line


def newest_trainer_state(run: Path) -> dict[str, Any]:
    return torch.load(checkpoints(run)[-1] / "trainer.pt", weights_only=True)


def write_trainer(run: Path, state: dict[str, Any]) -> None:
    path = checkpoints(run)[-1] / "trainer.pt"
    torch.save(state, path)
    sums = json.loads(path.with_name("manifest.json").read_text())["sha256"]
    edit_manifest(run, sha256=sums | {"trainer.pt": hashlib.sha256(path.read_bytes()).hexdigest()})


def edit_config(run: Path, old: str, new: str) -> None:
    path = run / "config.yaml"
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new).rpartition("# sha256")[0] + "...\n")


def assert_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "\x1b" not in error
    return error


MANIFESTS = [
    *({"steps": steps} for steps in (-5, "5", True, 10**400, 99, None)),
    *({"score": score} for score in (float("nan"), "1", 1e308, [1])),
    *({"metrics_bytes": size} for size in (-7, "7", 10**30)),
    *({"metrics_sha256": [1]}, {"created": [1]}, {"written_by": {}}, {"format": "\x1b[2J", "written_by": "\x1b[2J"}),
]


@pytest.mark.parametrize("facts", MANIFESTS, ids=lambda facts: str(facts)[:40])
def test_a_manifest_with_a_value_that_is_not_allowed_is_refused(run, capsys, facts):
    edit_manifest(run, **facts)
    assert "manifest" in assert_refused(resume(run), capsys)


def square_average(state):
    return next(iter(state["learner"]["optimiser"].values()))


STATES = {
    "nothing": lambda state: state.clear(),
    "other steps": lambda state: state["learner"].update(steps=state["learner"]["steps"] + 1),
    "negative version": lambda state: state["learner"].update(version=-7),
    "huge version": lambda state: state["learner"].update(version=10**40),
    "no time": lambda state: state.update(wall_seconds=float("nan")),
    "mean square of another shape": lambda state: square_average(state).update(square_avg=torch.zeros(3)),
    "mean square that is a number": lambda state: square_average(state).update(square_avg=5),
    "episodes of words": lambda state: state["training"]["episodes"].update(recent=[("a", "b")]),
    "random state": lambda state: state.update(random=torch.zeros(3)),
}


@pytest.mark.parametrize("name", STATES)
def test_a_trainer_state_with_a_value_that_is_not_allowed_is_refused(run, capsys, name):
    state = newest_trainer_state(run)
    STATES[name](state)
    write_trainer(run, state)
    assert "does not hold the state of this run" in assert_refused(resume(run), capsys)


def test_no_setting_of_the_optimiser_is_saved(run):
    learner = newest_trainer_state(run)["learner"]
    assert set(learner) == {"optimiser", "optimiser_name", "steps", "version"}
    assert {name for leaves in learner["optimiser"].values() for name in leaves} == {"step", "square_avg"}


def test_returns_that_are_too_large_to_add_up_do_not_end_a_run(run):
    state = newest_trainer_state(run)
    state["training"]["episodes"]["recent"] = [(1e308, 1)] * 100
    write_trainer(run, state)
    assert main(resume(run)) == 0
    assert main(resume(run, "1600")) == 0  # what it has saved can be read


CONFIGS = {
    "a key that looks like a date": ("seed: 1\n", "seed: 1\n2026-01-01: 3\n"),
    "a reference to itself": ("seed: 1\n", "seed: &a [*a]\n"),
    "hexadecimal digits": ("seed: 1\n", f"seed: {'f' * 6000}\n"),
    "decimal digits": ("seed: 1\n", f"seed: {'9' * 6000}\n"),
    "an unknown game": ("name: delayed_cue\n", "name: atari\n  game: ../../x\n"),
    "an environment that is a list": ("name: delayed_cue\n", "name: [delayed_cue]\n"),
    "a protocol that is a list": ("name: delayed_cue\n", "name: atari\n  protocol: [dqn]\n"),
    "more weights than there are numbers": ("hidden_size: 8\n", "hidden_size: 9223372036854775807\n"),
    "more weights than memory": ("hidden_size: 8\n", "hidden_size: 800000000\n"),
    "a terminal escape": ("seed: 1\n", 'seed: "\\e[2J"\n'),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_with_odd_contents_is_refused(run, capsys, name):
    edit_config(run, *CONFIGS[name])
    assert_refused(resume(run), capsys)
    assert_refused(["evaluate", str(run)], capsys)


@pytest.mark.parametrize(
    "facts",
    [
        *({"mean": mean} for mean in (1e308, None, "1", [1])),
        *({"steps": steps} for steps in (-3, 3.5, "3")),
        *({"episodes": 0}, {"episodes": 1.5}, {"seed": 10**400}),
    ],
    ids=str,
)
def test_an_evaluation_with_a_value_that_is_not_allowed_is_none(tmp_path, facts):
    whole = {"env": "x", "mean": 1.0, "steps": 3, "episodes": 2, "seed": 0, "protocol": None, "score": "episode"}
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({**whole, "policy": "sampled"}))
    assert read_evaluation(path) is not None
    path.write_text(json.dumps({**whole, "policy": "sampled", **facts}))
    assert read_evaluation(path) is None


def test_absurd_metrics_are_damaged_lines():
    for line in ('{"steps": -1}', '{"steps": 1, "wall_seconds": -5}', '{"steps": 1e308}', "[1]", "1"):
        assert read_line(f"{line}\n".encode()) is None


COMPARISONS = {
    "seeds": [1.5, "x", None, [1]],
    "steps": [-1, 1.5, {}],
    "option": ["nothing", ["envs"], None],
    "subjects": [3, [3], "recall", [["recall"]], [None]],
    "cores": [[3], "lstm", None, [{}]],
    "presets": [[3], None, ["nothing"]],
    "settings": [[3], ["--run", "x"], ["--config=x"], ["--resume_from", "last"], "--sync", None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in COMPARISONS.items() for value in values])
def test_a_record_of_a_comparison_is_checked_like_its_options(tmp_path, capsys, name, value):
    record = {"option": "envs", "subjects": ["recall"], "cores": ["lstm"], "seeds": 1, "steps": 9, "presets": ["toy"]}
    (tmp_path / "comparison.json").write_text(json.dumps({**record, "settings": [], name: value}))
    assert_refused(["compare", "--out", str(tmp_path)], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.json"]


UNREPORTABLE = {
    "an unknown environment": ("name: delayed_cue\n", "name: nowhere\n"),
    "a name that is a number": ("seed: 1\n", "seed: 1\n5: 3\n"),
    "a name with markup": ("seed: 1\n", 'seed: 1\n"=<b>[red]": 3\n'),
    "such a name in a section": ("hidden_size: 8\n", 'hidden_size: 8\n  "\\e[2J": 3\n'),
}


def test_a_report_leaves_out_what_cannot_be_read_and_goes_on(run, tmp_path, capsys):
    for name, edit in UNREPORTABLE.items():
        shutil.copytree(run, tmp_path / name)
        edit_config(tmp_path / name, *edit)
    (run / "videos" / "step-000000000400.mp4").mkdir(parents=True)
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report")]) == 0
    shown = capsys.readouterr().out
    assert [name for name in UNREPORTABLE if f"{tmp_path / name} was left out" not in shown] == []
