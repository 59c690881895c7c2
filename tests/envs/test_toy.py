"""Toy memory tasks, against policies that are written by hand and read nothing but frames."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from rfwp.envs.toy import NO_QUESTION, ToyConfig, one_hot
from rfwp.envs.worlds import counting, delayed_cue, n_back, recall


class Recaller:
    """Remembers the newest value of each key."""

    def __init__(self, config):
        self.num_keys, self.value = config.num_keys, {}

    def act(self, pixels):
        key, values = int(pixels[: self.num_keys].argmax()), pixels[self.num_keys :]
        if values.any():
            self.value[key] = int(values.argmax())
        return self.value[key]


class Repeater:
    """Remembers the first frame."""

    def __init__(self, config):
        self.cue = None

    def act(self, pixels):
        self.cue = int(pixels.argmax()) if self.cue is None else self.cue
        return self.cue


class Comparer:
    """Remembers everything, compares with the frame `distance` steps ago."""

    def __init__(self, config):
        self.distance, self.seen = config.distance, []

    def act(self, pixels):
        self.seen.append(pixels)
        return int(len(self.seen) > self.distance and (self.seen[-1 - self.distance] == pixels).all())


class Tally:
    """Counts frames with a mark."""

    def __init__(self, config):
        self.count = 0

    def act(self, pixels):
        self.count += int(pixels[0] > 0)
        return self.count


# Config, policy, best return, random return
TASKS = [
    (recall.Config(), Recaller, 3, 1),
    (recall.Config(num_keys=5, num_values=4, num_overwrites=5, num_queries=2), Recaller, 2, 0.5),
    (recall.Config(num_keys=2, num_values=2, num_overwrites=0, num_queries=1), Recaller, 1, 0.5),
    (delayed_cue.Config(), Repeater, 1, 0.25),
    (delayed_cue.Config(delay=0, num_cues=2), Repeater, 1, 0.5),
    (n_back.Config(), Comparer, 14, 7),
    (n_back.Config(distance=1, num_symbols=2, num_steps=5), Comparer, 4, 2),
    (counting.Config(), Tally, 1, 0.25),
    (counting.Config(max_count=2, max_steps=2), Tally, 1, 1 / 3),
]
every_task = pytest.mark.parametrize(
    ("config", "policy", "best", "at_random"), TASKS, ids=[f"{task[0].title}-{i}" for i, task in enumerate(TASKS)]
)


def returns(config: ToyConfig, act, num_envs: int, num_steps: int) -> np.ndarray:
    """Game returns of a function from a step to actions [E]."""
    found = []
    with config.build(num_envs) as env:
        step = env.reset(5)
        for _ in range(num_steps):
            step = env.step(act(step)[:, None])
            np.testing.assert_array_equal(step.first, step.episode_over)
            found.extend(step.episode_return[step.episode_over])
    return np.array(found)


@every_task
def test_who_remembers_gets_the_best_return(config, policy, best, at_random):
    minds = [policy(config) for _ in range(8)]

    def act(step):
        for env in np.flatnonzero(step.first):
            minds[env] = policy(config)
        return np.array(
            [mind.act(observation.ravel()) for mind, observation in zip(minds, step.observation[0], strict=True)]
        )

    found = returns(config, act, num_envs=8, num_steps=100)
    assert len(found) > 30
    np.testing.assert_array_equal(found, best)
    assert config.score_range.high == best


@every_task
def test_random_play_gets_the_stated_return(config, policy, best, at_random):
    random = np.random.default_rng(1)
    found = returns(config, lambda step: random.integers(len(config.action_names), size=256), 256, num_steps=200)
    standard_error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - at_random) < 5 * standard_error
    assert config.score_range.low == at_random


@every_task
def test_the_frame_of_a_question_tells_nothing_of_the_answer(config, policy, best, at_random):
    """So nothing without memory beats random play."""
    count = 12_000
    episodes = config.draw(np.random.default_rng(3), count)
    answers = defaultdict(Counter)
    for episode, t in zip(*np.nonzero(episodes.answer != NO_QUESTION), strict=True):
        answers[episodes.observation[episode, t].tobytes()][int(episodes.answer[episode, t])] += 1
    chance = 1 / len(config.action_names)
    for counts in answers.values():
        asked = counts.total()
        assert max(counts.values()) / asked < chance + 5 * (chance / asked) ** 0.5


def test_the_tasks_are_told_apart_by_their_titles():
    titles = [module.Config().title for module in (counting, delayed_cue, n_back, recall)]
    assert titles == ["counting", "delayed_cue", "n_back", "recall"]


def test_recall_overwrites_with_another_value():
    config = recall.Config(num_keys=4, num_values=2, num_overwrites=4, num_queries=4)
    episodes = config.draw(np.random.default_rng(0), 500)
    key = episodes.observation[:, :8, :4].argmax(axis=2)
    value = episodes.observation[:, :8, 4:].argmax(axis=2)
    for keys, values in zip(key, value, strict=True):
        first, second = (dict(zip(keys[half], values[half], strict=True)) for half in (slice(4), slice(4, 8)))
        assert all(first[k] != second[k] for k in range(4))


def test_counting_episodes_differ_in_length_and_its_counts_do_not_depend_on_it():
    episodes = counting.Config(max_count=2, max_steps=6).draw(np.random.default_rng(0), 9000)
    assert set(episodes.length) == {3, 4, 5, 6, 7}
    for length in range(3, 8):
        counts = episodes.answer[episodes.length == length, length - 1]
        assert counts.mean() == pytest.approx(1, abs=0.1)


def test_one_hot_is_255_at_the_symbol_and_blank_for_none():
    assert one_hot(np.array([[1, -1]]), 3).tolist() == [[[0, 255, 0], [0, 0, 0]]]


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (recall.Config, {"num_keys": 0}, "num_keys: got 0; allowed: 1 or more"),
        (recall.Config, {"num_values": 1}, "num_values: got 1; allowed: 2 or more"),
        (recall.Config, {"num_overwrites": 4}, r"num_overwrites: got 4; allowed: 0 to 3 \(num_keys\)"),
        (recall.Config, {"num_queries": 0}, r"num_queries: got 0; allowed: 1 to 3 \(num_keys\)"),
        (delayed_cue.Config, {"delay": -1}, "delay: got -1; allowed: 0 or more"),
        (delayed_cue.Config, {"num_cues": 1}, "num_cues: got 1; allowed: 2 or more"),
        (n_back.Config, {"distance": 0}, "distance: got 0; allowed: 1 or more"),
        (n_back.Config, {"num_symbols": 1}, "num_symbols: got 1; allowed: 2 or more"),
        (n_back.Config, {"num_steps": 2}, r"num_steps: got 2; allowed: more than 2 \(distance\)"),
        (counting.Config, {"max_count": 0}, "max_count: got 0; allowed: 1 or more"),
        (counting.Config, {"max_steps": 2}, r"max_steps: got 2; allowed: 3 \(max_count\) or more"),
    ],
)
def test_config_refuses(config, settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        config(**settings)
