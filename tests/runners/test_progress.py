"""How far a run has come, from files that another process writes."""

import pytest

from rfwp.runners.runfolder.evaluations import final_evaluation
from rfwp.runners.runfolder.files import tail
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.runfolder.metrics_file import newest_metrics


def test_half_a_line_of_metrics_is_not_read(tmp_path):
    folder = RunFolder(tmp_path)
    assert newest_metrics(folder.metrics_file) == {}
    folder.metrics_file.write_text('{"steps": 1}\n' * 2000 + '{"steps": 2}\n{"agent_st')
    assert newest_metrics(folder.metrics_file) == {"steps": 2}


@pytest.mark.parametrize("odd", ["[" * 5000, f'{{"mean": {10**400}}}'], ids=["deep", "large"])
def test_a_run_whose_evaluation_python_cannot_hold_is_not_done(tmp_path, odd):
    folder = RunFolder(tmp_path)
    folder.evaluations.mkdir()
    (folder.evaluations / "step-000000000009-final.json").write_text(odd)
    folder.metrics_file.write_text('{"steps": 1}\n' + "[" * 5000 + "\n")
    assert final_evaluation(folder) is None
    assert newest_metrics(folder.metrics_file) == {"steps": 1}


def test_the_end_of_a_long_file_is_whole_lines(tmp_path):
    (tmp_path / "log").write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert tail(tmp_path / "log", 2) == ["line 99998", "line 99999"]
    assert all(line.startswith("line ") for line in tail(tmp_path / "log", 10_000))
