"""The single game with RGB screens equals the first game of the batch, no-ops and sticky actions included."""

import cv2
import numpy as np
import pytest

from rfwp.envs.worlds.atari import Config


def assert_equal_play(config: Config, num_steps: int, num_envs: int = 1) -> tuple[int, int]:
    """Plays both with random actions; gives the numbers of learner episodes and games that ended."""
    random = np.random.default_rng(2)
    episodes = games = 0
    with config.build(num_envs) as env, config.renderer() as screen:
        assert env.spec == screen.spec
        batched, single = env.reset(5), screen.reset(5)
        for t in range(num_steps + 1):
            (many_screens, *many_fields), (one_screens, *one_fields) = batched, single
            pairs = zip((*many_screens, *many_fields), (*one_screens, *one_fields), strict=True)
            for field, (many, one) in zip(batched._fields, pairs, strict=True):
                assert many.dtype == one.dtype
                np.testing.assert_array_equal(many[:1], one, f"{field} at {t}")
            action = random.integers(env.spec.action_sizes[0], size=(num_envs, 1))
            batched, single = env.step(action), screen.step(action[:1])
            episodes, games = episodes + int(single.first[0]), games + int(single.episode_over[0])
    return episodes, games


@pytest.mark.parametrize("game", ["breakout", "bank_heist"])  # the last plays on with no life left
def test_dqn_play_is_equal_through_lost_lives_and_games(game):
    episodes, games = assert_equal_play(Config(game, "dqn"), num_steps=550)
    assert episodes > games > 0


@pytest.mark.parametrize("game", ["breakout", "space_invaders"])
def test_machado_play_is_equal_through_sticky_actions_and_games(game):
    episodes, games = assert_equal_play(Config(game, "machado"), num_steps=400)
    assert episodes == games > 0


@pytest.mark.parametrize(  # no FIRE in the last two
    ("game", "protocol"), [("pong", "dqn"), ("seaquest", "machado"), ("freeway", "machado"), ("ms_pacman", "dqn")]
)
def test_play_is_equal_through_the_frame_cap(game, protocol):
    assert assert_equal_play(Config(game, protocol, max_frames=203), num_steps=150)[1] >= 2


def test_play_is_equal_through_many_no_op_starts():
    assert assert_equal_play(Config("freeway", "dqn", max_frames=6), num_steps=60) == (30, 30)


def test_it_plays_the_first_game_of_a_batch():
    assert_equal_play(Config("pong"), num_steps=60, num_envs=3)


def test_a_second_reset_plays_the_same_game_again():
    action = np.zeros((1, 1), np.int64)
    with Config("pong", "machado").renderer() as screen:
        first, second = ([screen.reset(1)] + [screen.step(action) for _ in range(30)] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.observation[0], other.observation[0])


def grey(colour: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY).astype(float)


@pytest.mark.parametrize("game", ["pong", "seaquest"])
def test_screens_show_in_colour_what_the_agent_sees(game):
    with Config(game).renderer() as screen:
        step = screen.reset(3)
        assert screen.screens().shape == (4, 210, 160, 3)
        assert screen.screens().dtype == np.uint8
        for _ in range(60):
            screens = screen.screens()
            seen = cv2.resize(np.maximum(grey(screens[2]), grey(screens[3])), (84, 84), interpolation=cv2.INTER_AREA)
            assert np.abs(seen - step.observation[0][0, -1]).mean() < 1  # two roundings of grey
            step = screen.step(np.array([[2]]))


def test_screens_of_a_last_step_show_the_end_of_the_game():
    action = np.array([[0]])
    with Config("freeway", max_frames=6).renderer() as capped, Config("freeway").renderer() as uncapped:
        for screen in (capped, uncapped):
            screen.reset(3)
            screen.step(action)
        assert capped.step(action).episode_over[0]
        uncapped.step(action)
        ending = uncapped.screens()[:2]  # the frames up to the cap
        assert (ending[0] != ending[1]).any()
        np.testing.assert_array_equal(capped.screens(), ending[[0, 1, 1, 1]])


def test_it_is_the_renderer_of_its_game():
    config = Config("pong", "machado")
    with config.renderer() as renderer, config.renderer() as screen:
        np.testing.assert_array_equal(renderer.reset(1).observation[0], screen.reset(1).observation[0])
        assert renderer.screens().shape[0] == config.spec().frames_per_step
        assert (renderer.num_envs, renderer.frames_per_second) == (1, 60)


def test_an_invalid_action_is_refused():
    with Config("pong").renderer() as screen:
        screen.reset(0)
        with pytest.raises(ValueError, match=r"^action: got \[6\]; allowed"):
            screen.step(np.array([[6]]))
