"""The actor-learner system as a library: a loop of one's own, without a run folder, a terminal or a command line."""

import copy
import multiprocessing
import threading

import endless
import mixed
import numpy as np
import poisoned
import pytest
import torch

from rfwp.agents.actor_learner import ActorLearner
from rfwp.agents.actor_pool import ActorsConfig
from rfwp.agents.config import ActorLearnerConfig
from rfwp.agents.learner import Learner, LearnerConfig
from rfwp.agents.objectives import vtrace
from rfwp.envs.worlds import delayed_cue
from rfwp.models.cores import feedforward, gru
from rfwp.models.encoders import flat, nature
from rfwp.runners.evaluation.rollout import inputs_of
from rfwp.runners.evaluation.scoring import evaluate
from rfwp.runners.machine.errors import UserError

CONFIG = ActorLearnerConfig(
    env=delayed_cue.Config(),
    encoder=flat.Config(8),
    core=gru.Config(hidden_size=8),
    learner=LearnerConfig(unroll_length=5, batch_size=4),
    actors=ActorsConfig(envs=8, processes=2),
    total_steps=200,
    device="cpu",
)
SYNC = ActorLearnerConfig(**{**vars(CONFIG), "sync": True})


@pytest.mark.parametrize("config", [CONFIG, SYNC], ids=["background", "sync"])
def test_updates_count_up_to_total_steps_and_bring_metrics_and_episodes(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ActorLearner(config) as system:
        updates = list(system)
    assert [update.version for update in updates] == list(range(1, 11))
    assert [update.agent_steps for update in updates] == list(range(20, 201, 20))
    assert all(update.metrics.keys() == config.objective.METRICS.keys() | Learner.METRICS.keys() for update in updates)
    episodes = [episode for update in updates for episode in update.episodes]
    assert len(episodes) >= 8 * (200 // 8 // (config.env.delay + 2) - 1)  # what the queue still holds is not counted
    assert {episode.length for episode in episodes} == {config.env.delay + 2}
    assert system.statistics.seconds > 0
    assert multiprocessing.active_children() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("config", [CONFIG, SYNC], ids=["background", "sync"])
def test_a_stop_from_another_thread_ends_the_iteration(config):
    half_unrolls = LearnerConfig(unroll_length=5, batch_size=2)  # two batches arrive together
    endless = ActorLearnerConfig(**{**vars(config), "total_steps": 10**9, "learner": half_unrolls})
    with ActorLearner(endless) as system:
        for update in system:
            if update.version == 3:
                other = threading.Thread(target=system.stop)
                other.start()
                other.join()
    assert system.stopped
    assert not system.done
    assert update.version == 3
    assert multiprocessing.active_children() == []


def test_a_stop_in_the_middle_of_an_unroll_cuts_the_wait_short(monkeypatch):
    with ActorLearner(SYNC) as system:
        wait = system._source._collector.pool.wait
        monkeypatch.setattr(system._source._collector.pool, "wait", lambda group: [system.stop(), wait(group)][1])
        assert list(system) == []


@pytest.mark.parametrize("sync", [False, True])
def test_a_reward_that_is_not_a_number_replaces_its_process_and_reaches_no_batch(tmp_path, sync):
    env = poisoned.Config(flag=str(tmp_path / "flag"))
    with ActorLearner(ActorLearnerConfig(**{**vars(CONFIG), "env": env, "sync": sync})) as system:
        updates = list(system)
    (failure,) = [failure for update in updates for failure in update.failures]
    expected = (
        "ValueError: environment 1 returned the reward nan; allowed: finite numbers; it was step 1 of this process"
    )
    assert str(failure).splitlines()[0] == expected
    assert system.done
    assert all(update.batch.reward.isfinite().all() for update in updates)
    with pytest.raises(UserError, match="env: environment 1 returned the reward nan"):
        evaluate(system.agent, poisoned.Config(flag=str(tmp_path / "other")), episodes=4)


def test_a_resumed_run_plays_other_episodes_than_it_began_with(monkeypatch):
    seeds = []

    def start(config, env, num_processes, seed, output):
        seeds.append(tuple(seed))
        raise KeyError

    monkeypatch.setattr("rfwp.agents.actor_learner.ActorPool", start)
    for version in (0, 0, 7):
        system = ActorLearner(CONFIG)
        system.learner.version = version  # as a loaded state sets it
        with pytest.raises(KeyError):
            system.__enter__()
    assert seeds[0] == seeds[1] != seeds[2]


def test_an_exception_in_the_loop_leaves_no_process_behind():
    def fail():
        with ActorLearner(CONFIG) as system:
            for _ in system:
                raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert multiprocessing.active_children() == []


def test_a_system_taken_up_from_its_state_equals_the_one_that_went_on():
    with ActorLearner(SYNC) as system:
        batches = [update.batch for update in system]
    systems = [ActorLearner(SYNC) for _ in range(2)]
    for batch in batches[:5]:
        systems[0].update(batch)
    systems[1].agent.load_state_dict(systems[0].agent.state_dict())
    systems[1].load_state_dict(copy.deepcopy(systems[0].state_dict()))
    for batch in batches[5:]:
        ours, theirs = (each.update(batch) for each in systems)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(map(torch.equal, *(each.agent.state_dict().values() for each in systems)))


def test_iterating_before_entering_is_refused_with_the_way_to_do_it():
    with pytest.raises(RuntimeError, match=r"with ActorLearner\(config\) as system"):
        next(iter(ActorLearner(CONFIG)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "tpu"}, "device: got 'tpu'; allowed: auto, cpu, cuda"),
        ({"encoder": nature.Config()}, r"image_shape: got \(1, 1, 5\)"),
        ({"seed": -1}, "seed: got -1; allowed: "),
        ({"reward_scale": 0.0}, "reward_scale: got 0.0; allowed: a number above 0"),
        ({"total_steps": 0}, "total_steps: got 0; allowed: "),
    ],
)
def test_what_does_not_fit_is_a_value_error_that_names_it(changes, message):
    with pytest.raises(ValueError, match=message):
        ActorLearner(ActorLearnerConfig(**{**vars(CONFIG), **changes}))


@pytest.mark.parametrize(
    ("terminates", "first", "last"), [(True, (1 - 0.9**endless.LIMIT) / 0.1, 1.0), (False, 10.0, 10.0)]
)
def test_values_go_on_beyond_a_truncation_and_end_at_a_termination(terminates, first, last):
    env = endless.Config(terminates)
    learner = LearnerConfig(unroll_length=10, batch_size=8, learning_rate=2e-2)
    agent = {"env": env, "encoder": flat.Config(32), "core": feedforward.Config(), "learner": learner}
    objective = {"objective": vtrace.Config(discount=0.9)}
    with ActorLearner(ActorLearnerConfig(**{**vars(SYNC), **agent, **objective, "total_steps": 16_000})) as system:
        for _ in system:
            pass
    with env.build(endless.LIMIT) as running, torch.no_grad():
        step = running.reset(0)  # one environment at each time
        action = np.zeros((endless.LIMIT, 1), np.int64)
        output, _ = system.agent(inputs_of(step._replace(reward=step.reward + 1), action, "cpu"), ())
    assert output.value[0, 0] == pytest.approx(first, rel=0.1)
    assert output.value[0, -1] == pytest.approx(last, rel=0.1)


def test_every_kind_of_field_and_every_choice_of_an_action_is_learned():
    learner = LearnerConfig(unroll_length=5, batch_size=16, learning_rate=1e-2)
    agent = {"env": mixed.Config(), "encoder": flat.Config(32), "core": feedforward.Config(), "learner": learner}
    with ActorLearner(ActorLearnerConfig(**{**vars(SYNC), **agent, "total_steps": 5_000})) as system:
        for _ in system:
            pass
    result = evaluate(system.agent, mixed.Config(), episodes=300, policy="greedy")
    assert np.mean(result.scores) > 0.95  # by chance 0.44
