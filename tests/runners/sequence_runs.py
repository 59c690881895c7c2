"""Small runs on supervised tasks: words that start them, and what they write."""

import json
from pathlib import Path

from waiting import whole_lines

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


def final(run: Path) -> dict:
    (path,) = (run / "eval").glob("*-final.json")
    return json.loads(path.read_text())
