"""Damaged files are refused in one line that names them, and never executed; the next older checkpoint is offered."""

import json
import os
import pickle
import random
import shutil
from itertools import product

import pytest
from harness import permissions_count
from saved import TRAIN, checkpoints, edit_manifest, resume

from rfwp.runners.cli import main
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.checkpoint import Checkpoint
from rfwp.runners.runfolder.evaluations import final_evaluation, final_name, write_evaluation
from rfwp.runners.runfolder.files import write_whole
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.runfolder.records import read_run


class Bomb:
    """A pickle that would make a folder when it is loaded."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (os.mkdir, (self.mark,))


FILES = {
    "weights": lambda run: checkpoints(run)[-1] / "weights.safetensors",
    "trainer": lambda run: checkpoints(run)[-1] / "trainer.pt",
    "manifest": lambda run: checkpoints(run)[-1] / "manifest.json",
    "config": lambda run: run / "config.yaml",
    "metrics": lambda run: run / "metrics.jsonl",
}


def flip(path, mark):
    data = bytearray(path.read_bytes())
    data[random.Random(path.name).randrange(len(data) - 8)] ^= 1
    path.write_bytes(data)


def become_a_folder(path, mark):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "truncated": lambda path, mark: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": flip,
    "empty": lambda path, mark: path.write_bytes(b""),
    "folder": become_a_folder,
    "pickle": lambda path, mark: path.write_bytes(pickle.dumps(Bomb(mark))),
}


def contents(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named_in_one_line_and_nothing_is_changed_or_run(run, tmp_path, capsys, file, damage):
    path, mark = FILES[file](run), tmp_path / "was-here"
    DAMAGE[damage](path, mark)
    before, older = contents(run), int(checkpoints(run)[0].name.removeprefix("step-"))
    capsys.readouterr()
    assert main(resume(run)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert path.name in error
    if file in ("weights", "trainer", "manifest"):
        assert error.endswith(f"--resume_from {older}\n")
    assert contents(run) == before
    assert not mark.exists()


def test_one_bit_flipped_anywhere_in_the_last_lines_of_a_config_is_refused(run):
    folder, path = RunFolder(run), FILES["config"](run)
    whole = path.read_bytes()
    folder.read_values()
    for index, bit in product(range(len(whole) - 130, len(whole)), (0, 5)):
        data = bytearray(whole)
        data[index] ^= 1 << bit
        path.write_bytes(data)
        with pytest.raises(UserError, match="config"):
            folder.read_values()


def test_a_config_without_a_checksum_is_read(run):
    path = FILES["config"](run)
    path.write_text(path.read_text().rpartition("# sha256")[0] + "...\n")
    assert RunFolder(run).read_values()["total_steps"] == 800


def test_a_config_that_goes_on_after_its_checksum_is_refused(run):
    path = FILES["config"](run)
    path.write_text(path.read_text().removesuffix("...\n") + "# one more\n...\n")
    with pytest.raises(UserError, match="does not match its checksum"):
        RunFolder(run).read_values()


def test_the_checkpoint_that_is_offered_is_gone_on_from_and_the_damaged_one_set_aside(run, capsys):
    older, damaged = checkpoints(run)
    flip(damaged / "trainer.pt", None)
    steps, metrics = int(older.name.removeprefix("step-")), (run / "metrics.jsonl").read_bytes()
    assert main(resume(run, "1200", "--resume_from", str(steps))) == 0
    assert f"Resuming at {steps}" in capsys.readouterr().out
    aside = run / "checkpoints" / f"set-aside-{damaged.name}"
    assert (aside / "metrics.jsonl").read_bytes() == metrics  # nothing that was told is lost
    assert not (run / "metrics.jsonl").read_bytes().startswith(metrics)
    assert main(resume(run, "1400")) == 0  # the newest one is whole again


def test_old_checkpoints_are_deleted_beside_a_damaged_one_which_is_left_and_told_of_once(run, capsys):
    damaged = FILES["manifest"](run)
    damaged.unlink()
    older = int(checkpoints(run)[0].name.removeprefix("step-"))
    words = ["--resume_from", str(older), "--checkpoint.minutes", "1e-5", "--checkpoint.keep", "2"]
    aside = damaged.parent.with_name("step-000000000001")  # older than what is resumed: it is not set aside
    damaged.parent.rename(aside)
    capsys.readouterr()
    assert main(resume(run, "1200", *words)) == 0
    assert capsys.readouterr().out.count(f"{aside / 'manifest.json'} is missing") == 1
    assert len(checkpoints(run)) <= 4  # that one, the newest two, and the best


def test_evaluate_offers_the_older_checkpoint_too(run, capsys):
    flip(FILES["weights"](run), None)
    assert main(["evaluate", str(run)]) == 2
    error = capsys.readouterr().err
    assert f"--checkpoint {int(checkpoints(run)[0].name.removeprefix('step-'))}" in error


def test_a_newer_format_names_the_release_that_reads_it(run, capsys):
    path = FILES["manifest"](run)
    path.write_text(path.read_text().replace('"format": 6', '"format": 7').replace("rfwp 0.1.0", "rfwp 7.0.0"))
    assert main(resume(run)) == 2
    assert "has format 7; this release reads 6: use rfwp 7.0.0" in capsys.readouterr().err


def test_metrics_that_were_moved_away_begin_anew(run):
    (run / "metrics.jsonl").unlink()
    assert main(resume(run)) == 0
    assert main(resume(run, "1600")) == 0


@pytest.mark.parametrize("file", FILES)
def test_an_unreadable_file_is_named_and_nothing_is_changed(run, capsys, file):
    path = FILES[file](run)
    before = contents(run)
    path.chmod(0)
    capsys.readouterr()
    with permissions_count():
        assert main(resume(run)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert path.name in error
    path.chmod(0o600)
    assert contents(run) == before


def test_resume_from_needs_a_run_that_exists(tmp_path, capsys):
    assert main([*TRAIN, "--resume_from", "last", "--run", str(tmp_path / "new")]) == 2
    assert "resume_from" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_was_derived_from_weights_that_were_given_up_is_set_aside(tmp_path, capsys):
    run, small = tmp_path / "run", ["--final_episodes", "2", "--learner.learning_rate", "0.1"]
    assert main([*TRAIN, "--total_steps", "400", "--run", str(run)]) == 0
    assert main(resume(run, "800", *small)) == 0
    older, newest = checkpoints(run)
    (run / "videos").mkdir()
    film = run / "videos" / f"{newest.name}-sampled-seed0.mp4"
    film.write_bytes(b"film")
    (final,) = run.glob("eval/*-final.json")
    weights = json.loads(final.read_text())["weights"]
    assert weights == Checkpoint(newest).weights_sha256
    capsys.readouterr()
    assert main(resume(run, "800", "--resume_from", str(int(older.name.removeprefix("step-"))))) == 0
    assert "delayed_cue: 2 full episodes" in capsys.readouterr().out  # played again
    (final,) = run.glob("eval/*-final.json")
    assert json.loads(final.read_text())["weights"] == Checkpoint(checkpoints(run)[-1]).weights_sha256 != weights
    assert sorted(path.suffix for path in [*run.glob("eval/*"), *run.glob("videos/*")]) == [
        ".json",
        ".set-aside",
        ".set-aside",
    ]


def test_an_evaluation_of_other_weights_than_are_there_does_not_count(run):
    newest = checkpoints(run)[-1]
    steps = int(newest.name.removeprefix("step-"))
    facts = dict.fromkeys(("mean", "seed", "protocol", "score", "policy"), 0) | {"env": "x", "episodes": 1}
    write_evaluation(RunFolder(run), final_name(steps), {**facts, "steps": steps}, Checkpoint(newest))
    assert final_evaluation(RunFolder(run)) is not None
    shutil.copytree(checkpoints(run)[0], run / "other")
    for name in ("weights.safetensors", "trainer.pt", "manifest.json"):
        shutil.copy(run / "other" / name, newest / name)
    edit_manifest(run, steps=steps)
    assert final_evaluation(RunFolder(run)) is None
    assert read_run(RunFolder(run)).evaluations == []


OWN = [
    "config.yaml",
    "metrics.jsonl",
    ".lock",
    "eval",
    "videos",
    "tensorboard",
    "checkpoints",
    "eval/a.json",
    "videos/a.mp4",
]
OWN += ["checkpoints/step-000000009999", "checkpoints/.step-000000009999.tmp-1", "profile.json.gz", "interface.json"]
ELSEWHERE = {
    "link": lambda path, outside: path.symlink_to(outside),
    "dangling link": lambda path, outside: path.symlink_to(outside.with_name("new")),
    "pipe": lambda path, outside: os.mkfifo(path),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [("link", name) for name in OWN] + [(kind, OWN[place]) for kind in ELSEWHERE for place in (0, 1, 8)],
)
def test_what_leads_out_of_a_run_folder_is_neither_read_nor_written(run, tmp_path, capsys, name, kind):
    outside, path = tmp_path / "outside", run / name
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.rename(outside)
    else:
        outside.write_text("of somebody else")
    ELSEWHERE[kind](path, outside)
    before = all_below(tmp_path)
    for words in (resume(run), ["evaluate", str(run)], ["report", str(run), "--out", str(tmp_path / "report")]):
        assert main(words) == 2, words
        error = capsys.readouterr().err
        if (name, kind) != ("config.yaml", "dangling link"):  # then it is not a run
            assert f"{str(path)!r} is {'not a file' if kind == 'pipe' else 'a symbolic link'}" in error
        assert error.count("\n") == 1
    assert all_below(tmp_path) == before


def all_below(folder):
    """What is below a folder, without following links."""
    return {path: path.read_bytes() if path.is_file() and not path.is_symlink() else None for path in folder.rglob("*")}


def test_a_link_at_the_place_of_a_temporary_file_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("of somebody else")
    for name in (f".config.yaml.tmp-{os.getpid()}", "config.yaml"):
        (tmp_path / name).symlink_to(outside)
    write_whole(tmp_path / "config.yaml", "new")
    assert (outside.read_text(), (tmp_path / "config.yaml").read_text()) == ("of somebody else", "new")
