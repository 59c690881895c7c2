"""Scores of an agent: every game is finished and counted once, and the state is carried as in training."""

import numpy as np
import pytest
import torch
from ladder import Config as LadderConfig
from ladder import Ladder

from rfwp.agents.config import ActorLearnerConfig
from rfwp.envs.worlds import atari, counting
from rfwp.models.actor_critic import ActorCritic, AgentInput
from rfwp.models.cores import lstm
from rfwp.models.encoders import flat, shallow
from rfwp.runners.evaluation.scoreboard import print_evaluation
from rfwp.runners.evaluation.scoring import NotNegative, evaluate, play
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.terminal import Terminal


def toy_agent(env) -> ActorCritic:
    torch.manual_seed(0)
    core = lstm.Config(hidden_size=8)
    return ActorLearnerConfig(env=env, encoder=flat.Config(8), core=core, last_action=True).build_agent("cpu")


def test_short_games_are_not_counted_more_often():
    result = evaluate(toy_agent(LadderConfig()), LadderConfig(), episodes=10)
    assert result.scores == list(range(1, 11))
    assert [each.length for each in result.episodes] == list(range(1, 11))


def test_more_episodes_than_environments_are_shared_out_beforehand():
    result = evaluate(toy_agent(LadderConfig()), LadderConfig(), episodes=70)
    assert len(result.episodes) == 70
    assert [result.scores.count(score) for score in range(1, 33)] == [3] * 6 + [2] * 26


def test_the_same_seed_plays_the_same_games():
    env = counting.Config()
    agent = toy_agent(env)
    one, again, other = (evaluate(agent, env, 12, seed=seed) for seed in (1, 1, 2))
    assert one.episodes == again.episodes
    assert one.episodes != other.episodes


def test_state_is_carried_and_reset_as_in_training():
    env = counting.Config()
    agent = toy_agent(env).eval()
    seen = []
    agent.register_forward_hook(lambda module, inputs, output: seen.append((inputs, output[0].logits)))
    with env.build(3) as running:
        play(agent, running, np.full(3, 4), "greedy", "episode", seed=0)
    read = [inputs[0] for inputs, _ in seen]
    logits = torch.cat([logits for _, logits in seen])
    pixels = torch.cat([each.observation[0] for each in read])
    last_action, reward, first = (torch.cat([each[field] for each in read]) for field in (1, 2, 3))
    assert torch.equal(last_action[1:, :, 0], logits[:-1].argmax(-1))
    with torch.no_grad():
        whole, _ = agent(AgentInput((pixels,), last_action, reward, first), agent.initial_state(3))
    torch.testing.assert_close(whole.logits, logits)


def test_lives_and_games_are_told_apart():
    config = atari.Config("breakout")
    torch.manual_seed(0)
    core = lstm.Config(hidden_size=8)
    agent = ActorLearnerConfig(env=config, encoder=shallow.Config(), core=core).build_agent("cpu")
    lives, whole = (evaluate(agent, config, episodes=5, score=score) for score in ("life", "episode"))
    # A batch of five lives is one game of Breakout, which begins with five; there are five batches.
    assert len(lives.episodes) == 25
    assert [5 * batch_mean for batch_mean in lives.batch_means] == pytest.approx(whole.scores)
    assert sum(life.length for life in lives.episodes[:5]) == whole.episodes[0].length


def test_the_summary_is_worked_out_from_the_returns():
    facts = evaluate(toy_agent(LadderConfig()), LadderConfig(), episodes=4).summary()
    assert (facts["mean"], facts["median"], facts["min"], facts["max"]) == (2.5, 2.5, 1.0, 4.0)
    assert facts["standard_deviation"] == pytest.approx(1.1180340)
    assert facts["normalised_percent"] is None


class Seesaw(Ladder):
    """Every step ends a learner episode, or life, which scores -1 and 2 in turns; a game is of four of them."""

    def reset(self, seed):
        self.steps = 0
        return super().reset(seed)

    def step(self, action):
        self.steps += 1
        everywhere, observation = np.ones(self.num_envs, bool), np.zeros((self.num_envs, 1, 1, 3), np.uint8)
        reward = np.full(self.num_envs, 2.0 if self.steps % 2 == 0 else -1.0, np.float32)
        return self.tracker.advance((observation,), reward, everywhere, everywhere & (self.steps % 4 == 0))


class SeesawConfig(LadderConfig):
    def build(self, num_envs, num_threads=1):
        return Seesaw(num_envs)


def test_lives_come_in_five_batches_whose_means_are_averaged():
    result = evaluate(toy_agent(SeesawConfig()), SeesawConfig(), episodes=3, score="life")
    assert result.scores == [-1, 2, -1] * 5
    assert result.batch_means == [0.0] * 5
    assert result.summary()["deviation_of_means"] == 0.0
    assert result.dropped == 0


def test_negative_lives_are_played_on_past_and_counted():
    result = evaluate(toy_agent(SeesawConfig()), SeesawConfig(), episodes=3, score="life", drop_negative=True)
    assert result.scores == [2] * 15
    assert result.dropped == 15


def test_an_agent_with_few_lives_that_count_is_not_waited_for():
    config = SeesawConfig()
    with config.build(1) as env, pytest.raises(UserError, match="drop_negative: 3 scores were below 0"):
        play(toy_agent(config), env, np.full(1, 9), "greedy", "life", 0, counts=NotNegative(patience=2))


def test_a_score_that_wraps_round_is_warned_of(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(LadderConfig, "lowest_reward", 1.5)  # its rewards are 1
    result = evaluate(toy_agent(LadderConfig()), LadderConfig(), episodes=2)
    assert result.summary()["wraps"] == result.wraps >= 3
    print_evaluation(result, Terminal(width=200))
    assert f"the game's score wrapped round, {result.wraps} times" in capsys.readouterr().out
    assert atari.Config("breakout").lowest_reward == -50_000
