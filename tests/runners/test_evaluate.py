"""Scores: every game that was started is finished, none is counted twice, and the state is carried as in training."""

import json

import numpy as np
import pytest
import torch

from rfwp.envs.world import GameTracker, World, WorldConfig, WorldSpec
from rfwp.envs.worlds import atari, counting
from rfwp.models.actor_critic import ActorCritic
from rfwp.models.cores import lstm
from rfwp.models.encoders import flat, shallow
from rfwp.runners.cli import main
from rfwp.runners.evaluate import evaluate, play


def toy_agent(world) -> ActorCritic:
    torch.manual_seed(0)
    spec = world.spec()
    return ActorCritic(flat.Config(8).build(spec.frame_shape), lstm.Config(hidden_size=8), len(spec.action_names))


class Ladder(World):
    """Environment e plays games of e + 1 steps, each of which scores e + 1: short games are low games."""

    spec = WorldSpec((1, 1, 3), ("A", "B"), 1)

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.tracker = GameTracker(num_envs)
        self.age = np.zeros(num_envs, np.int64)

    def reset(self, seed):
        return self.tracker.open(np.zeros((self.num_envs, 1, 1, 3), np.uint8))

    def step(self, action):
        self.age += 1
        over = self.age == np.arange(1, self.num_envs + 1)
        self.age[over] = 0
        frame = np.zeros((self.num_envs, 1, 1, 3), np.uint8)
        return self.tracker.advance(frame, np.ones(self.num_envs, np.float32), over, over)

    def close(self):
        pass


class LadderConfig(WorldConfig):
    title = "ladder"

    def spec(self):
        return Ladder.spec

    def build(self, num_envs, num_threads=1):
        return Ladder(num_envs)


def test_short_games_are_not_counted_more_often():
    result = evaluate(toy_agent(LadderConfig()), LadderConfig(), episodes=10)
    assert result.scores == list(range(1, 11))
    assert [game.length for game in result.games] == list(range(1, 11))


def test_more_episodes_than_environments_are_shared_out_beforehand():
    result = evaluate(toy_agent(LadderConfig()), LadderConfig(), episodes=70)
    assert len(result.games) == 70
    assert [result.scores.count(score) for score in range(1, 33)] == [3] * 6 + [2] * 26


def test_the_same_seed_plays_the_same_games():
    world = counting.Config()
    agent = toy_agent(world)
    one, again, other = (evaluate(agent, world, 12, seed=seed) for seed in (1, 1, 2))
    assert one.games == again.games
    assert one.games != other.games


def test_state_is_carried_and_reset_as_in_training():
    world = counting.Config()
    agent = toy_agent(world).eval()
    seen = []
    agent.register_forward_hook(lambda module, inputs, output: seen.append((inputs, output[0].logits)))
    with world.build(3) as running:
        play(agent, running, np.full(3, 4), "greedy", "game", seed=0)
    frame, reward, reset = (torch.cat([inputs[field] for inputs, _ in seen]) for field in range(3))
    with torch.no_grad():
        whole, _ = agent(frame, reward, reset, agent.initial_state(3))
    torch.testing.assert_close(whole.logits, torch.cat([logits for _, logits in seen[: len(frame)]]))


def test_lives_and_games_are_told_apart():
    config = atari.Config("breakout")
    torch.manual_seed(0)
    agent = ActorCritic(shallow.Config().build((4, 84, 84)), lstm.Config(hidden_size=8), 4)
    lives, games = (evaluate(agent, config, count, score=score) for score, count in (("life", 10), ("game", 2)))
    # Two environments play five lives each: those of one game of Breakout, which begins with five.
    assert [sum(lives.scores[:5]), sum(lives.scores[5:])] == games.scores
    assert sum(life.length for life in lives.games[:5]) == games.games[0].length


def test_the_summary_is_worked_out_from_the_returns():
    facts = evaluate(toy_agent(LadderConfig()), LadderConfig(), episodes=4).summary()
    assert (facts["mean"], facts["median"], facts["min"], facts["max"]) == (2.5, 2.5, 1.0, 4.0)
    assert facts["standard_deviation"] == pytest.approx(1.1180340)
    assert facts["human_normalised"] is None


def test_evaluate_prints_and_writes_what_it_found(tmp_path, capsys):
    run = str(tmp_path / "run")
    train = "train --env delayed_cue --total_steps 200 --final_games 3 --encoder.size 8".split()
    assert main([*train, "--learner.batch_size", "4", "--actors.games", "8", "--run", run]) == 0
    assert main(["evaluate", run, "--episodes", "6", "--policy", "greedy", "--json", str(tmp_path / "out.json")]) == 0
    shown = capsys.readouterr().out
    facts = json.loads((tmp_path / "out.json").read_text())
    assert (facts["episodes"], facts["policy"], len(facts["returns"])) == (6, "greedy", 6)
    assert facts["agent_steps"] >= 200
    assert f"{facts['mean']:,.2f}" in shown
    assert list((tmp_path / "run" / "eval").glob("*-final.json"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--episodes 0", "episodes: got 0; allowed: a whole number of at least 1"),
        ("--policy best", "policy: got best; allowed: sampled, greedy"),
        ("--checkpoint 77", "checkpoint: got '77'; allowed: best, last, "),
        ("--score points", "score: got points; allowed: game, life"),
        ("--device gpu9", "device: got 'gpu9'; allowed: "),
    ],
)
def test_wrong_words_get_one_line(tmp_path_factory, capsys, words, message):
    run = tmp_path_factory.getbasetemp() / "a-run"
    if not run.exists():
        train = "train --env delayed_cue --total_steps 100 --final_games 0 --encoder.size 8".split()
        assert main([*train, "--learner.batch_size", "4", "--actors.games", "8", "--run", str(run)]) == 0
    assert main(["evaluate", str(run), *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
