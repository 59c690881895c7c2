"""The language modelling task: vocabulary and layout of WikiText-103, bytes, enwik8, and text that is not fit."""

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
