"""The language modelling task: vocabulary and layout of WikiText-103, bytes, enwik8, and text that is not fit."""

import os
import shutil
import sys

import numpy as np
import pytest

from rfwp.envs.sequences import language_model
from rfwp.envs.sequences.language_model import Config

TRAIN = " = Rain = \n\nthe rain , the sun\nSun <unk> rain\n"


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def text(tmp_path):
    """A folder with a little text."""
    folder = tmp_path / "weather"
    folder.mkdir()
    for split, content in zip(("train", "valid", "test"), (TRAIN, "the sun\n", "rain\n\n"), strict=True):
        (folder / f"{split}.txt").write_text(content)
    return folder


def words(data, split) -> str:
    """The words of a split, put together from inputs and targets."""
    sequences = getattr(data, split)
    assert sequences.start.tolist() == [0, len(sequences.token)]
    assert sequences.token[1:].tolist() == sequences.target[:-1].tolist()
    return " ".join(data.tokens[i] for i in (sequences.token[0], *sequences.target))


def test_words_are_numbered_by_falling_count_and_lines_end_with_eos(text):
    data = Config(str(text)).load()
    assert data.tokens == data.classes
    assert data.tokens[:3] == ("<eos>", "=", "the")  # twice each, in the order of the text
    counts = np.bincount([data.train.token[0], *data.train.target])
    assert (np.diff(counts[1:]) <= 0).all()
    assert words(data, "train") == "= Rain = <eos> <eos> the rain , the sun <eos> Sun <unk> rain <eos>"
    assert words(data, "valid") == "the sun <eos>"
    assert words(data, "test") == "rain <eos> <eos>"
    assert Config(str(text)).title == "weather-words"


def test_words_that_train_lacks_are_an_error_unless_rare_words_are_unknown(text):
    (text / "valid.txt").write_text("the sun\nthe moon\n")
    with pytest.raises(ValueError, match=r"^min_count: got 1, but line 2 of .*valid.txt has 'moon', which"):
        Config(str(text)).load()
    data = Config(str(text), min_count=2).load()
    assert set(data.tokens) == {"<eos>", "<unk>", "=", "the", "rain"}
    assert words(data, "train") == "= <unk> = <eos> <eos> the rain <unk> the <unk> <eos> <unk> <unk> rain <eos>"
    assert words(data, "valid") == "the <unk> <eos> the <unk> <eos>"
    assert data.tokens[1] == "<unk>"  # the commonest of all


def test_files_of_wikitext_are_found_by_their_names(text):
    for split in ("train", "valid", "test"):
        (text / f"{split}.txt").rename(text / f"wiki.{split}.tokens")
    assert words(Config(str(text)).load(), "test") == "rain <eos> <eos>"


def test_bytes_are_bytes_and_raw_files_come_first(text):
    (text / "test.txt").write_bytes(b"\x00\xff\r\n")
    data = Config(str(text), level="byte").load()
    assert bytes([data.train.token[0], *data.train.target]) == TRAIN.encode()
    assert words(data, "test") == "00 ff 0d 0a"
    (text / "train.txt.raw").write_bytes(b"raw")
    assert words(Config(str(text), level="byte").load(), "train") == "72 61 77"


def save_dataset(folder, column: str, rows: dict[str, list]) -> None:
    """Save a data set as DatasetDict.save_to_disk does."""
    datasets = pytest.importorskip("datasets")
    splits = {split: datasets.Dataset.from_dict({column: values}) for split, values in rows.items()}
    datasets.DatasetDict(splits).save_to_disk(folder)


def test_a_saved_dataset_is_the_text_of_its_rows(text, tmp_path):
    rows = {
        "train": [" = Rain = \n", "", "the rain , the sun\nSun <unk> rain\n"],  # a line, an empty one, two lines
        "validation": ["the sun"],
        "test": ["rain\n", None],
    }
    save_dataset(tmp_path / "saved", "text", rows)
    for level in ("word", "byte"):
        files, saved = (Config(str(folder), level=level).load() for folder in (text, tmp_path / "saved"))
        assert saved.tokens == files.tokens
        for split in ("train", "valid", "test"):
            assert words(saved, split) == words(files, split)


def test_a_saved_dataset_that_is_not_fit_is_refused_in_one_line(tmp_path, monkeypatch):
    splits = ("train", "validation", "test")
    save_dataset(tmp_path / "letters", "letter", {split: ["a"] for split in splits})
    with pytest.raises(ValueError, match=r"^folder: .*letters/train has the columns letter; allowed: .* 'text' of str"):
        Config(str(tmp_path / "letters")).load()
    save_dataset(tmp_path / "numbers", "text", {split: [1] for split in splits})
    with pytest.raises(ValueError, match=r"^folder: .*numbers/train has the columns text; allowed: .* 'text' of str"):
        Config(str(tmp_path / "numbers")).load()
    (tmp_path / "numbers" / "train" / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"^folder: .*numbers/train cannot be read: "):
        Config(str(tmp_path / "numbers")).load()
    shutil.rmtree(tmp_path / "numbers" / "validation")
    with pytest.raises(ValueError, match=r"^folder: got .*; allowed: a folder with validation or valid$"):
        Config(str(tmp_path / "numbers")).load()
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r'^folder: .*letters was saved by the datasets library.*"rfwp\[text\]"$'):
        Config(str(tmp_path / "letters")).load()


def test_published_perplexities_belong_to_wikitext_103_alone(text):
    for split in ("train", "valid", "test"):
        (text / f"{split}.txt").rename(text / f"wiki.{split}.tokens")
    assert Config(str(text)).reference_scores == {}  # as small as WikiText-2
    os.truncate(text / "wiki.train.tokens", 539_000_000)  # takes no space on the disk
    assert Config(str(text)).reference_scores["Delta RNN"] == 35.0
    assert Config(str(text), min_count=2).reference_scores == {}


def test_enwik8_is_cut_at_90_and_95_percent(tmp_path):
    content = bytes(np.random.default_rng(0).integers(256, size=1_000, dtype=np.uint8))
    (tmp_path / "enwik8").write_bytes(content)
    data = Config(str(tmp_path), level="byte").load()
    parts = [bytes([split.token[0], *split.target]) for split in data[2:5]]
    assert parts == [content[:900], content[900:950], content[950:]]


def test_numbers_come_from_the_cache_until_the_text_changes(text, monkeypatch):
    before = words(Config(str(text)).load(), "train")
    with monkeypatch.context() as patch:
        patch.setattr(language_model, "count_words", None)
        assert words(Config(str(text)).load(), "train") == before
    (text / "train.txt").write_text(TRAIN.replace("Sun", "Moon"))
    assert words(Config(str(text)).load(), "train") == before.replace("Sun", "Moon")


def test_text_that_is_not_fit_is_refused_in_one_line(text, tmp_path):
    with pytest.raises(ValueError, match=r"^folder: got ''; allowed: a folder with train, valid and test text$"):
        Config().load()
    with pytest.raises(ValueError, match=r"^folder: got '.*/nowhere'; allowed: a folder with train, valid and test"):
        Config(str(tmp_path / "nowhere")).load()
    (text / "valid.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match=r"^folder: .*valid.txt is not UTF-8 text"):
        Config(str(text)).load()
    (text / "valid.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"^folder: .*valid.txt has 1 words; allowed: 2 or more$"):
        Config(str(text)).load()
    (text / "test.txt").unlink()
    with pytest.raises(ValueError, match=r"^folder: got '.*'; allowed: a folder with test.txt or wiki.test.tokens$"):
        Config(str(text)).load()
    with pytest.raises(ValueError, match="^level: got 'sentence'; allowed: word, byte$"):
        Config(level="sentence")
