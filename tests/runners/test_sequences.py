"""Runs on supervised tasks: what they train, how they go on, and how they are scored."""

import json
import math
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from waiting import HANGS, wait_for, whole_lines

from rfwp.agents.sequence_scores import Scores
from rfwp.agents.supervised import Supervised
from rfwp.runners.bench.sequence import KEYS, pad
from rfwp.runners.cli import main
from rfwp.runners.evaluation.statistics import probability_of_improvement
from rfwp.runners.report import tables
from rfwp.runners.report.figures import readable_range
from rfwp.runners.report.formats import Table
from rfwp.runners.report.study import Study
from rfwp.runners.report.writer import write_report
from rfwp.runners.runfolder.checkpoint import CheckpointStore
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.runfolder.metrics_log import METRICS
from rfwp.runners.runfolder.records import read_runs
from rfwp.runners.settings.config import sequence_config
from rfwp.runners.settings.glance import names_a_task
from rfwp.runners.settings.kinds import SEQUENCES
from rfwp.runners.settings.options import config_from_words
from rfwp.runners.settings.presets import sequence_presets

pytestmark = pytest.mark.usefixtures("own_cache")

LISTS = (
    "--task listops --task.depth 2 --task.train 60 --task.valid 20 --task.test 30 --core lstm --core.hidden_size 8"
    " --preset cpu --device cpu --learner.batch_size 10 --learner.schedule constant"
).split()
TEXT = (
    "--task language_model --task.level byte --core delta_net --core.hidden_size 8 --core.num_heads 2"
    " --core.num_layers 1 --model.embedding_size 8 --preset cpu --device cpu --learner.batch_size 4"
    " --learner.segment_length 10 --learner.schedule constant"
).split()


def text(folder: Path, letters: str = "abcd") -> Path:
    """Writes a little text."""
    folder.mkdir()
    for split, times in (("train", 150), ("valid", 20), ("test", 20)):
        (folder / f"{split}.txt").write_text(letters * times)
    return folder


def words_for(kind: str, folder: Path) -> list[str]:
    if kind == "text":
        return [*TEXT, "--task.folder", str(text(folder / "text"))]
    return [*LISTS, "--task.train", "0"] if kind == "new lists" else LISTS


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in whole_lines(run / "metrics.jsonl")]


def rows(table: Table) -> list[dict]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def final(run: Path) -> dict:
    (path,) = (run / "eval").glob("*-final.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("kind", ["lists", "new lists", "text"])
def test_a_run_that_is_resumed_ends_as_one_that_was_not(kind, tmp_path):
    words = ["train", *words_for(kind, tmp_path), "--validation_interval", "5"]
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
    ("train --run {here}/text", "task: the data have another vocabulary than '{here}/text/vocabulary.json'"),
    ("evaluate {here}/text", "task: the data have another vocabulary"),
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


CODE, LISTOPS, WIKI = "code_execution", "listops", "language_model"
VOCABULARY = {CODE: (22, 25), LISTOPS: (14, 10), WIKI: (267_735, 267_735)}
PUBLISHED = [  # weights of the published models; -8 never occurs in the published programs, so they have 25 classes
    (CODE, "linear_transformer", 3_167_001),
    (CODE, "delta_net", 3_183_385),
    (CODE, "rdn", 3_233_561),
    (CODE, "delta_rnn", 3_724_057),
    (LISTOPS, "linear_transformer", 3_161_098),
    (LISTOPS, "rdn", 3_227_658),
    (WIKI, "linear_transformer", 44_018_394),
    (WIKI, "delta_net", 44_034_778),
    (WIKI, "rdn", 44_135_130),
    (WIKI, "delta_rnn", 44_575_450),
    (WIKI, "delta_delta_net", 44_575_450),
    (WIKI, "delta_mlp", 46_148_826),
    (WIKI, "delta_lstm", 47_262_426),
]


@pytest.mark.parametrize(("task", "core", "weights"), PUBLISHED)
def test_the_paper_preset_builds_the_published_model(task, core, weights):
    config = config_from_words(["--task", task, "--core", core, "--preset", "paper"])
    with torch.device("meta"):
        model = config.model.build(config.core, *VOCABULARY[task])
    assert sum(parameter.numel() for parameter in model.parameters()) == weights


def test_a_task_without_presets_takes_the_general_ones():
    presets = sequence_presets({"task": {"name": "mine"}, "core": {"name": "lstm"}}).settings
    assert [preset["task"] for preset in presets.values()] == [{"name": "mine"}] * 2
    assert presets["cpu"]["core"] == {"name": "lstm", "hidden_size": 64, "num_layers": 2}


def test_a_core_may_have_its_own_settings_in_any_section_of_a_preset():
    learners = [
        sequence_presets({"task": {"name": "language_model"}, "core": {"name": core}}).settings["cpu"]["learner"]
        for core in ("transformer", "delta_net")
    ]
    assert [learner.pop("context") for learner in learners] == ["segment", "carried"]
    assert learners[0] == learners[1] != {}


def test_a_command_line_about_a_task_is_known_by_a_glance(tmp_path):
    tasks, agents = tmp_path / "tasks" / "run", tmp_path / "agents" / "run"
    for folder, words in ((tasks, LISTS), (agents, ["--env", "recall"])):
        run = RunFolder(folder)
        run.create()
        run.write_config(config_from_words(words))
        (folder / "checkpoints" / "step-1").mkdir()
    for known in (["--task", "listops"], ["--task=listops"], *([str(path)] for path in (tasks, tasks.parent))):
        assert names_a_task(known)
    assert names_a_task(["--seed", "3", f"--run={tasks}"])
    assert names_a_task([str(tasks / "checkpoints" / "step-1")])
    assert names_a_task(["--config", str(tasks / "config.yaml")])
    assert not any(map(names_a_task, ([], ["--env", "recall"], [str(agents)], [str(tmp_path / "none")], ["--json="])))


@pytest.mark.slow
def test_cores_are_compared_and_reported_on_a_task(tmp_path):
    settings = [word for word in LISTS if word not in ("--task", "listops", "--core", "lstm")]
    words = ["--tasks", "listops", "--cores", "lstm", "gru", "--seeds", "2", "--steps", "6", "--out"]
    out = tmp_path / "out"
    assert main(["compare", *words, str(out), *settings, "--validation_interval", "3"]) == 0
    report = write_report([out], tmp_path / "report")
    assert {(result.task, result.agent) for result in report.study.results} == {
        ("listops-2", "lstm"),
        ("listops-2", "gru"),
    }
    for result in report.study.results:
        values = [final(run.folder)["value"] for run in result.runs]
        assert result.score.value == pytest.approx(100 * sum(values) / 2)
        assert not result.from_training
    page = report.page.read_text()
    for words in (
        "sequences right, %",
        "without nesting",
        "test scores of the checkpoint that validates best",
        "updates, longest run",
    ):
        assert words in page


def test_a_report_gives_the_answers_beside_whole_programs(tmp_path):
    settings = [word for word in LISTS if word != "--task.depth" and word != "2"]
    words = [*settings, "--task", "code_execution", "--task.statements", "4", "--core.num_layers", "1"]
    facts = []
    for seed in ("1", "2"):
        run = tmp_path / "runs" / seed
        assert main(["train", *words, "--seed", seed, "--total_steps", "30", "--run", str(run)]) == 0
        facts.append(final(run))
    study = Study(read_runs([tmp_path / "runs"])[0], "sampled")
    (score,), runs = (rows(table) for table in (tables.scores(study), tables.runs(study)))
    assert [row["answers, %"] for row in runs] == [100 * each["answers"] for each in facts]
    assert score["answers, %"] == pytest.approx(50 * sum(each["answers"] for each in facts))
    assert score["score"] == pytest.approx(50 * sum(each["sequences"] for each in facts))
    assert score["answers, %"] != score["score"]


def test_a_run_that_diverges_does_not_flatten_the_others():
    curves = [np.array([5.0, 3.0]), np.array([6.0, 4.0]), np.array([70.0, 1e6])]
    assert readable_range(curves) == (pytest.approx(0.9 * 3), 2 * 4)
    assert readable_range([]) is None


def test_a_lower_perplexity_is_an_improvement(tmp_path):
    words = [*words_for("text", tmp_path), "--task.level", "byte", "--validation_interval", "100"]
    for steps in (2, 80):
        run = tmp_path / "runs" / f"{steps}"
        assert main(["train", *words, "--total_steps", str(steps), "--run", str(run)]) == 0
    runs, _ = read_runs([tmp_path / "runs"])
    little, much = (Study([run], "sampled") for run in sorted(runs, key=lambda run: run.steps))
    assert little.results[0].score.value > much.results[0].score.value > 0
    chance = probability_of_improvement(
        *(study.strata("delta_net", study.tasks, normalised=False) for study in (much, little))
    )
    assert chance == 1
    assert runs[0].curve("steps")[1][-1] == pytest.approx(lines(runs[0].folder)[-1]["valid_loss"] / math.log(2))


def test_the_benchmark_pads_the_same_sequences_and_records_every_key(tmp_path, capsys):
    config = sequence_config(config_from_words(LISTS))
    system = Supervised(config)
    batch = next(iter(system)).batch
    padded = pad(system.data.train, batch, system)
    assert padded.token.shape == (
        max(len(row) for row in np.split(system.data.train.token, system.data.train.start)),
        10,
    )
    losses = [config.objective.loss(system.model, each, 0).value.item() for each in (batch, padded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for kind in ("lists", "text"):
        words = ["bench", "sequence", *words_for(kind, tmp_path), "--seconds", "0.01", "--json", "-"]
        assert main(words) == 0
        result = json.loads(capsys.readouterr().out)
        assert result.keys() == KEYS.keys()
        assert (result["packing_gain"] is None) == (kind == "text")
    assert main(["bench", "sequence", *LISTS, "--seconds", "0.01"]) == 0
    assert "gain of packing" in capsys.readouterr().out


def test_a_report_leaves_out_the_fewer_runs_of_another_kind(tmp_path):
    for number, words in enumerate((LISTS, LISTS, ["--env", "recall"])):
        run = RunFolder(tmp_path / f"run-{number}")
        run.create()
        run.write_config(config_from_words(words))
    runs, left_out = read_runs([tmp_path])
    assert [run.title for run in runs] == ["listops-2", "listops-2"]
    assert left_out == [f"{tmp_path / 'run-2'} was left out: it is on recall, which has another kind of score"]
