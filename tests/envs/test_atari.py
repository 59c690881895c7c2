"""The Atari environment: its protocols, games and lives, against emulators that are driven in another way."""

import inspect
from itertools import pairwise

import numpy as np
import pytest
from ale_py import AtariEnv
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from rfwp.envs.ale import game_seeds
from rfwp.envs.worlds import atari
from rfwp.envs.worlds.atari import Config


def play(config: Config, num_steps: int, num_envs: int = 4, num_threads: int = 1):
    """The actions [T, E] and the T + 1 steps of an environment under random actions."""
    (num_actions,) = config.spec().action_sizes
    actions = np.random.default_rng(0).integers(num_actions, size=(num_steps, num_envs))
    with config.build(num_envs, num_threads) as env:
        return actions, [env.reset(11), *map(env.step, actions[..., None])]


def stacked(steps, field):
    return np.stack([getattr(step, field) for step in steps[1:]])  # [T, E, ...]


@pytest.fixture(scope="module")
def breakout():
    return play(Config("breakout"), num_steps=400)


def test_lost_life_opens_a_learner_episode_but_not_a_game(breakout):
    _, steps = breakout
    first, episode_over = stacked(steps, "first"), stacked(steps, "episode_over")
    for env in range(first.shape[1]):
        ends = np.flatnonzero(episode_over[:, env])
        assert len(ends) >= 2
        for before, end in pairwise([-1, *ends]):
            assert first[before + 1 : end + 1, env].sum() == 5  # Breakout's lives


def test_after_a_lost_life_the_frame_stack_goes_on(breakout):
    _, steps = breakout
    lives_lost = 0
    for before, after in pairwise(steps):
        lost = after.first & ~after.episode_over
        np.testing.assert_array_equal(after.observation[0][lost, :3], before.observation[0][lost, 1:])
        opening = after.observation[0][after.episode_over]
        np.testing.assert_array_equal(opening, opening[:, 3:].repeat(4, 1))
        lives_lost += lost.sum()
    assert lives_lost > 0


def test_scores_are_those_of_full_games(breakout):
    """The witness is an emulator that knows nothing of lives: it ends with the game."""
    actions, steps = breakout
    witness = AtariVectorEnv("breakout", 4, reward_clipping=False, autoreset_mode=AutoresetMode.SAME_STEP)
    witness.reset(seed=game_seeds(11, 4))
    score, length = np.zeros(4), np.zeros(4)
    for action, step in zip(actions, steps[1:], strict=True):
        _, reward, terminated, _, _ = witness.step(action)
        score, length = score + reward, length + 1
        np.testing.assert_array_equal(step.episode_over, terminated)
        np.testing.assert_array_equal(step.episode_return, np.where(terminated, score, 0))
        np.testing.assert_array_equal(step.episode_length, np.where(terminated, length, 0))
        score[terminated], length[terminated] = 0, 0
    assert stacked(steps, "episode_return").max() > 1


def test_rewards_are_raw():
    _, steps = play(Config("space_invaders"), num_steps=150, num_envs=1)
    assert stacked(steps, "reward").max() >= 5


@pytest.mark.parametrize("game", ["breakout", "freeway"])
def test_frames_rewards_and_games_are_those_of_gymnasium(game, monkeypatch):
    """Without sticky actions, which the two draw differently."""
    monkeypatch.setitem(atari.PROTOCOLS, "machado", atari.PROTOCOLS["machado"]._replace(sticky=0.0))
    actions, steps = play(Config(game, "machado"), num_steps=300, num_envs=1)
    single = AtariEnv(game, frameskip=1, repeat_action_probability=0.0, full_action_space=True)
    witness = FrameStackObservation(AtariPreprocessing(single, noop_max=0), 4, padding_type="reset")
    observation, _ = witness.reset()
    score = 0.0
    for action, before, after in zip(actions, steps, steps[1:], strict=False):
        np.testing.assert_array_equal(before.observation[0][0], observation)
        observation, reward, terminated, _, _ = witness.step(action[0])
        score += reward
        assert (after.reward[0], after.episode_over[0], after.first[0]) == (reward, terminated, terminated)
        if terminated:
            assert after.episode_return[0] == score
            (observation, _), score = witness.reset(), 0.0


def test_machado_learner_episodes_are_games():
    _, steps = play(Config("breakout", "machado"), num_steps=250, num_envs=2)
    episode_over = stacked(steps, "episode_over")
    assert episode_over.any()
    np.testing.assert_array_equal(stacked(steps, "first"), episode_over)


@pytest.mark.parametrize(("protocol", "max_frames"), [("dqn", 3), ("machado", 10), ("dqn", 102), ("machado", 102)])
def test_the_frame_cap_ends_every_game(protocol, max_frames):
    """Even where a game is shorter than the no-ops before it."""
    _, steps = play(Config("pong", protocol, max_frames), num_steps=60, num_envs=2)
    length = -(-max_frames // 4)
    expected = np.zeros((60, 2))
    expected[length - 1 :: length] = length
    np.testing.assert_array_equal(stacked(steps, "episode_length"), expected)
    np.testing.assert_array_equal(stacked(steps, "first"), expected > 0)


def test_number_of_threads_changes_nothing():
    (_, some), (_, others) = (play(Config("pong"), 60, num_envs=2, num_threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(stacked(some, "observation"), stacked(others, "observation"))


def test_neighbouring_seeds_share_no_game():
    seeds = np.concatenate([game_seeds(seed, 64) for seed in range(16)])
    assert len(np.unique(seeds)) == len(seeds)
    assert seeds.min() >= 0
    assert seeds.max() < 2**31


@pytest.mark.parametrize(
    ("game", "protocol"), [("pong", "machado"), ("breakout", "dqn"), ("freeway", "dqn"), ("ms_pacman", "machado")]
)
def test_spec_is_that_of_the_running_world(game, protocol):
    config = Config(game, protocol)
    with config.build(1) as env:
        num_actions = int(env._emulators.single_action_space.n)
        assert env.spec == config.spec()
        assert env.reset(0).observation[0].shape[1:] == config.spec().observation[0].shape
    assert config.spec().action_sizes == (num_actions,)


def test_action_names_are_the_minimal_set_or_all_18():
    assert Config("breakout").spec().action_names == (("NOOP", "FIRE", "RIGHT", "LEFT"),)
    assert Config("freeway").spec().action_names == (("NOOP", "UP", "DOWN"),)
    (names,) = Config("freeway", "machado").spec().action_names
    assert (len(names), names[:3], names[-1]) == (18, ("NOOP", "FIRE", "UP"), "DOWNLEFTFIRE")


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        (
            "dqn",
            {
                "repeat_action_probability": 0.0,
                "full_action_space": False,
                "life_loss_info": True,
                "noop_max": 30,
                "use_fire_reset": True,
            },
        ),
        (
            "machado",
            {
                "repeat_action_probability": 0.25,
                "full_action_space": True,
                "life_loss_info": False,
                "noop_max": 0,
                "use_fire_reset": False,
            },
        ),
    ],
)
def test_protocol_sets_every_option_of_the_emulator(protocol, options, monkeypatch):
    given = {}
    monkeypatch.setattr(atari, "AtariVectorEnv", lambda game, num_envs, **others: given.update(others))
    Config("pong", protocol, max_frames=1000).build(2, num_threads=3)
    shared = {
        "num_threads": 3,
        "max_num_frames_per_episode": 1000,
        "continuous": False,
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "img_height": 84,
        "img_width": 84,
        "grayscale": True,
        "stack_num": 4,
        "frameskip": 4,
        "maxpool": True,
        "episodic_life": False,
        "reward_clipping": False,
    }
    assert given == shared | options
    without_effect = {"self", "game", "num_envs", "batch_size", "thread_affinity_offset", "continuous_action_threshold"}
    assert set(inspect.signature(AtariVectorEnv.__init__).parameters) == set(given) | without_effect


def test_game_is_kept_as_its_rom_id():
    assert Config("ALE/SpaceInvaders-v5").game == "space_invaders"
    assert Config("Pong") == Config("pong")
    assert Config("Ms. Pac-Man").title == "ms_pacman"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"game": "pnog"}, "game: got 'pnog'; nearest: pong"),
        ({"protocol": "atari"}, "protocol: got 'atari'; allowed: dqn, machado"),
        ({"max_frames": 0}, "max_frames: got 0; allowed: 1 to 2147483647"),
    ],
)
def test_config_refuses(settings, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Config(**settings)


def test_a_world_needs_a_thread():
    with pytest.raises(ValueError, match="^num_threads: got 0; allowed: 1 or more"):
        Config().build(1, num_threads=0)


def test_lives_and_reference_scores_follow_the_protocol():
    by_dqn, by_machado = (Config("pong").under(protocol) for protocol in Config().protocols)
    assert (by_dqn.protocol, by_dqn.lives) == ("dqn", True)
    assert (by_machado.protocol, by_machado.lives) == ("machado", False)
    assert list(by_dqn.reference_scores) == ["random", "human", "IMPALA shallow (50M)", "IMPALA deep (50M)"]
    assert by_machado.reference_scores == {"random": -20.7, "human": 14.6, "Cleanba IMPALA (50M)": 19.09}
    assert "Huang et al. 2023" in by_machado.reference_sources


def test_another_protocol_leaves_an_agent_the_actions_it_knows():
    minimal, full = Config("pong", "dqn"), Config("pong", "machado")
    assert minimal.under("machado").spec().action_sizes == minimal.spec().action_sizes == (6,)
    assert full.under("dqn").spec().action_sizes == (18,)
    assert minimal.under("machado").rules == full.rules._replace(full_actions=False)
    assert minimal.under("dqn").rules == minimal.rules
    with pytest.raises(ValueError, match="actions: got 'some'; allowed: minimal, full, null"):
        Config("pong", actions="some")
