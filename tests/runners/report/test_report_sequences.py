"""Reports on runs on supervised tasks."""

import math

import numpy as np
import pytest
from sequence_runs import LISTS, final, lines, words_for

from rfwp.runners.cli import main
from rfwp.runners.evaluation.statistics import probability_of_improvement
from rfwp.runners.report import tables
from rfwp.runners.report.figures import readable_range
from rfwp.runners.report.formats import Table
from rfwp.runners.report.study import Study
from rfwp.runners.report.writer import write_report
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.runfolder.records import read_runs
from rfwp.runners.settings.options import config_from_words

pytestmark = pytest.mark.usefixtures("own_cache")


def rows(table: Table) -> list[dict]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


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


def test_a_report_leaves_out_the_fewer_runs_of_another_kind(tmp_path):
    for number, words in enumerate((LISTS, LISTS, ["--env", "recall"])):
        run = RunFolder(tmp_path / f"run-{number}")
        run.create()
        run.write_config(config_from_words(words))
    runs, left_out = read_runs([tmp_path])
    assert [run.title for run in runs] == ["listops-2", "listops-2"]
    assert left_out == [f"{tmp_path / 'run-2'} was left out: it is on recall, which has another kind of score"]
