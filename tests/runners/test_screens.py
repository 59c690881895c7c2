"""What is filmed is what is played: a screen changes neither an environment's steps nor what its agent sees."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from rfwp.envs.worlds import gym, recall, t_maze
from rfwp.runners.film.canvas import BACKGROUND, fitted
from rfwp.runners.film.screens import open_screen
from rfwp.runners.machine.errors import UserError

ENVS = Path(__file__).parents[1] / "envs"


def played(env, actions):
    return [env.reset(3), *(env.step(action) for action in actions)]


@pytest.mark.parametrize(
    "config",
    [
        gym.Config(id="CartPole-v1", max_steps=15),
        gym.Config(id="popgym-CountRecallEasy-v0"),
        recall.Config(),
        t_maze.Config(),
    ],
    ids=lambda config: config.title,
)
def test_a_shown_environment_plays_what_it_plays_unseen(config):
    random = np.random.default_rng(0)
    actions = [random.integers(config.spec().action_sizes)[None] for _ in range(60)]
    with config.build(1) as env, open_screen(config) as screen:
        assert screen.spec == config.spec()
        theirs = played(env, actions)
        ours = played(screen, actions)
    assert any(step.first[0] for step in ours[1:])
    for one, other in zip(ours, theirs, strict=True):
        for mine, yours in zip((*one.observation, *one[1:]), (*other.observation, *other[1:]), strict=True):
            np.testing.assert_array_equal(mine, yours)


def test_pictures_are_those_that_the_environment_renders_of_every_state_the_last_included():
    seed = int(np.random.SeedSequence(3).generate_state(1)[0] >> 1)
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=seed)
    with open_screen(gym.Config(id="CartPole-v1")) as screen:
        assert screen.frames_per_second == 50
        step, over = screen.reset(3), False
        while not over:
            np.testing.assert_array_equal(screen.screens(), env.render()[None])
            over = env.step(1)[2]
            step = screen.step(np.array([[1]]))
        assert step.episode_over[0]
        np.testing.assert_array_equal(screen.screens(), env.render()[None])
    env.close()  # or SDL would go on with the driver that shows nothing


def test_an_observation_is_drawn_number_by_number():
    with open_screen(recall.Config()) as screen:
        for _ in range(3):
            step = screen.reset(0)
            (picture,) = screen.screens()
            lit = picture[16 + 24 + 24, 16 + 24 : 480 - 16 : 48].astype(int).sum(1)  # the middles of six tiles
            np.testing.assert_array_equal(lit[:6] > 400, step.observation[0].ravel() == 255)
            assert (picture[:, -16:] == BACKGROUND).all()


def test_an_environment_that_ends_its_process_ends_the_film_with_one_line():
    config = gym.Config(id="odd_environments:Odd", path=str(ENVS), kwargs='{"how": "abort", "at": 2}')
    with pytest.raises(UserError, match=r"^env: Odd: ended with exit code") as raised, open_screen(config) as screen:
        played(screen, [np.zeros((1, len(screen.spec.action_names)), np.int64)] * 9)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("size", "room", "shown"),
    [
        ((160, 210), (480, 630), (480, 630)),
        ((160, 210), (1280, 720), (480, 630)),
        ((600, 400), (480, 630), (480, 320)),
        ((600, 400), (1280, 720), (600, 400)),
        ((321, 321), (480, 630), (320, 320)),
        ((5000, 3), (480, 630), (480, 2)),
    ],
)
def test_pictures_are_shown_as_large_as_fits_without_uneven_pixels(size, room, shown):
    assert fitted(size, room) == shown
