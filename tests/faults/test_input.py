"""Random wrong command lines and config files: exit code 2, one line, no traceback, and nothing is created."""

import contextlib
import io
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rfwp.runners.cli import main
from rfwp.runners.settings import components
from rfwp.runners.settings.kinds import AGENT
from rfwp.runners.settings.layers import to_dict
from rfwp.runners.settings.options import config_from_words

GOOD = to_dict(config_from_words(["--env", "recall"]))
NUMBERS = [
    f"{section}.{name}"
    for section in AGENT.sections
    for name, value in GOOD[section].items()
    if isinstance(value, int | float) and not isinstance(value, bool)
] + ["total_steps", "seed", "final_episodes", "log_seconds"]

# So that what is not refused ends soon.
SHORT = "--env recall --total_steps 1 --final_episodes 0".split()

WRONG_NUMBER = st.one_of(
    st.sampled_from(
        ["", "nan", "inf", "-inf", "1e999", "-1", "-0.5", "0x", "٣x", "true", "[]", "{}", "1,5", "1 2", "\0"]
    ),
    st.integers(max_value=-1).map(str),
    st.text(min_size=1).filter(lambda text: not any(letter.isdigit() for letter in text)),
)
WORD = st.text(st.characters(codec="utf-8", exclude_characters="-"), min_size=1, max_size=12)

WRONG_WORDS = st.one_of(
    st.builds(lambda key, value: [f"--{key}={value}"], st.sampled_from(NUMBERS), WRONG_NUMBER),
    st.builds(lambda key, value: [f"--{key}x", value], st.sampled_from(NUMBERS), WORD),
    st.builds(lambda key, value: [f"--{key}={value} no"], st.sampled_from(["env", "core", "encoder", "preset"]), WORD),
    st.builds(
        lambda key, value: [f"--{key}.{value}=1"], st.sampled_from(AGENT.sections), WORD.map(lambda word: f"no_{word}")
    ),
    WORD.map(lambda word: [word]),
    WORD.map(lambda word: [f"--no_{word}"]),
    st.sampled_from([["--run="], ["--config="], ["--resume_from="]]),
    st.just(["--device", "cpu:3"]),
    st.sampled_from(["--seed", "--core", "--preset", "--run", "--config"]).map(lambda word: [word]),
)

JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = {name for section in AGENT.components for name in components.names(section)}
WRONG_SECTION = st.integers() | st.text(min_size=1).filter(lambda text: text not in NAMES)
WRONG_VALUES = st.one_of(
    JUNK.filter(lambda value: value != {}),
    st.builds(lambda key, value: {f"no {key}": value}, st.text(max_size=8), JUNK),
    st.builds(lambda section, value: {section: value}, st.sampled_from(AGENT.sections), WRONG_SECTION),
    st.builds(lambda section, key: {section: {f"no {key}": 1}}, st.sampled_from(AGENT.sections), st.text(max_size=8)),
    st.sampled_from(NUMBERS).map(lambda key: nested(key, ["no number"])),
    st.sampled_from(NUMBERS).map(lambda key: nested(key, -7.5)),
)


def nested(key, value):
    section, _, name = key.rpartition(".")
    return {section: {name: value}} if section else {name: value}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(words, here):
    """Runs a wrong command, and checks that it is refused as it should be."""
    before = sorted(os.listdir(here))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    assert (code, err.getvalue().count("\n")) == (2, 1), (words, out.getvalue(), err.getvalue())
    assert "Traceback" not in err.getvalue()
    assert sorted(os.listdir(here)) == before


same_folder = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.slow
@settings(same_folder, max_examples=300)
@given(words=WRONG_WORDS)
@example(words=["--log_seconds=1e999"])
@example(words=["--checkpoint.minutes=1e999"])
def test_a_wrong_command_line_is_refused(here, words):
    refused(["train", *SHORT, *words], here)


@pytest.mark.slow
@settings(same_folder, max_examples=200)
@given(text=WRONG_VALUES.map(yaml.safe_dump) | st.binary(min_size=1, max_size=40))
def test_a_wrong_config_file_is_refused(here, text):
    path = Path("config.yaml")
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    refused(["train", "--config", str(path), *SHORT], here)


@settings(same_folder, max_examples=40)
@given(words=st.lists(WORD, min_size=1, max_size=3))
def test_a_wrong_command_is_refused(here, words):
    refused(["no", *words], here)
