"""The learner: what an update does to the weights, where it is on its schedule, and that its state is all there is."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from unrolls import GAMES, LENGTH, SCREENS, agent_of, make_agent, random_batch

from rfwp.agents.learner import Learner, LearnerConfig, Stuck, flat_gradient
from rfwp.agents.objectives import vtrace
from rfwp.agents.trajectory import Trajectory
from rfwp.models.core import CoreConfig
from rfwp.models.cores import lstm, rdn, srwm
from rfwp.models.encoders import impala, nature, shallow

CONFIG = LearnerConfig(unroll_length=LENGTH, batch_size=GAMES)
OBJECTIVE = vtrace.Config()


def weights(agent):
    return torch.cat([parameter.detach().flatten() for parameter in agent.parameters()])


def test_the_learning_rate_falls_linearly_to_zero_over_total_steps():
    agent = make_agent()
    learner = Learner(agent, OBJECTIVE, CONFIG, total_steps=3 * LENGTH * GAMES)
    rates = []
    for seed in range(4):
        rates.append(learner.learning_rate)
        learner.learn(random_batch(agent, seed))
    assert rates == pytest.approx([6e-4, 4e-4, 2e-4, 0.0])
    assert learner.steps == 4 * LENGTH * GAMES
    assert learner.version == 4


def test_an_update_is_rmsprop_on_the_clipped_gradient():
    agent, batch = make_agent(), random_batch(make_agent())
    config = LearnerConfig(unroll_length=LENGTH, batch_size=GAMES, gradient_clip=1e-2)
    loss, _, _ = OBJECTIVE.loss(agent, batch, version=0)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(agent.parameters()))])
    assert gradient.norm() > config.gradient_clip
    gradient *= config.gradient_clip / gradient.norm()
    expected = weights(agent) - 6e-4 * gradient / ((0.01 * gradient**2).sqrt() + 0.01)
    metrics = Learner(agent, OBJECTIVE, config, total_steps=10**6).learn(batch)
    torch.testing.assert_close(weights(agent), expected)
    assert metrics["gradient_norm"] > config.gradient_clip  # it is told before the clip


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("linear", [0.5, 0.75, 0.5, 0.25, 0]),
        ("cosine", [0.5, 0.85355, 0.5, 0.14645, 0]),
        ("constant", [0.5, 1, 1, 1, 1]),
    ],
)
def test_the_learning_rate_rises_over_the_warmup_and_follows_its_schedule(schedule, rates):
    config = replace(CONFIG, schedule=schedule, warmup=2, learning_rate=1.0)
    assert [config.rate(update, update / 4) for update in range(5)] == pytest.approx(rates, abs=1e-5)


def test_adam_is_adam():
    config = replace(CONFIG, optimiser="adam", gradient_clip=None, adam_beta2=0.995, adam_epsilon=1e-9)
    ours, theirs = make_agent(), make_agent()
    learner = Learner(ours, OBJECTIVE, config, total_steps=3 * LENGTH * GAMES)
    adam = torch.optim.Adam(theirs.parameters(), lr=6e-4, betas=(0.9, 0.995), eps=1e-9)
    for seed, falling in enumerate((1, 2 / 3, 1 / 3)):
        learner.learn(random_batch(ours, seed))
        adam.zero_grad()
        OBJECTIVE.loss(theirs, random_batch(theirs, seed), version=0).value.backward()
        adam.param_groups[0]["lr"] = falling * 6e-4
        adam.step()
    torch.testing.assert_close(weights(ours), weights(theirs))


def test_another_optimiser_cannot_take_up_a_run():
    state = Learner(make_agent(), OBJECTIVE, CONFIG, total_steps=10).state_dict()
    other = Learner(make_agent(), OBJECTIVE, replace(CONFIG, optimiser="adam"), total_steps=10)
    with pytest.raises(ValueError, match=r"^learner\.optimiser: got 'adam'; allowed: rmsprop, as before"):
        other.load_state_dict(state)


def spoilt(batch: Trajectory) -> Trajectory:
    return batch._replace(state=tuple(torch.full_like(leaf, float("nan")) for leaf in batch.state))


@pytest.mark.parametrize("form", ["_step_if", "_step_and_undo_unless"])
@pytest.mark.parametrize("healthy", [0, 2])
def test_after_a_gradient_that_is_not_finite_everything_is_as_if_it_had_not_been(monkeypatch, form, healthy):
    reference = make_agent()
    expected = Learner(reference, OBJECTIVE, CONFIG, total_steps=10**6)
    for seed in range(healthy):
        expected.learn(random_batch(reference, seed))

    agent = make_agent()
    learner = Learner(agent, OBJECTIVE, CONFIG, total_steps=10**6)
    monkeypatch.setattr(learner, "_step_if", getattr(learner, form))
    for seed in range(healthy):
        assert learner.learn(random_batch(agent, seed))["update_skipped"] == 0
    assert learner.learn(spoilt(random_batch(agent)))["update_skipped"] == 1
    expected.version, expected.steps = learner.version, learner.steps  # the schedule goes on

    for seed in range(2):
        assert torch.equal(weights(agent), weights(reference))
        learner.learn(random_batch(agent, seed)), expected.learn(random_batch(reference, seed))
    assert torch.equal(weights(agent), weights(reference))
    assert mean_squares(learner) == mean_squares(expected)


@pytest.mark.parametrize("form", ["_step_if", "_step_and_undo_unless"])
def test_a_gradient_that_is_not_finite_leaves_adam_and_the_weights_as_they_were(monkeypatch, form):
    agent = make_agent()
    learner = Learner(agent, OBJECTIVE, replace(CONFIG, optimiser="adam"), total_steps=10**6)
    monkeypatch.setattr(learner, "_step_if", getattr(learner, form))
    learner.learn(random_batch(agent))
    before, means = weights(agent), [state["exp_avg"].clone() for state in learner.optimiser.state.values()]
    assert learner.learn(spoilt(random_batch(agent)))["update_skipped"] == 1
    assert torch.equal(weights(agent), before)
    assert all(map(torch.equal, (state["exp_avg"] for state in learner.optimiser.state.values()), means))
    learner.learn(random_batch(agent))
    assert not torch.equal(weights(agent), before)


def mean_squares(learner: Learner) -> list[list[float]]:
    return [state["square_avg"].flatten().tolist() for state in learner.optimiser.state.values()]


def test_whether_a_gradient_is_finite_is_decided_without_a_look_at_it_where_that_costs_a_wait():
    agent = make_agent().to("meta")  # whose values cannot be looked at
    learner = Learner(agent, OBJECTIVE, CONFIG, total_steps=10**6)
    for _ in range(2):
        for parameter in agent.parameters():
            parameter.grad = torch.empty_like(parameter)
        learner._step_if(torch.empty((), dtype=torch.bool, device="meta"), flat_gradient(agent))


def test_ten_skipped_updates_in_a_row_end_learning_wherever_they_begin():
    agent = make_agent()
    learner = Learner(agent, OBJECTIVE, CONFIG, total_steps=10**6)
    for broken in [False] * 3 + [True] * 9 + [False] * 2 + [True] * 9:
        learner.learn(spoilt(random_batch(agent)) if broken else random_batch(agent))
    batch = spoilt(random_batch(agent))
    with pytest.raises(Stuck, match="10 updates in a row") as caught:
        learner.learn(batch)
    assert caught.value.batch is batch


def test_what_an_update_measures_is_what_is_documented():
    agent = make_agent()
    measured = Learner(agent, OBJECTIVE, CONFIG, total_steps=10**6).learn(random_batch(agent))
    assert measured.keys() == OBJECTIVE.METRICS.keys() | Learner.METRICS.keys()
    assert all(value.shape == () for value in measured.values())


def test_a_learner_taken_up_again_equals_one_that_never_stopped():
    unbroken, interrupted = make_agent(), make_agent()
    learner = Learner(unbroken, OBJECTIVE, CONFIG, total_steps=10**4)
    for seed in range(6):
        learner.learn(random_batch(unbroken, seed))

    before = Learner(interrupted, OBJECTIVE, CONFIG, total_steps=10**4)
    for seed in range(3):
        before.learn(random_batch(interrupted, seed))
    resumed = make_agent(seed=1)
    resumed.load_state_dict(interrupted.state_dict())
    after = Learner(resumed, OBJECTIVE, CONFIG, total_steps=10**4)
    after.load_state_dict(before.state_dict())
    for seed in range(3, 6):
        after.learn(random_batch(resumed, seed))
    assert torch.equal(weights(resumed), weights(unbroken))
    assert after.learning_rate == learner.learning_rate


def test_a_learner_taken_up_again_with_other_settings_uses_them():
    before = Learner(make_agent(), OBJECTIVE, CONFIG, total_steps=10**4)
    before.learn(random_batch(before.model))
    changed = replace(CONFIG, rmsprop_decay=0.5, rmsprop_epsilon=0.25)
    after = Learner(make_agent(), OBJECTIVE, changed, total_steps=10**4)
    after.load_state_dict(before.state_dict())
    (group,) = after.optimiser.param_groups
    assert (group["alpha"], group["eps"]) == (0.5, 0.25)


@pytest.mark.parametrize(
    "wrong",
    [{"unroll_length": 0}, {"batch_size": -1}, {"learning_rate": 0.0}, {"discount": 1.5}, {"entropy_cost": -1.0}],
)
def test_a_wrong_setting_is_named(wrong):
    ((field, value),) = wrong.items()
    owner = LearnerConfig if hasattr(LearnerConfig, field) else vtrace.Config
    with pytest.raises(ValueError, match=f"{field}: got {value}; allowed: "):
        owner(**wrong)


@pytest.fixture
def one_thread():
    """Several threads add up in another order, which can move the input of a ReLU across 0."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("module", [shallow, nature])
def test_the_memory_layout_of_frames_changes_no_update_beyond_rounding(module, monkeypatch, one_thread):
    learned = []
    for layout in (module.laid_out, lambda observation, training: observation):
        monkeypatch.setattr(module, "laid_out", layout)
        torch.manual_seed(0)
        agent = agent_of(module.Config(16), lstm.Config(hidden_size=8), SCREENS)
        before, learner = weights(agent), Learner(agent, OBJECTIVE, CONFIG, total_steps=1000)
        for seed in range(3):
            learner.learn(random_batch(agent, seed, fields=SCREENS))
        learned.append(weights(agent) - before)
    assert learned[0].abs().max() > 1e-4
    torch.testing.assert_close(*learned, rtol=1e-3, atol=1e-6)


def two_updates(core: CoreConfig, device: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the metrics of the second of two updates, and how far each weight moved.

    A rounding of the first weights by 3e-7 changes that by 0.2 %; each further update makes it more.
    """
    torch.manual_seed(1)
    agent = agent_of(impala.Config(), core, SCREENS)
    start = {name: weight.clone() for name, weight in agent.state_dict().items()}
    batches = [random_batch(agent, seed, length=20, fields=SCREENS) for seed in range(2)]
    learner = Learner(agent.to(device), OBJECTIVE, CONFIG, total_steps=10**9)

    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device)

    for batch in batches:
        inputs, state = batch.inputs.map(move), tuple(map(move, batch.state))
        metrics = learner.learn(Trajectory(*inputs, *map(move, batch[4:-1]), state))
    moved = {name: weight.cpu() - start[name] for name, weight in agent.state_dict().items()}
    return {name: value.cpu().double() for name, value in metrics.items()}, moved


@pytest.mark.gpu
@pytest.mark.parametrize("core", [rdn.Config(), lstm.Config(), srwm.Config()])
def test_updates_on_a_gpu_are_those_on_a_cpu(core, monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    (metrics, moved), (metrics_on_gpu, moved_on_gpu) = (two_updates(core, device) for device in ("cpu", "cuda"))
    for name, value in metrics.items():
        torch.testing.assert_close(metrics_on_gpu[name], value, rtol=1e-2, atol=1e-4, msg=name)
    for name, step in moved.items():
        assert (moved_on_gpu[name] - step).norm() < 1e-2 * step.norm(), name
