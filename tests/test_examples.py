"""Every example runs as it stands, and shows what it is there to show."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rfwp.runners.cli import main

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, timeout=600)


def shortened(name: str, target: Path, **values: str) -> Path:
    """An example with other numbers, so that it is done soon."""
    text = (EXAMPLES / name).read_text()
    for setting, value in values.items():
        text, found = re.subn(rf"\b{setting}=[\w.]+", f"{setting}={value}", text)
        assert found == 1, setting
    script = target / name
    script.write_text(text)
    return script


@pytest.mark.slow
def test_training_from_python_prints_a_line_now_and_then(tmp_path):
    result = run(shortened("train_from_python.py", tmp_path, total_steps="13_000"))
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"(\d[\d,]* steps: return [\d.]+, entropy [\d.]+ nats\n)", result.stdout)


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so_and_trains_once(tmp_path):
    script = shortened("train_from_python.py", tmp_path, total_steps="26_000")
    script.write_text(script.read_text().replace('if __name__ == "__main__":', "if True:"))
    result = run(script)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == (
        "RuntimeError: actor processes import the main script:"
        ' put the code that starts training under `if __name__ == "__main__":`'
    )
    assert result.stderr.count("Traceback") == 1


@pytest.mark.slow
def test_a_sequence_model_learns_to_nest():
    result = run(EXAMPLES / "train_a_sequence_model.py")
    assert (result.returncode, result.stderr) == (0, "")
    assert float(re.findall(r"test: ([\d.]+)% correct", result.stdout)[0]) > 80  # 62 without nesting


@pytest.mark.slow
def test_a_core_learns_inside_a_model_of_ones_own():
    result = run(EXAMPLES / "core_in_your_model.py")
    assert (result.returncode, result.stderr) == (0, "")
    assert int(re.findall(r"(\d+)% correct", result.stdout)[-1]) > 90


@pytest.mark.slow
def test_a_saved_agent_plays_as_it_was_trained_to(tmp_path):
    words = "--env counting --core gru --total_steps 20_000 --final_episodes 0 --sync --run".split()
    assert main(["train", *words, str(tmp_path / "run")]) == 0
    result = run(EXAMPLES / "act_with_a_saved_agent.py", str(tmp_path / "run"))
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"(episode \d: return [\d.]+ in \d+ agent steps\n){3}", result.stdout)


def test_the_text_of_the_example_can_be_learned_by_words_and_bytes(own_cache, tmp_path):
    assert run(EXAMPLES / "text_from_pydoc.py", str(tmp_path / "text")).returncode == 0
    for level, counts in (("byte", []), ("word", ["--task.min_count", "3"])):
        words = ["--task", "language_model", "--task.folder", str(tmp_path / "text"), "--task.level", level, *counts]
        small = "--core lstm --core.hidden_size 8 --model.embedding_size 8 --total_steps 3 --device cpu --preset cpu"
        assert main(["train", *words, *small.split(), "--run", str(tmp_path / level)]) == 0
