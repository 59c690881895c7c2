"""What every environment promises, and the helpers that environments share."""

import importlib.util
import pickle
import pkgutil
from functools import cache

import numpy as np
import pytest

from rfwp.agents.slab import allocate, view
from rfwp.envs import worlds
from rfwp.envs.spaces import Field, check_actions
from rfwp.envs.vector_env import EnvConfig, EnvSpec, EpisodeTracker, Step

WITHOUT_PROCGEN = pytest.mark.skipif(importlib.util.find_spec("procgen") is None, reason="procgen is not installed")
NAMES = [
    pytest.param(module.name, marks=WITHOUT_PROCGEN if module.name == "procgen" else ())
    for module in pkgutil.iter_modules(worlds.__path__)
]
DTYPES = (np.float32, np.bool_, np.bool_, np.bool_, np.float64, np.int32)


def config_of(name: str) -> EnvConfig:
    return importlib.import_module(f"rfwp.envs.worlds.{name}").Config()


@cache
def played(config: EnvConfig, seed: int) -> list[Step]:
    """A hundred steps of two environments under random actions."""
    random = np.random.default_rng(7)
    with config.build(2) as env:
        sizes = env.spec.action_sizes
        actions = random.integers(sizes, size=(100, 2, len(sizes)))
        return [env.reset(seed), *map(env.step, actions)]


def assert_same(some, others):
    for t, (step, other) in enumerate(zip(some, others, strict=True)):
        for one, two in zip((*step.observation, *step[1:]), (*other.observation, *other[1:]), strict=True):
            np.testing.assert_array_equal(one, two, f"at {t}")


@pytest.mark.parametrize("name", NAMES)
class TestEveryWorld:
    def test_steps_have_the_shapes_and_types_of_the_interface(self, name):
        config = config_of(name)
        for step in played(config, seed=1):
            for field, array in zip(config.spec().observation, step.observation, strict=True):
                assert (array.dtype, array.shape) == (field.dtype, (2, *field.shape))
            assert tuple(array.dtype for array in step[1:]) == DTYPES
            assert all(array.shape == (2,) for array in step[1:])

    def test_a_reset_opens_learner_episodes_and_ends_no_game(self, name):
        first = played(config_of(name), seed=1)[0]
        assert first.first.all()
        assert not first.episode_over.any()
        assert not first.reward.any()
        assert not first.truncated.any()

    def test_a_game_ends_with_a_learner_episode_and_its_score_is_given_only_then(self, name):
        for step in played(config_of(name), seed=1)[1:]:
            assert step.first[step.episode_over].all()
            assert (step.episode_length[step.episode_over] > 0).all()
            assert not step.episode_length[~step.episode_over].any()
            assert not step.episode_return[~step.episode_over].any()

    def test_same_seed_same_steps(self, name):
        assert_same(played(config_of(name), seed=1), played.__wrapped__(config_of(name), seed=1))

    def test_other_seed_other_steps(self, name):
        some, others = (np.stack([step.observation[0] for step in played(config_of(name), seed)]) for seed in (1, 2))
        assert (some != others).any()

    def test_a_reset_forgets_what_was_played_before(self, name):
        config = config_of(name)
        action = np.zeros((2, len(config.spec().action_sizes)), np.int64)
        with config.build(2) as used, config.build(2) as fresh:
            used.reset(1)
            for _ in range(20):
                used.step(action)
            some, others = ([env.reset(2)] + [env.step(action) for _ in range(20)] for env in (used, fresh))
        assert_same(some, others)

    def test_an_invalid_action_is_refused_and_nothing_is_stepped(self, name):
        config = config_of(name)
        sizes = config.spec().action_sizes
        valid = np.zeros((2, len(sizes)), np.int64)
        with config.build(2) as env, config.build(2) as undisturbed:
            env.reset(1), undisturbed.reset(1)
            for invalid in (valid[:1], valid[:, 0], valid + sizes, valid - 1, valid.astype(np.float32)):
                with pytest.raises(ValueError, match=r"^action: got .*; allowed: int64 \[2, \d+\] of 0 to "):
                    env.step(invalid)
            assert_same([env.step(valid)], [undisturbed.step(valid)])

    def test_steps_own_their_arrays(self, name):
        config = config_of(name)
        action = np.zeros((2, len(config.spec().action_sizes)), np.int64)
        with config.build(2) as env, config.build(2) as other:
            step = env.reset(1)
            for array in (*step.observation, *step[1:]):
                array[...] = 1  # a consumer may do so
            other.reset(1)
            assert_same([env.step(action)], [other.step(action)])

    def test_closing_twice_is_allowed(self, name):
        env = config_of(name).build(1)
        env.close()
        env.close()

    def test_the_config_survives_the_way_to_another_process(self, name):
        config = config_of(name)
        assert pickle.loads(pickle.dumps(config)) == config

    def test_its_capabilities_fit_together(self, name):
        config = config_of(name)
        assert config.protocol in (config.protocols or (None,))
        for protocol in config.protocols:
            other = config.under(protocol)
            assert (other.protocol, other.title) == (protocol, config.title)
            assert other.spec().action_names == config.spec().action_names
        with pytest.raises(ValueError, match="^protocol: got 'nonesuch'; allowed: "):
            config.under("nonesuch")
        if config.title_setting:
            assert getattr(config, config.title_setting) == config.title
        if config.reference_scores:
            assert config.reference_sources
        if config.renderer:
            with config.renderer() as renderer:
                assert renderer.spec == config.spec()
                assert renderer.reset(1).observation[0].shape[0] == renderer.num_envs == 1

    def test_a_world_needs_an_environment(self, name):
        with pytest.raises(ValueError, match="^num_envs: got 0; allowed: 1 or more"):
            config_of(name).build(0)


def test_a_game_lasts_across_learner_episodes():
    tracker, observation = EpisodeTracker(2), (np.zeros((2, 1, 1, 1), np.uint8),)
    never, both, second = np.array([False, False]), np.array([True, True]), np.array([False, True])
    reward = np.array([1.5, -2], np.float32)
    tracker.open(observation)
    tracker.advance(observation, reward, both, never)
    step = tracker.advance(observation, reward, both, second)
    assert (step.episode_return.tolist(), step.episode_length.tolist()) == ([0, -4], [0, 2])
    step = tracker.advance(observation, reward, both, both)
    assert (step.episode_return.tolist(), step.episode_length.tolist()) == ([4.5, -2], [3, 1])


def test_the_step_that_opens_an_episode_after_a_truncation_belongs_to_none():
    tracker, observation = EpisodeTracker(1), (np.zeros((1, 1), np.float32),)
    no, yes, one, zero = np.array([False]), np.array([True]), np.ones(1), np.zeros(1)
    tracker.open(observation)
    tracker.advance(observation, one, no, no)
    step = tracker.advance(observation, one, no, yes, truncated=yes)
    assert (step.truncated.tolist(), step.episode_return.tolist(), step.episode_length.tolist()) == ([True], [2], [2])
    assert not tracker.advance(observation, zero, yes, no).truncated.any()
    step = tracker.advance(observation, one, no, yes, truncated=yes)
    assert (step.episode_return.tolist(), step.episode_length.tolist()) == ([1], [1])


def test_a_return_is_exact_where_float32_is_not():
    tracker, over, observation = EpisodeTracker(1), np.array([True]), (np.zeros((1, 1), np.float32),)
    tracker.open(observation)
    step = tracker.advance(observation, np.array([30_000_001]), over, over)
    assert step.episode_return.tolist() == [30_000_001]
    spec = EnvSpec((Field("x", "vector", (1,)),), (("A",),), 1)
    field = view(allocate(1, spec), 1, spec).episode_return  # as an actor passes it on
    field[...] = step.episode_return
    assert field.tolist() == [30_000_001]


@pytest.mark.parametrize(
    ("action", "got"),
    [
        ([[0, 1], [0, 1]], "list"),
        (np.zeros(2, np.int64), r"int64 \[2\]"),
        (np.zeros((3, 2), np.int64), r"int64 \[3, 2\]"),
        (np.zeros((2, 1), np.int64), r"int64 \[2, 1\]"),
        (np.zeros((2, 2), np.bool_), r"bool \[2, 2\]"),
        (np.zeros((2, 2), np.float64), r"float64 \[2, 2\]"),
        (np.zeros((2, 2), np.uint8), r"uint8 \[2, 2\]"),
        (np.array([[0, 2], [4, 0]]), r"\[4, 0\]"),
        (np.array([[3, 3], [0, 0]]), r"\[3, 3\]"),
        (np.array([[3, 2], [0, -1]]), r"\[0, -1\]"),
    ],
)
def test_a_bad_action_is_named(action, got):
    with pytest.raises(ValueError, match=rf"^action: got {got}; allowed: int64 \[2, 2\] of 0 to 3, 0 to 2$"):
        check_actions(action, num_envs=2, sizes=(4, 3))
