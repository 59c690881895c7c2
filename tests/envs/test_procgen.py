"""ProcGen games: they are those of their package, on the levels and in the mode of the settings."""

import json
import sys

import cv2
import numpy as np
import pytest

from rfwp.envs.worlds.procgen import GAMES, Config
from rfwp.runners.cli import main


@pytest.fixture
def simulator():
    return pytest.importorskip("procgen", exc_type=ImportError).ProcgenGym3Env


def first_frames(config, seed=0, num_envs=8):
    """The frames with which episodes begin, [N, 3, 64, 64], over 100 steps."""
    action = np.full((num_envs, 1), 7)
    with config.build(num_envs) as env:
        steps = [env.reset(seed), *(env.step(action) for _ in range(100))]
    return np.concatenate([step.observation[0][step.first] for step in steps])


@pytest.mark.parametrize("num_threads", [1, 4])
def test_games_that_take_turns_are_those_of_the_package(simulator, num_threads):
    # Environments 0, 2 and 4 play the first game, 1 and 3 the second.
    config = Config("chaser+dodgeball", mode="extreme", num_levels=3, start_level=7)
    seeds = np.random.SeedSequence(5).generate_state(2) >> 1
    settings = {"distribution_mode": "extreme", "num_levels": 3, "start_level": 7}
    chaser = simulator(num=3, env_name="chaser", rand_seed=int(seeds[0]), **settings)
    dodgeball = simulator(num=2, env_name="dodgeball", rand_seed=int(seeds[1]), **settings)
    random, returns, lengths, ended = np.random.default_rng(0), np.zeros(5), np.zeros(5, int), 0
    with config.build(5, num_threads) as env:
        step = env.reset(5)
        for _ in range(300):
            for batch, place in ((chaser, slice(0, None, 2)), (dodgeball, slice(1, None, 2))):
                reward, pixels, first = batch.observe()
                np.testing.assert_array_equal(step.observation[0][place], pixels["rgb"].transpose(0, 3, 1, 2))
                np.testing.assert_array_equal(step.reward[place], reward)
                np.testing.assert_array_equal(step.first[place], first)
            over = step.episode_over
            returns += step.reward
            np.testing.assert_array_equal(step.episode_return[over], returns[over])
            np.testing.assert_array_equal(step.episode_length[over], lengths[over])
            returns[over], lengths[over], ended = 0, 0, ended + over.sum()
            action = random.integers(15, size=(5, 1))
            chaser.act(action[::2, 0])
            dodgeball.act(action[1::2, 0])
            step, lengths = env.step(action), lengths + 1
    assert ended > 10


def test_every_episode_plays_one_of_the_levels(simulator):
    def different(**settings):
        return len({frame.tobytes() for frame in first_frames(Config("bossfight", **settings))})

    assert different(num_levels=1, start_level=3) == 1
    assert 1 < different(num_levels=3) <= 3
    assert different(num_levels=0) == len(first_frames(Config("bossfight", num_levels=0))) > 8
    three, four = (first_frames(Config("bossfight", num_levels=1, start_level=start))[0] for start in (3, 4))
    assert (three != four).any()


def test_a_screen_shows_what_the_agent_sees_and_plays_the_same_game(simulator):
    config, random = Config("starpilot+maze"), np.random.default_rng(0)
    with config.build(1) as env, config.renderer() as screen:
        some, other = env.reset(1), screen.reset(1)
        for _ in range(100):
            for one, two in zip((*some.observation, *some[1:]), (*other.observation, *other[1:]), strict=True):
                np.testing.assert_array_equal(one, two)
            (picture,) = screen.screens()
            assert (picture.shape, picture.dtype) == ((512, 512, 3), np.uint8)
            small = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
            assert np.abs(small.astype(float) - some.observation[0][0]).mean() < 10
            action = random.integers(15, size=(1, 1))
            some, other = env.step(action), screen.step(action)


@pytest.mark.parametrize("game", GAMES)
def test_every_game_has_its_modes(simulator, game):
    for mode in Config(game).protocols:
        with Config(game, mode=mode).build(1) as env:
            env.reset(0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"game": "pong"}, "game: got 'pong'; allowed: bigfish, bossfight, "),
        ({"game": "maze+Hiest"}, "game: got 'Hiest'; nearest: heist; several are joined by +"),
        ({"game": "maze+"}, "game: got ''; allowed: bigfish, bossfight, "),
        ({"game": "maze+maze"}, "game: got 'maze+maze'; allowed: every game once"),
        ({"mode": "memory"}, "mode: got 'memory'; allowed: easy, hard in bigfish"),
        ({"game": "maze+leaper", "mode": "memory"}, "mode: got 'memory'; allowed: easy, hard in maze"),
        ({"num_levels": -1}, "num_levels: got -1; allowed: 0 to 2147483647"),
        ({"start_level": 2**31 - 1}, "start_level: got 2147483647; allowed: 0 to 2147483447"),
        ({"num_levels": 0, "start_level": 1}, "start_level: got 1; allowed: 0 to 0, because num_levels 0 means all"),
    ],
)
def test_settings_that_would_end_the_process_are_refused(settings, message):
    with pytest.raises(ValueError, match="^" + message.replace("+", "[+]")):
        Config(**settings)


def test_returns_are_normalised_game_by_game():
    # Cobbe et al. 2020, Appendix C: StarPilot 2.5 to 64 when easy, 1.5 to 35 when hard.
    easy, hard = (Config("starpilot", mode=mode).score_range for mode in ("easy", "hard"))
    assert (easy.normalise(2.5), easy.normalise(64), hard.normalise(1.5), hard.normalise(35)) == (0, 1, 0, 1)
    assert Config("starpilot", mode="extreme").score_range is None
    assert Config("starpilot+maze").score_range is None


def test_without_its_package_one_line_says_how_to_install_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "procgen", None)
    assert main(["train", "--env", "procgen", "--run", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "env.name: got procgen, but its package cannot be imported (" in error
    assert "pip install --no-deps procgen-mirror gym3 gym==0.26.2" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_one_agent_learns_two_games_and_is_scored_and_filmed_in_each_on_other_levels(simulator, tmp_path):
    run = tmp_path / "run"
    train = "train --env procgen --env.game maze+heist --env.mode memory --core gru --preset cpu --total_steps 2_000"
    assert main([*train.split(), "--final_episodes", "2", "--run", str(run)]) == 0
    assert main(["train", "--run", str(run), "--total_steps", "3_000"]) == 0
    words = "--env.game maze,heist --env.start_level 1000 --episodes 2 --gif --film_seconds 1".split()
    assert main(["evaluate", str(run), *words]) == 0
    changed = [
        json.loads(path.read_text())["changed"] for path in sorted((run / "eval").glob("*start_level=1000*.json"))
    ]
    assert changed == [{"game": game, "start_level": 1000} for game in ("heist", "maze")]
    assert len(list((run / "videos").glob("*.gif"))) == 2
