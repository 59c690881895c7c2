"""What a trajectory says must be what happened: acting is checked against the learner's own pass over the unroll."""

import contextlib
import multiprocessing
import os
import signal
import struct

import endless
import numpy as np
import psutil
import pytest
import torch
from pools import play

from rfwp.agents import policy
from rfwp.agents.actor_pool import Actor, ActorFailure, ActorPool, ActorsConfig, Cancelled, _limit_waiting
from rfwp.agents.collector import Collector
from rfwp.agents.config import ActorLearnerConfig
from rfwp.agents.policy import GraphedPolicy
from rfwp.agents.weights import WeightBoard
from rfwp.envs.worlds import atari, counting, delayed_cue
from rfwp.models.actor_critic import ActorCritic
from rfwp.models.cores import rdn
from rfwp.models.encoders import flat

ENV = delayed_cue.Config()
CORE = rdn.Config(hidden_size=8, num_layers=1, num_heads=2, feedforward_size=8)


def make_agent(env=ENV, seed=0) -> ActorCritic:
    torch.manual_seed(seed)
    return ActorLearnerConfig(env=env, encoder=flat.Config(8), core=CORE, last_action=True).build_agent("cpu")


def make_collector(pool: ActorPool, agent: ActorCritic, length=5) -> Collector:
    weights = WeightBoard()
    weights.publish(agent, 0)
    return Collector(make_agent(pool.env, seed=1), pool, length, weights, torch.Generator().manual_seed(0))


@pytest.fixture
def pool():
    with ActorPool(ActorsConfig(envs=8, processes=4, groups=2), ENV, 4, seed=(0,)) as pool:
        yield pool


def test_the_learner_sees_the_policy_that_acted_and_the_state_it_acted_from(pool):
    agent = make_agent().eval()
    collector = make_collector(pool, agent)
    for _ in range(8):
        trajectory = collector.collect().trajectory
        with torch.no_grad():
            output, _ = agent(trajectory.inputs, trajectory.state)
        torch.testing.assert_close(output.logits[:-1], trajectory.behaviour)


def test_unrolls_of_a_group_follow_each_other_without_a_gap(pool):
    collector = make_collector(pool, make_agent())
    trajectories = [collector.collect().trajectory for _ in range(8)]
    for before, after in zip(trajectories[0::2], trajectories[2::2], strict=False):
        for end, start in zip(before.inputs.tensors, after.inputs.tensors, strict=True):
            assert torch.equal(end[-1], start[0])


def test_the_last_action_is_the_one_before(pool):
    collector = make_collector(pool, make_agent())
    for _ in range(6):
        trajectory = collector.collect().trajectory
        assert torch.equal(trajectory.last_action[1:], trajectory.action)


def test_a_truncated_episode_has_its_last_observation_and_the_next_one_opens_after_it():
    with ActorPool(ActorsConfig(envs=4, processes=2), endless.Config(), 2, seed=(0,)) as pool:
        collector = make_collector(pool, make_agent(endless.Config()))
        collected = [collector.collect() for _ in range(24)]
    for group in (0, 1):
        trajectories = [each.trajectory for each in collected[group::2]]
        truncated = torch.cat([each.truncated for each in trajectories])
        first = torch.cat([each.first[1:] for each in trajectories])
        reward = torch.cat([each.reward[1:] for each in trajectories])
        assert torch.equal(first, truncated)  # the step after a truncation opens an episode, and no other step does
        assert torch.equal(reward, 1 - truncated.float())
        assert truncated.any(0).all()
    lengths = [episode.length for each in collected for episode in each.episodes]
    assert lengths[-1] == endless.LIMIT
    assert all(episode.score == episode.length for each in collected for episode in each.episodes)


def test_rewards_resets_and_scores_are_those_of_the_task(pool):
    collector = make_collector(pool, make_agent())
    collected = [collector.collect() for _ in range(16)]
    trajectories = [each.trajectory for each in collected]
    assert trajectories[0].first[0].all()  # the run begins with fresh episodes
    steps = ENV.delay + 2  # cue, blanks, question
    for group in (0, 1):
        first = torch.cat([each.first[:-1] for each in trajectories[group::2]])
        observation = torch.cat([each.observation[0][:-1] for each in trajectories[group::2]])
        reward = torch.cat([each.reward[1:] for each in trajectories[group::2]])
        action = torch.cat([each.action[..., 0] for each in trajectories[group::2]])
        for t in range(steps - 1, len(first), steps):
            assert first[t - steps + 1].all()
            cue = observation[t - steps + 1].flatten(1).float().argmax(1)
            assert torch.equal(reward[t], (action[t] == cue).float())
    episodes = [episode for each in collected for episode in each.episodes]
    assert len(episodes) == 8 * (5 * 8 // steps)  # in each game, each once
    assert all(episode.length == steps and episode.score in (0.0, 1.0) for episode in episodes)


def test_published_weights_act_from_the_next_step_on_and_their_version_travels_with_the_steps(pool):
    collector = make_collector(pool, make_agent())
    assert collector.collect().trajectory.version.unique().tolist() == [0]
    published = make_agent(seed=2).eval()
    collector._weights.publish(published, 7)
    collector.collect(), collector.collect()
    trajectory = collector.collect().trajectory
    assert trajectory.version.unique().tolist() == [7]
    with torch.no_grad():
        output, _ = published(trajectory.inputs, trajectory.state)
    torch.testing.assert_close(output.logits[:-1], trajectory.behaviour)


def test_collecting_is_repeatable():
    actions = []
    for _ in range(2):
        with ActorPool(ActorsConfig(envs=4, processes=2), counting.Config(), 2, seed=(5,)) as pool:
            collector = make_collector(pool, make_agent(counting.Config()))
            actions.append(torch.stack([collector.collect().trajectory.action for _ in range(6)]))
    assert torch.equal(*actions)


def test_acting_on_fixed_memory_as_a_graph_does_changes_nothing(monkeypatch):
    def replayed(step, device, generator):
        for _ in range(3):  # the warm-up
            step()
        return step

    monkeypatch.setattr(policy, "graphed", replayed)
    collected = []
    for fixed in (False, True):
        with ActorPool(ActorsConfig(envs=8, processes=4), ENV, 4, seed=(5,)) as pool:
            collector = make_collector(pool, make_agent())
            if fixed:
                generator, spec = torch.Generator().manual_seed(0), pool.spec
                collector._policies = [GraphedPolicy(collector.agent, 4, generator, spec) for _ in pool.groups]
            unrolls = [collector.collect().trajectory for _ in range(3)]
            collector._weights.publish(make_agent(seed=2), 1)
            collected.append([*unrolls, *(collector.collect().trajectory for _ in range(6))])
    for eager, fixed in zip(*collected, strict=True):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(eager.tensors, fixed.tensors, strict=True))


def test_a_dead_actor_is_replaced_and_its_unroll_dropped(pool):
    collector = make_collector(pool, make_agent())
    collector.collect(), collector.collect()
    os.kill(pool.groups[0][1].pid, signal.SIGKILL)
    agent = make_agent().eval()
    of_its_group = []
    for _ in range(6):
        trajectory = collector.collect().trajectory
        with torch.no_grad():
            output, _ = agent(trajectory.inputs, trajectory.state)
        torch.testing.assert_close(output.logits[:-1], trajectory.behaviour)
        if (collector._turn - 1) % 2 == 0:
            of_its_group.append(trajectory)
    assert pool.restarts == 1
    # The unroll opens with the new actor's episodes; that of the dead actor is not cut short within it.
    assert of_its_group[0].first[0].tolist() == [False, False, True, True]
    assert not of_its_group[0].first[1:, 2:].any()


def test_a_stuck_actor_is_replaced_after_the_timeout():
    config = ActorsConfig(envs=2, processes=2, timeout=3.0)
    with ActorPool(config, ENV, 2, seed=(0,)) as pool:
        collector = make_collector(pool, make_agent())
        collector.collect()
        os.kill(pool.groups[1][0].pid, signal.SIGSTOP)
        for _ in range(4):
            collector.collect()
        assert pool.restarts >= 1  # a busy machine may be slow enough for another


@pytest.mark.parametrize("spare_is_alive", [True, False])
def test_a_spare_replaces_an_actor_if_it_is_alive(monkeypatch, spare_is_alive):
    monkeypatch.setattr(ActorPool, "SPARE_AFTER", 3)
    with ActorPool(ActorsConfig(envs=8, processes=4, spare=True), ENV, 4, seed=(0,)) as pool:
        play(pool, 2)
        assert pool._spare is None
        play(pool, 1)
        dead, spare = pool.groups[1][1].pid, pool._spare.pid
        if not spare_is_alive:
            os.kill(spare, signal.SIGKILL)
        pool.wait(1)  # idle, it cannot answer once more
        os.kill(dead, signal.SIGKILL)
        pool.act(1, np.zeros((4, 1), np.int64))
        assert len(pool.wait(1)) == 1
        assert pool.restarts == (1 if spare_is_alive else 2)
        assert (pool.groups[1][1].pid == spare) == spare_is_alive
        assert pool.slabs[1].first[2:].all()  # its environments have just started, in the place of the dead one's
        assert not pool.slabs[1].first[:2].any()
        pids = [actor.pid for group in pool.groups for actor in group]
        pool.act(1, np.zeros((4, 1), np.int64))
        play(pool, 3)
        assert pool._spare.pid not in (*pids, dead, spare)
        pids.append(pool._spare.pid)
    assert not any(map(psutil.pid_exists, pids))


def test_by_default_a_spare_is_kept_where_environments_start_slowly():
    assert ActorsConfig().keeps_spare(atari.Config())
    assert not ActorsConfig().keeps_spare(ENV)
    assert not ActorsConfig(spare=False).keeps_spare(atari.Config())


def test_waiting_can_be_cut_short():
    with ActorPool(ActorsConfig(envs=2, processes=2), ENV, 2, seed=(0,)) as pool:
        pool.wait(0)  # nothing was asked for since, so another wait would last until the time-out
        pool.cancel()
        with pytest.raises(Cancelled):
            pool.wait(0)


def test_a_hanging_actor_that_was_replaced_is_gone_and_the_new_one_plays_other_episodes(monkeypatch):
    seeds, start = [], Actor.__init__

    def note_seed(self, *arguments):
        seeds.append(arguments[-2])
        start(self, *arguments)

    monkeypatch.setattr(Actor, "__init__", note_seed)
    config = ActorsConfig(envs=2, processes=2, timeout=0.2)
    with ActorPool(config, delayed_cue.Config(), 2, seed=(0,)) as pool:
        pool.wait(0)
        pid = pool.groups[0][0].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            pool.act(0, np.zeros((1, 1), np.int64))
            (failure,) = pool.wait(0)
            assert "did not answer within 0.2 s" in str(failure)
            assert not psutil.pid_exists(pid)
            assert len(set(seeds)) == len(seeds) == 3
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # else the pool would wait for it at the end


def test_half_a_message_of_an_actor_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(Actor, "MESSAGE_SECONDS", 0.1)
    config = ActorsConfig(envs=2, processes=2)
    with ActorPool(config, delayed_cue.Config(), 2, seed=(0,)) as pool:
        actor = pool.groups[0][0]
        pool.wait(0)
        ours, theirs = multiprocessing.Pipe()
        _limit_waiting(ours, Actor.MESSAGE_SECONDS)
        os.write(theirs.fileno(), struct.pack("!i", 100) + b"ready")  # 100 bytes are announced
        monkeypatch.setattr(actor, "connection", ours)
        with pytest.raises(ActorFailure, match="stopped in the middle of a message"):
            actor.receive()


def test_a_crash_loop_ends_with_the_traceback():
    broken = delayed_cue.Config()
    object.__setattr__(broken, "delay", -5)  # past its own check: fails in the actor process, not here
    config = ActorsConfig(envs=2, processes=2, timeout=30.0)
    with ActorPool(config, broken, 2, seed=(0,)) as pool, pytest.raises(ActorFailure, match="Traceback"):
        pool.wait(0)


@pytest.mark.parametrize(("cores", "processes"), [(1, 2), (2, 2), (3, 2), (4, 4), (7, 6), (16, 16), (64, 48)])
def test_processes_share_out_the_games_evenly(cores, processes):
    assert ActorsConfig(envs=48).num_processes(cores) == processes
