"""Checkpoints appear whole, come back as they were, and are refused when they are not what was written."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.checkpoint import CheckpointStore
from rfwp.runners.runfolder.manifest import Manifest, digest


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints")


def save(store: CheckpointStore, steps: int, score: float | None = None) -> nn.Module:
    torch.manual_seed(steps)
    module = nn.Linear(3, 2)
    store.save(module, {"steps": steps, "noise": torch.randn(4)}, Manifest(steps, score))
    return module


def test_what_is_loaded_is_what_was_saved(store):
    saved = save(store, 100, 1.5)
    loaded = nn.Linear(3, 2)
    checkpoint = store.find("last")
    checkpoint.load_weights(loaded)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(loaded.parameters(), saved.parameters(), strict=True))
    torch.manual_seed(100)
    nn.Linear(3, 2)
    trainer = checkpoint.load_trainer()
    assert trainer["steps"] == 100
    assert torch.equal(trainer["noise"], torch.randn(4))
    assert checkpoint.manifest.score == 1.5


def test_every_byte_is_on_disk_before_a_checkpoint_has_its_name(store, monkeypatch):
    done, fsync, rename = [], os.fsync, type(store.folder).rename

    def note_fsync(descriptor):
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def note_rename(path, target):
        done.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(type(store.folder), "rename", note_rename)
    save(store, 100)
    before, after = done[: done.index("rename")], done[done.index("rename") + 1 :]
    assert {"weights.safetensors", "trainer.pt", "manifest.json"} < set(before)  # and the folder
    assert after == ["checkpoints"]


def test_last_best_and_steps_name_checkpoints(store):
    for steps, score in ((100, 1.0), (200, 7.0), (300, 2.0)):
        save(store, steps, score)
    assert store.find("last").manifest.steps == 300
    assert store.find("best").manifest.steps == 200
    assert store.find("100").manifest.steps == 100
    with pytest.raises(UserError, match="got '150'; allowed: best, last, 100, 200, 300"):
        store.find("150")


def test_pruning_keeps_the_newest_and_the_best(store):
    for steps, score in ((100, 9.0), (200, 1.0), (300, 2.0), (400, 3.0)):
        save(store, steps, score)
    store.prune(keep=2)
    assert store.steps() == [100, 300, 400]


def test_pruning_leaves_and_names_what_cannot_be_read_and_goes_on_with_the_rest(store):
    for steps in (100, 200, 300, 400, 500):
        save(store, steps)
    damaged = store.path(200) / "manifest.json"
    damaged.unlink()
    (problem,) = store.prune(keep=2)
    assert str(damaged) in problem
    assert store.steps() == [200, 400, 500]


@pytest.mark.parametrize("deleted", range(3))
def test_pruning_that_is_killed_at_any_file_leaves_no_half_of_a_checkpoint(store, monkeypatch, deleted):
    class Killed(BaseException):
        pass

    unlink, left = os.unlink, iter(range(deleted))

    def unlink_or_die(*words, **options):
        if next(left, None) is None:
            raise Killed
        unlink(*words, **options)

    save(store, 100), save(store, 200)
    monkeypatch.setattr(os, "unlink", unlink_or_die)
    with pytest.raises(Killed):
        store.prune(keep=1)
    monkeypatch.undo()
    assert store.steps() == [200]
    save(store, 300)
    assert sorted(path.name for path in store.folder.iterdir()) == [store.path(steps).name for steps in (200, 300)]


def test_a_failed_save_leaves_the_older_checkpoint_and_no_traces(store):
    save(store, 100)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        store.save(nn.Linear(3, 2), {"cannot be saved": lambda: None}, Manifest(200, None))
    before = sorted(path.name for path in store.folder.iterdir())
    assert before == ["step-000000000100"]


@pytest.mark.parametrize("name", ["weights.safetensors", "trainer.pt"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "missing", "folder"])
def test_a_damaged_file_is_refused_and_named(store, name, damage):
    save(store, 100)
    path = store.folder / "step-000000000100" / name
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "folder":
        path.mkdir()
    checkpoint = store.find("last")
    with pytest.raises(UserError, match=name):
        checkpoint.load_weights(nn.Linear(3, 2)) if name.startswith("weights") else checkpoint.load_trainer()


def test_without_a_score_the_newest_checkpoint_is_the_best(store):
    save(store, 100)
    save(store, 200)
    assert store.find("best").manifest.steps == 200
    save(store, 300, -5.0)
    save(store, 400)
    assert store.find("best").manifest.steps == 300


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 6}', '{"format": 99}', '{"format": 6, "surprise": 2}'])
def test_a_damaged_manifest_is_refused(store, text):
    save(store, 100)
    (store.folder / "step-000000000100" / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="manifest.json"):
        store.find("last")


def test_a_manifest_in_which_a_number_was_changed_is_refused(store):
    save(store, 100, 1.5)
    path = store.folder / "step-000000000100" / "manifest.json"
    changed = path.read_text().replace('"score": 1.5', '"score": 9.5')
    assert changed != path.read_text()
    path.write_text(changed)
    with pytest.raises(UserError, match="manifest.json is damaged: its contents do not match their checksum"):
        store.find("last")


def test_weights_of_another_agent_are_refused_and_nothing_is_changed(store):
    save(store, 100)
    other = nn.Linear(5, 2)
    before = other.weight.detach().clone()
    with pytest.raises(UserError, match="does not hold the weights of the model"):
        store.find("last").load_weights(other)
    assert torch.equal(other.weight, before)


class Bomb:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_loading_runs_no_code_even_if_the_checksum_fits(store, tmp_path):
    import hashlib

    save(store, 100)
    folder, mark = store.folder / "step-000000000100", tmp_path / "was-here"
    (folder / "trainer.pt").write_bytes(pickle.dumps(Bomb(mark)))
    facts = json.loads((folder / "manifest.json").read_text())
    facts["sha256"]["trainer.pt"] = hashlib.sha256((folder / "trainer.pt").read_bytes()).hexdigest()
    facts["sha256"]["manifest.json"] = digest(facts)
    (folder / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="trainer.pt is damaged"):
        store.find("last").load_trainer()
    assert not mark.exists()
