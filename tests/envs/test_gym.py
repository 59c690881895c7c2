"""Any Gymnasium environment: its spaces, its episodes, its mistakes."""

import itertools
import json
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rfwp.agents.actor_pool import ActorFailure
from rfwp.agents.remote_env import RemoteEnv
from rfwp.envs.gym_packages import ID_SETS, package_of
from rfwp.envs.gym_probe import ask, registered
from rfwp.envs.gym_spaces import read_actions
from rfwp.envs.worlds.gym import Config
from rfwp.runners.settings.values import convert

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def same_path(monkeypatch):
    """An environment that is made in this process changes the path of imports."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def odd(name, **kwargs):
    return Config(id=f"odd_environments:{name}", path=HERE, kwargs=json.dumps(kwargs))


def one_hot(field, row):
    return np.concatenate([np.eye(size)[value] for size, value in zip(field.sizes, row, strict=True)])


def test_every_kind_of_space_is_read_as_gymnasium_flattens_it():
    with odd("Sampling").build(3) as env:
        names = ["body/0", "body/1", "camera", "cells", "hand", "phase", "switches"]
        assert [field.name for field in env.spec.observation] == names
        step = env.reset(5)
        for _ in range(20):
            for field, read in zip(env.spec.observation, step.observation, strict=True):
                assert read.shape == (3, *field.shape)
                assert read.dtype == field.dtype
                for index, each in enumerate(env.envs):
                    space, drawn = each.observation_space, each.unwrapped.drawn
                    for key in field.name.split("/"):
                        at = int(key) if key.isdecimal() else key
                        space, drawn = space[at], drawn[at]
                    flat = spaces.flatten(space, drawn)
                    match field.kind:
                        case "image":
                            assert field.shape == (3, 40, 32)
                            np.testing.assert_array_equal(read[index].transpose(1, 2, 0).ravel(), flat)
                        case "vector":
                            np.testing.assert_array_equal(read[index], flat.astype(np.float32))
                        case "categories" if isinstance(space, spaces.MultiBinary):
                            np.testing.assert_array_equal(read[index], flat)
                        case "categories":
                            np.testing.assert_array_equal(one_hot(field, read[index]), flat)
            step = env.step(np.ones((3, 2), np.int64))


@pytest.mark.parametrize(
    ("space", "count"),
    [
        (spaces.Discrete(3, start=-2), 3),
        (spaces.MultiDiscrete([[2, 3], [1, 2]], start=[[0, 1], [5, -1]]), 12),
        (spaces.MultiBinary((2, 2)), 16),
        (spaces.Box(-2, 3, (2, 1), np.float32), 16),
        (spaces.Box(0, 7, (1,), np.int32), 4),
    ],
)
def test_the_choices_of_an_action_are_all_the_actions(space, count):
    actions = read_actions(space, bins=4)
    chosen = actions.convert(np.array(list(itertools.product(*(range(len(names)) for names in actions.names)))))
    assert all(space.contains(action) for action in chosen)
    assert len({np.asarray(action).tobytes() for action in chosen}) == count
    if isinstance(space, spaces.Box):
        np.testing.assert_array_equal(chosen[0], space.low)
        np.testing.assert_array_equal(chosen[-1], space.high)


@pytest.mark.parametrize("bootstrap", [True, False])
def test_episodes_are_those_of_a_plain_loop(bootstrap):
    """The loop resets when an episode is over, and sums its rewards itself."""
    random, limit, starts = np.random.default_rng(0), 12, 4
    settings = Config(max_steps=limit, bootstrap_truncation=bootstrap)
    with settings.build(starts) as env:
        seeds = np.random.SeedSequence(9).generate_state(starts) >> 1
        loop = [gymnasium.make("CartPole-v1", max_episode_steps=limit) for _ in range(starts)]
        expected = [each.reset(seed=int(seed))[0] for each, seed in zip(loop, seeds, strict=True)]
        total, waiting, ends = np.zeros(starts), [False] * starts, {"terminated": 0, "truncated": 0}
        step = env.reset(9)
        for _ in range(300):
            np.testing.assert_array_equal(step.observation[0], np.array(expected, np.float32))
            action = random.integers(2, size=(starts, 1))
            step = env.step(action)
            for index, each in enumerate(loop):
                if waiting[index]:
                    waiting[index], (expected[index], _) = False, each.reset()
                    assert step.first[index]
                    assert step.reward[index] == step.episode_over[index] == step.truncated[index] == 0
                    continue
                expected[index], reward, terminated, truncated, _ = each.step(int(action[index, 0]))
                total[index] += reward
                assert step.reward[index] == reward
                assert step.episode_over[index] == (terminated or truncated)
                waiting[index] = bootstrap and truncated and not terminated
                assert step.truncated[index] == waiting[index]
                if terminated or truncated:
                    assert step.episode_return[index] == step.episode_length[index] == total[index]
                    total[index] = 0
                    ends["terminated" if terminated else "truncated"] += 1
                    if not waiting[index]:
                        expected[index], _ = each.reset()
                assert step.first[index] == ((terminated or truncated) and not waiting[index])
        assert min(ends.values()) > 10


def test_an_environment_may_be_a_class_with_wrappers_settings_and_fields_of_its_choice():
    config = Config(
        id="odd_environments:Sampling",
        path=HERE,
        wrappers='["gymnasium.wrappers:RecordEpisodeStatistics", ["gymnasium.wrappers:TimeLimit", '
        '{"max_episode_steps": 3}]]',
        keys=("body", "phase"),
        reset_options='{"level": 3}',
    )
    with config.build(1) as env:
        assert [field.name for field in env.spec.observation] == ["body/0", "body/1", "phase"]
        env.reset(0)
        assert env.envs[0].reset(options=json.loads(config.reset_options))[1]["options"] == {"level": 3}
        assert [env.step(np.zeros((1, 2), np.int64)).truncated[0] for _ in range(3)] == [False, False, True]
    assert config.title == "Sampling"
    assert Config(id="ALE/Pong-v5").title == "ALE-Pong-v5"


def test_text_that_never_changes_is_left_out():
    answer = ask(odd("Texts", told=False))
    assert [field.name for field in answer.spec.observation] == ["number"]
    assert answer.notes == ("mission is left out, because it is always 'win'",)


MISTAKES = {
    "NoSuch-v0": ({"id": "Acrobat-v1"}, r"id: got 'Acrobat-v1'.*did you mean Acrobot-v1.*env\.modules"),
    "deprecated": ({"id": "Taxi-v3"}, "Taxi-v4"),
    "module": ({"id": "no_such_module:Mine-v0"}, r"id: got 'no_such_module'.*--env\.path"),
    "modules": ({"modules": ("no_such_module",)}, "modules: got 'no_such_module'"),
    "kwargs": ({"kwargs": '{"size": 3}'}, r'kwargs: got \{"size": 3\}; CartPole-v1 refuses them: .*\'size\''),
    "keys": ({"keys": ("speed",)}, "keys: got 'speed'; allowed: observation"),
    "no class": ({"wrappers": '["gymnasium.wrappers:Nothing"]'}, "wrappers: got .*a subclass of gymnasium.Wrapper"),
    "wrapper": ({"wrappers": '[["gymnasium.wrappers:TimeLimit", {"hours": 3}]]'}, "wrappers: .*'hours'"),
}
ODD = {
    "text": (odd("Texts"), r"keys: hint is of the space Text.*--env\.keys '\[number\]'"),
    "other text": (odd("Texts", told=False, says="lose"), "keys: mission is text .*'lose' here, 'win' elsewhere"),
    "no bins": (odd("Continuous"), "action_bins: got null, but actions are Box"),
    "actions": (odd("Continuous", kind="Tuple"), "id: its actions are Tuple.*Box with env.action_bins"),
    "no environment": (odd("SAMPLED"), "id: got 'odd_environments:SAMPLED', which is not registered"),
    "other class": (Config(id="json:JSONDecoder"), "id: got 'json:JSONDecoder'; allowed: a subclass of gymnasium.Env"),
    "abort": (odd("Odd", how="abort when made"), "ended its process with signal 6"),
    "raise": (odd("Odd", how="raise when made"), r"Odd raised ValueError: no such level \(.*odd_environments.py, line"),
    "raise later": (odd("Odd", how="raise", at=1), r"raised IndexError: .* \(.*odd_environments.py, line"),
    "shape": (odd("Odd", how="shape"), r"observation: numbers is float32 \[1\]; declared: Box"),
    "type": (odd("Odd", how="type"), r"observation: card is float64 \[\]; declared: Discrete"),
    "nan": (odd("Odd", how="nan", at=1), "observation: numbers has nan; allowed: finite"),
    "range": (odd("Odd", how="range"), r"observation: card is \[3\]; declared: 0 to 2"),
    "missing": (odd("Odd", how="missing"), "observation: it has no field card"),
    "reward": (odd("Odd", how="reward nan"), "returned the reward nan"),
    "reward array": (odd("Odd", how="reward array"), "reward: got array"),
}


@pytest.mark.parametrize("name", [*MISTAKES, *ODD])
def test_a_mistake_is_one_line_that_names_the_setting_or_the_field(name):
    config, message = (Config(**MISTAKES[name][0]), MISTAKES[name][1]) if name in MISTAKES else ODD[name]
    with pytest.raises(ValueError, match=message) as raised:
        ask(config)
    assert "\n" not in str(raised.value)


def test_an_environment_that_hangs_is_given_up():
    with pytest.raises(ValueError, match="takes longer than 3 seconds"):
        ask(odd("Odd", how="hang when made"), seconds=3)


@pytest.mark.parametrize(
    "settings",
    [
        {"id": ""},
        {"id": "module:.."},
        {"kwargs": "[1]"},
        {"kwargs": "{"},
        {"wrappers": '["gymnasium.wrappers"]'},
        {"wrappers": '[["a:B", 1]]'},
        {"max_steps": 0},
        {"action_bins": 1},
        {"score_bounds": (1.0, 1.0)},
        {"score_bounds": (0.0, 1.0, 2.0)},
    ],
)
def test_a_setting_that_is_not_allowed_is_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"^{name}: got .*; allowed: "):
        Config(**settings)


def test_sets_consist_of_ids_that_the_packages_register():
    found = {package: set(ids) for package, ids in registered().ids.items()}
    assert {"popgym", "minigrid"} <= found.keys()
    for ids in ID_SETS.values():
        package = package_of(ids[0]).name
        assert len(set(ids)) == len(ids)
        assert package not in found or set(ids) <= found[package]


def test_a_score_range_is_that_of_the_benchmark_unless_wrappers_or_the_user_change_it():
    def bounds(env_id, **settings):
        return (Config(id=env_id, **settings).score_range or ())[:2]

    assert bounds("popgym-RepeatFirstEasy-v0") == bounds("popgym:popgym-RepeatFirstEasy-v0") == (-1, 1)
    assert bounds("MiniGrid-MemoryS7-v0") == (0, 1)
    assert bounds("MiniGrid-MemoryS7-v0", wrappers='["minigrid.wrappers:RGBImgPartialObsWrapper"]') == ()
    assert bounds("CartPole-v1") == ()
    assert bounds("CartPole-v1", score_bounds=(0.0, 500.0)) == (0, 500)


def test_json_is_stored_in_one_spelling():
    json_type = Config.__annotations__["kwargs"]
    assert convert(json_type, ' {"size":9} ') == convert(json_type, {"size": 9}) == '{"size": 9}'
    with pytest.raises(ValueError, match="Expecting"):
        convert(json_type, "{size: 9}")


def test_a_process_of_its_own_plays_the_same_steps_and_survives_a_crash(capfd):
    config, random = Config(max_steps=7), np.random.default_rng(1)
    with config.build(3) as here, RemoteEnv(config, 3) as there:
        expected, found = here.reset(4), there.reset(4)
        for _ in range(40):
            for mine, theirs in zip(expected[1:], found[1:], strict=True):
                np.testing.assert_array_equal(mine, theirs)
            np.testing.assert_array_equal(expected.observation[0], found.observation[0])
            action = random.integers(2, size=(3, 1))
            expected, found = here.step(action), there.step(action)
    with RemoteEnv(odd("Odd", how="abort", at=4), 2) as env:
        env.reset(0)
        for _ in range(3):
            env.step(np.zeros((2, 1), np.int64))
        with pytest.raises(ActorFailure, match="exit code -6"):
            env.step(np.zeros((2, 1), np.int64))
    assert "a new episode" not in capfd.readouterr().out
