"""The T-maze, walked by hand-written policies that see nothing but frames."""

import numpy as np
import pytest

from rfwp.envs.worlds.t_maze import FORWARD, LEFT, RIGHT, Config

SIGNS = {(255, 0, 0): LEFT, (0, 255, 0): RIGHT}
NOTHING, JUNCTION = (0, 0, 0), (0, 0, 255)


def pixels(step):
    return [tuple(map(int, observation.ravel())) for observation in step.observation[0]]


def test_who_remembers_the_sign_walks_straight_and_gets_one():
    with Config(length=5).build(3) as env:
        step, found = env.reset(1), []
        for _ in range(10):
            signs = [SIGNS[each] for each in pixels(step)]
            for place in range(5):
                assert place == 0 or pixels(step) == [NOTHING] * 3
                step = env.step(np.full((3, 1), FORWARD))
                assert not step.first.any()
                assert not step.reward.any()
            assert pixels(step) == [JUNCTION] * 3
            step = env.step(np.array(signs)[:, None])
            assert step.first.all()
            assert step.episode_length.tolist() == [6] * 3
            found += [*step.episode_return]
    assert found == [1] * 30


def test_without_memory_a_turn_is_a_guess():
    """The signs are drawn evenly, and nothing at the junction shows which one it was."""
    with Config(length=1).build(1000) as env:
        env.reset(2)
        env.step(np.full((1000, 1), FORWARD))
        assert env.step(np.full((1000, 1), LEFT)).episode_return.mean() == pytest.approx(0.5, abs=0.08)


def test_walls_cost_a_share_and_an_episode_that_leads_nowhere_ends():
    with Config(length=4).build(1) as env:
        step = env.reset(3)
        sign = pixels(step)
        step = env.step(np.array([[LEFT]]))
        assert pixels(step) == sign
        for _ in range(4):
            assert step.reward.tolist() in ([-0.25], [0])
            step = env.step(np.array([[FORWARD]]))
        for _ in range(14):
            step = env.step(np.array([[FORWARD]]))
            assert step.reward == [-0.25]
            assert not step.episode_over[0]
        step = env.step(np.array([[FORWARD]]))
        assert step.episode_over[0]
        assert step.episode_length == [20]
        assert step.episode_return == [-4]
        assert pixels(step)[0] in SIGNS


def test_each_maze_is_walked_by_itself():
    with Config(length=2).build(2) as env:
        env.reset(4)
        for actions in ((FORWARD, LEFT), (FORWARD, FORWARD)):
            step = env.step(np.array(actions)[:, None])
        assert pixels(step) == [JUNCTION, NOTHING]
        step = env.step(np.array([[LEFT], [FORWARD]]))
        assert step.first.tolist() == [True, False]
        assert pixels(step)[0] in SIGNS
        assert pixels(step)[1] == JUNCTION


def test_a_maze_without_a_corridor_is_refused():
    with pytest.raises(ValueError, match="^length: got 0; allowed: 1 or more$"):
        Config(length=0)
