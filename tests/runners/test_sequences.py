"""Runs on supervised tasks: what they train, how they go on, and how they are scored."""

import json
import math
import re
import signal

import pytest
import torch
from safetensors.torch import load_file
from sequence_runs import LISTS, TEXT, final, lines, text, words_for
from waiting import HANGS, wait_for

from rfwp.agents.sequence_scores import Scores
from rfwp.agents.supervised import Supervised
from rfwp.runners.cli import main
from rfwp.runners.runfolder.checkpoint import CheckpointStore
from rfwp.runners.runfolder.metrics_log import METRICS
from rfwp.runners.settings.kinds import SEQUENCES

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("kind", ["lists", "new lists", "text"])
def test_a_run_that_is_resumed_ends_as_one_that_was_not(kind, tmp_path):
    # A line of metrics for each validation and no other, however slow the machine is.
    words = ["train", *words_for(kind, tmp_path), "--validation_interval", "5", "--log_seconds", "10_000"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*words, "--total_steps", "40", "--run", str(whole)]) == 0
    assert main([*words, "--total_steps", "20", "--run", str(parts)]) == 0
    assert main(["train", "--run", str(parts), "--total_steps", "40"]) == 0
    ends = [load_file(run / "checkpoints" / "step-000000000040" / "weights.safetensors") for run in (whole, parts)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    records = [
        [{name: line[name] for name in ("steps", "tokens", "epoch", "valid_loss", "loss")} for line in lines(run)]
        for run in (whole, parts)
    ]
    assert records[0] == records[1]
    assert [line["steps"] for line in records[0]] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert lines(whole)[-1].keys() == METRICS[SEQUENCES].keys()


def test_a_signal_saves_and_the_run_goes_on_from_there(start, tmp_path):
    run = tmp_path / "run"
    process = start("train", *LISTS, "--total_steps", "1_000_000", "--log_seconds", "0.1", "--run", str(run))
    wait_for(lambda: (run / "metrics.jsonl").exists() and len(lines(run)) >= 2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 143
    steps = CheckpointStore(run / "checkpoints").steps()[-1]
    assert f"Stopped at {steps:,} updates; saved" in output
    assert main(["train", "--run", str(run), "--total_steps", str(steps + 5)]) == 0
    assert lines(run)[-1]["steps"] == steps + 5


def test_the_checkpoint_that_validates_best_is_kept_and_tested(tmp_path, monkeypatch):
    run, score, valid = tmp_path / "run", Supervised.score, [0.2, 0.9, 0.5, 0.4, 0.3, 0.1]

    def validate(system: Supervised, split: str, *how) -> Scores:
        scores = score(system, split, *how)
        return scores._replace(sequences=valid[system.learner.version // 2 - 1]) if split == "valid" else scores

    monkeypatch.setattr(Supervised, "score", validate)
    assert main(["train", *LISTS, "--total_steps", "12", "--validation_interval", "2", "--run", str(run)]) == 0
    assert CheckpointStore(run / "checkpoints").steps() == [4, 8, 10, 12]
    assert (final(run)["steps"], final(run)["trained"]) == (4, 12)
    monkeypatch.undo()
    assert main(["evaluate", str(run), "--json", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again.items() <= final(run).items()


def test_a_text_is_scored_in_segments_windows_and_one_pass(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", *words_for("text", tmp_path), "--total_steps", "60", "--run", str(run)]) == 0
    assert "bits per target" in capsys.readouterr().out
    found = {}
    for how in ("--context segment", "--context segment --stride 1", "--context carried"):
        assert main(["evaluate", str(run), *how.split()]) == 0
        reading = "-".join(word for word in how.split() if not word.startswith("--"))
        found[how] = json.loads((run / "eval" / f"step-000000000060-test-{reading}.json").read_text())
    assert {facts["targets"] for facts in found.values()} == {79}
    bits = [facts["value"] for facts in found.values()]
    assert bits == [facts["loss"] / math.log(2) for facts in found.values()]
    assert bits[1] < bits[0]  # every target is predicted from ten letters, not from five on average
    assert bits[2] == final(run)["value"]


def test_a_model_is_scored_on_other_variants_of_its_task(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", *LISTS, "--total_steps", "3", "--run", str(run)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--task.depth", "1,3", "--task.test=20", "--json", "-"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [(each["task"], each["targets"]) for each in facts] == [("listops-1", 20), ("listops-3", 20)]
    assert main(["evaluate", str(run), str(run / "checkpoints")]) == 0
    assert capsys.readouterr().out.count("listops-2") == 2


REFUSED = [
    ("train --task language_model", "task.folder: got ''; allowed: a folder with"),
    ("train --task language_model --task.folder {here}/no", "task.folder: got '{here}/no'; allowed: a folder"),
    ("train --task language_model --task.folder {here}/empty", "train.txt has 0 words; allowed: 2 or more"),
    ("train --task language_model --task.folder {here}/odd", "valid.txt has 'new', which the training text lacks"),
    ("train --task listops --task.depth 0", "task.depth: got 0; allowed: 1 to 19"),
    ("train --task listop", "task: got 'listop'; allowed: .*did you mean listops"),
    ("train --task listops --env recall", "task: got 'listops' beside env 'recall'; allowed: one of the two"),
    ("train --task listops --encoder flat", "--encoder: there is no such option"),
    ("train --task listops --preset toy", "preset: got 'toy'; allowed: paper, cpu"),
    ("train --task listops --preset paper --core.hidden_size 128", "core.hidden_size: got 128; allowed: 256"),
    (
        "train --task listops --task.train 9 --task.valid 1 --task.test 1 --model.tied",
        "model.tied: got True; allowed: false",
    ),
    ("train --task listops --validation_interval 0", "validation_interval: got 0"),
    ("train --run {here}/lists --task.depth 3", "task.depth: got 3, but the run .* was started with 2"),
    ("train --run {here}/lists --learner.batch_size 9", "learner.batch_size: got 9, but the run"),
    ("train --run {here}/text", "task: got other tokens and classes than those in '{here}/text/interface.json'"),
    ("evaluate {here}/text", "task: got other tokens and classes"),
    ("evaluate {here}/lists --stride 1", "stride: got 1; allowed only with a text"),
    ("evaluate {here}/lists --task.variables 3", "task.variables: there is no such setting"),
    ("evaluate {here}/lists --split train", "split: got train; allowed: valid, test"),
    ("evaluate {here}/lists --episodes 3", "--episodes: there is no such option"),
    ("evaluate {here}/text --context carried --stride 1", "stride: got 1; allowed only with --context segment"),
    ("evaluate {here}/text --stride 11", "stride: got 11; allowed: 1 to 10"),
    ("bench sequence", "task: missing; allowed: code_execution, language_model, listops"),
    ("bench learn --task listops", "run: listops-.* is on a supervised task; allowed: a run of an agent"),
    ("watch {here}/lists", "run: listops-2-lstm is on a supervised task"),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Two runs, of which the text of one has changed, and texts that cannot be used."""
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert main(["train", *LISTS, "--total_steps", "3", "--run", str(folder / "lists")]) == 0
        levels = ["--task.level", "word", "--task.folder", str(text(folder / "words", "a b c "))]
        assert main(["train", *TEXT, *levels, "--total_steps", "3", "--run", str(folder / "text")]) == 0
    (folder / "words" / "train.txt").write_text("a c b " * 50)
    text(folder / "empty", "")
    text(folder / "odd", "a b ")
    (folder / "odd" / "valid.txt").write_text("a new b")
    return folder


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_what_makes_no_sense_is_refused_in_one_line(here, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(words.format(here=here).split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message.format(here=here), error), error
    assert list(tmp_path.glob("runs/*")) == []


def test_weights_that_have_diverged_are_not_saved(tmp_path, capsys):
    useless = "--core linear_transformer --core.num_heads 2 --learner.learning_rate 1e37 --learner.warmup 0".split()
    assert main(["train", *LISTS, *useless, "--run", str(tmp_path / "run")]) == 1
    assert "no longer finite; the newest checkpoint is from before" in capsys.readouterr().err
    assert CheckpointStore(tmp_path / "run" / "checkpoints").steps() == []
