"""The view of a memory shows the state that acted, how much it changed and the rates that it was written with."""

import importlib

import numpy as np
import pytest
import torch

from rfwp.models.core import cleared
from rfwp.models.fast_weights import FastMemory, FastWeightConfig, delta_rule
from rfwp.models.memory_view import Matrices, MemoryView, Vector
from rfwp.runners.settings import components

CORES = components.names("core")
SMALL = {"hidden_size": 8, "num_heads": 2, "feedforward_size": 8}
WITH_RATES = ["delta_net", "gated_delta_net", "rdn", "delta_rnn", "delta_lstm", "delta_mlp", "delta_delta_net", "srwm"]


def build(name, seed=0):
    torch.manual_seed(seed)
    config_class = components.config_class("core", name)
    return config_class(**SMALL if issubclass(config_class, FastWeightConfig) else {}).build(6).eval()


def advance(core, view, steps, reset_at=()):
    """Steps one sequence; gives the state before and after each step, by the core's definition, and the view."""
    state = core.initial_state(1)
    for t in range(steps):
        first, x = torch.tensor([[t in reset_at]]), torch.randn(1, 1, 6)
        before = cleared(state, first[0])
        with torch.no_grad():
            after = core.step(x[0], before)[1]
            _, state = core(x, state, first)
        yield before, after, view.read()


@pytest.mark.parametrize("name", CORES)
def test_the_view_is_the_state_after_the_step_and_what_the_step_changed(name):
    core = build(name)
    with MemoryView(core) as view:
        for before, after, memory in advance(core, view, 6, reset_at=(0, 3)):
            assert len(memory) == len(after)
            for entry, old, new in zip(memory, before, after, strict=True):
                held = entry.weights if isinstance(entry, Matrices) else entry.values
                np.testing.assert_allclose(held.ravel(), new.ravel().numpy(), rtol=1e-4, atol=1e-6)
                change = (new - old).pow(2).sum().sqrt().item()  # of all heads together
                assert np.linalg.norm(entry.change) == pytest.approx(change, rel=1e-3, abs=1e-6)


def test_leaves_have_names_of_their_own():
    for name in CORES:
        core = build(name)
        assert len(set(core.state_names)) == len(core.state_names) == len(core.state_shapes), name


@pytest.mark.parametrize("name", CORES)
def test_looking_changes_nothing_and_leaves_nothing_behind(name):
    core, x, first = build(name), torch.randn(5, 1, 6), torch.zeros(5, 1, dtype=torch.bool)
    alone, _ = core(x, core.initial_state(1), first)
    with MemoryView(core):
        seen, _ = core(x, core.initial_state(1), first)
    assert torch.equal(seen, alone)
    assert not any(module._forward_hooks for module in core.modules())


@pytest.mark.parametrize("name", sorted({*WITH_RATES} - {"srwm"}))
def test_rates_are_those_that_the_step_hands_to_the_delta_rule(name, monkeypatch):
    used = []

    def spy(fast, query_key, value, rate):
        used.append(rate)
        return delta_rule(fast, query_key, value, rate)

    core = build(name)
    monkeypatch.setattr(importlib.import_module(f"rfwp.models.cores.{name}"), "delta_rule", spy)
    with MemoryView(core) as view, torch.no_grad():
        state = core.initial_state(1)
        for t in range(4):
            used.clear()
            _, state = core(torch.randn(1, 1, 6), state, torch.tensor([[t == 2]]))
            written = list(used)  # before `read` writes again, to find what an inner matrix is written with
            rates = [entry.rate for entry in view.read() if isinstance(entry, Matrices)]
            assert len(rates) == len(written)
            for rate, expected in zip(rates, written, strict=True):
                np.testing.assert_allclose(rate.ravel(), expected.ravel().numpy(), rtol=1e-5)
                assert ((rate > 0) & (rate < 1)).all()


def test_rates_reproduce_the_writes_of_the_delta_net():
    core = build("delta_net")
    read = []
    (first, *_) = (module for module in core.modules() if isinstance(module, FastMemory))
    first.register_forward_pre_hook(lambda memory, inputs: read.append(inputs[0]))
    with MemoryView(core) as view:
        for before, after, memory in advance(core, view, 5):
            slow = (first.slow.weight @ read[-1][0, 0]).view(2, 3 * 4 + 1)  # q, k, v, β of each head
            for head in range(2):
                key = torch.nn.functional.elu(slow[head, 4:8]) + 1
                key = key / (key.sum() + 1e-5)
                old = before[0][0, head]
                written = float(memory[0].rate[head, 0]) * torch.outer(slow[head, 8:12] - old @ key, key)
                torch.testing.assert_close(after[0][0, head] - old, written, rtol=1e-4, atol=1e-6)
                assert memory[0].change[head] == pytest.approx(float(written.detach().norm()), rel=1e-3, abs=1e-6)


def test_rates_reproduce_the_writes_of_the_self_referential_matrix():
    core = build("srwm")
    read = []
    (first, *_) = (module for module in core.modules() if isinstance(module, FastMemory))
    first.register_forward_pre_hook(lambda memory, inputs: read.append(inputs[0]))
    with MemoryView(core) as view:
        for before, after, memory in advance(core, view, 5):
            for head in range(2):
                fast = first.initial[head] + before[0][0, head]
                answer = fast @ read[-1][0, 0].view(2, 4)[head].softmax(-1)
                query, key = answer[4:8].softmax(-1), answer[8:12].softmax(-1)
                rates = torch.tensor(memory[0].rate[head]).repeat_interleave(4)  # of the rows of y, q, k and β
                written = torch.outer(rates * (fast @ query - fast @ key), key)
                torch.testing.assert_close(after[0][0, head] - before[0][0, head], written, rtol=1e-4, atol=1e-6)


def test_gates_count_as_matrices_of_their_own():
    core = build("delta_lstm")
    with MemoryView(core) as view:
        ((_, _, memory),) = advance(core, view, 1)
    assert memory[0].weights.shape == (2 * 3, 4, 4)
    assert memory[0].rate.shape == (2 * 3, 1)
    assert isinstance(memory[2], Vector)
