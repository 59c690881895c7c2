"""Generated sequence tasks: the published data byte for byte, and every target by another way of computing it."""

import hashlib
from itertools import islice
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfwp.envs.sequence_task import NO_TARGET, Example, GeneratedTask, Sequences
from rfwp.envs.sequences import code_execution, listops

CODE = {  # SHA-256, first 16 digits, of the published source and target files of train, valid and test
    3: "fb4629619222406d e8a439b6dc48700c 7ce9b39425e1bc84 ea2bf4fa897ae397 6e8f0ba8eb9aca0e aae52506700d0d17",
    5: "c5fc030f82c05874 1bbc818e778eff3e 83f03142ce135fb9 9fa29f39c6e30d00 7062ac7ca83d3b30 a5b158847d30bf6e",
}
LISTOPS = {  # of train, valid and test, by depth and size
    (10, 1_000, 50, 50): "aa18f03fc95d3786 bc876ed9a0d891f2 8c549f4a034558cf",
    (15, 300, 50, 50): "b01b5099fe7e1faf 7f93c10d4af4e4af 19d627bc5af27908",
    (10, 10_000, 1_000, 1_000): "07653d27cc49d39d 8c4ac487bbdc9104 954381203b40c3db",
}


pytestmark = pytest.mark.usefixtures("own_cache")


def examples(sequences: Sequences) -> list[Example]:
    cuts = list(sequences.start[1:-1])
    pairs = zip(np.split(sequences.token, cuts), np.split(sequences.target, cuts), strict=True)
    return [Example(token.tolist(), target.tolist()) for token, target in pairs]


def digest(lines: list[str]) -> str:
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


@pytest.mark.slow
@pytest.mark.parametrize("variables", [3, 5])
def test_code_execution_is_the_published_data(variables):
    data = code_execution.Config(variables=variables).load()
    found = []
    for split in data[2:5]:
        for words, column in zip(data[:2], zip(*examples(split), strict=True), strict=True):
            found.append(digest([" ".join(words[i] for i in each) + " \n" for each in column]))
    assert found == CODE[variables].split()


@pytest.mark.parametrize("sizes", [*list(LISTOPS)[:2], pytest.param(list(LISTOPS)[2], marks=pytest.mark.slow)])
def test_listops_is_the_published_data(sizes):
    depth, train, valid, test = sizes
    data = listops.Config(depth=depth, train=train, valid=valid, test=test).load()
    found = []
    for split in data[2:5]:
        lines = [f"{len(x)} {y[-1]} {' '.join(data.tokens[i] for i in x)}\n" for x, y in examples(split)]
        found.append(digest(lines))
    assert found == LISTOPS[sizes].split()


def as_python(words: list[str], published: bool) -> str:
    """Translate a program to Python, where `printed` gets the values, by the position of the print's semicolon."""
    lines, condition, start = [], "", 0
    for place, word in enumerate(words):
        if word == ":":
            condition, start = " ".join(words[start:place]), place + 1
        if word != ";":
            continue
        match words[start:place]:
            case ["print", name]:
                line = f"printed[{place}] = {name}"
            case [name, "=", number]:
                line = f"{name} = {number}"
                if condition and published:
                    condition += f" and {name!r} not in globals()"
            case [name, sign]:
                line = f"{name} {sign[0]}= 1"
        lines.append(f"{condition}: {line}" if condition else line)
        condition, start = "", place + 1
    return "\n".join(lines)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 120), st.integers(1, 26), st.sampled_from(["published", "python"]))
def test_python_prints_what_a_program_predicts(seed, statements, variables, semantics):
    task = code_execution.Config(variables=variables, statements=statements, semantics=semantics)
    token, target = next(task.draw(Random(seed)))
    words = [task.tokens[i] for i in token]
    scope: dict[str, object] = {"printed": {}}
    exec(as_python(words, semantics == "published"), scope)
    assert words.count(";") == statements
    assert {place: int(task.classes[i]) for place, i in enumerate(target) if i} == scope["printed"]
    assert all(-8 <= value <= 16 for name, value in scope.items() if name in code_execution.NAMES)


def test_the_two_semantics_are_different_languages():
    tasks = [code_execution.Config(semantics=semantics) for semantics in ("published", "python")]
    ours, theirs = (list(islice(task.draw(Random(1)), 20)) for task in tasks)
    assert ours[0].token[:20] == theirs[0].token[:20]
    assert ours != theirs


def first(values: list[int]) -> int:
    return values[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_the_value_of_a_list_is_what_python_makes_of_it(seed, depth):
    task = listops.Config(depth=depth)
    token, target = next(task.draw(Random(seed)))
    words = [task.tokens[i] for i in token]
    text = "".join(
        f"{word[1:].lower()}([" if word[0] == "[" else "])," if word == "]" else f"{word}," for word in words
    )
    value = eval(text.removesuffix(","), {"min": min, "max": max, "first": first})
    assert target == [NO_TARGET] * (len(token) - 1) + [value]
    levels = np.cumsum([(word[0] == "[") - (word == "]") for word in words])
    assert levels.max() == depth
    assert levels[-1] == 0


SMALL = listops.Config(depth=2, train=30, valid=3, test=3)


def test_the_cache_gives_the_same_data_and_draws_nothing(monkeypatch):
    before = SMALL.load()
    monkeypatch.setattr(listops.Config, "draw", None)
    again = SMALL.load()
    assert [examples(each) for each in again[2:5]] == [examples(each) for each in before[2:5]]


def test_other_settings_are_other_data():
    other = listops.Config(depth=2, train=30, valid=3, test=3, data_seed=43)
    assert examples(SMALL.load().train) != examples(other.load().train)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-4])])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    before = examples(SMALL.load().train)
    (path,) = tmp_path.rglob("train_token.npy")
    intact = path.read_bytes()
    damage(path)
    assert examples(SMALL.load().train) == before
    assert path.read_bytes() == intact


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    before = examples(SMALL.load().train)
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    (tmp_path / "cache").touch()
    assert examples(SMALL.load().train) == before


@pytest.mark.parametrize(
    ("task", "values", "message"),
    [
        (listops, {"depth": 0}, "^depth: got 0; allowed: 1 to 19"),
        (listops, {"depth": 20}, "^depth: got 20; allowed: 1 to 19"),
        (listops, {"valid": 0}, "^valid: got 0; allowed: 1 or more"),
        (code_execution, {"variables": 27}, "^variables: got 27; allowed: 1 to 26"),
        (code_execution, {"statements": 1}, "^statements: got 1; allowed: 2 or more"),
        (code_execution, {"semantics": "ours"}, "^semantics: got 'ours'; allowed: published, python"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(task, values, message):
    with pytest.raises(ValueError, match=message):
        task.Config(**values)


def test_vocabularies_have_no_word_twice():
    tasks: list[GeneratedTask] = [listops.Config(), code_execution.Config(variables=26)]
    for words in (words for task in tasks for words in (task.tokens, task.classes)):
        assert len(set(words)) == len(words)
    assert (len(code_execution.Config().tokens), len(code_execution.Config().classes)) == (22, 26)
    assert (len(listops.Config().tokens), len(listops.Config().classes)) == (14, 10)


def last_assigned(task: code_execution.Config, example: Example) -> bool:
    """Whether every print of a program is right if the last number assigned to its variable is the answer."""
    words, last = [task.tokens[index] for index in example.token], {}
    for place, (word, target) in enumerate(zip(words, example.target, strict=True)):
        if word == "=":
            last[words[place - 1]] = words[place + 1]
        if target and last[words[place - 1]] != task.classes[target]:
            return False
    return True


def without_nesting(task: listops.Config, example: Example) -> bool:
    """Whether the root operator over the digits that are its own arguments has the value of the list."""
    level, digits = 0, []
    for word in (task.tokens[index] for index in example.token):
        level += word.startswith("[") - (word == "]")
        if word.isdigit() and level == 1:
            digits.append(int(word))
    value = {"[MIN": min, "[MAX": max, "[FIRST": lambda each: each[0]}[task.tokens[example.token[0]]]
    return bool(digits) and task.classes[example.target[-1]] == str(value(digits))


FLOORS = [
    *((code_execution.Config(statements=statements), last_assigned) for statements in code_execution.FLOORS),
    *((listops.Config(depth=depth), without_nesting) for depth in listops.FLOORS if depth <= 5),
]


@pytest.mark.parametrize(("task", "baseline"), FLOORS, ids=lambda each: getattr(each, "title", ""))
def test_what_can_be_had_without_the_skill_is_as_stated(task, baseline):
    count = 200 if task.title == "code-3x100" else 2000
    right = sum(baseline(task, example) for example in islice(task.draw(Random(7)), count))
    (floor, *_) = task.reference_scores.values()
    assert 100 * right / count == pytest.approx(floor, abs=3)
