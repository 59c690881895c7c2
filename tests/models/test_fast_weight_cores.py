"""Fast weight cores against their equations, written out for one head of one episode at a time."""

import importlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rfwp.models.fast_weight_stack import Block, FastWeightStack
from rfwp.models.fast_weights import FastMemory

HEADS, SIZE, LENGTH, BATCH = 2, 3, 7, 3
SETTINGS = {"hidden_size": HEADS * SIZE, "num_layers": 2, "num_heads": HEADS, "head_size": SIZE, "feedforward_size": 5}
Fast = tuple[Tensor, ...]


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64)


def cut(vector: Tensor, *sizes: int) -> list[Tensor]:
    """Consecutive parts of a vector; a part of size 1 comes as a scalar."""
    assert sum(sizes) == vector.numel()
    return [part.squeeze() if part.numel() == 1 else part for part in torch.split(vector, sizes)]


def features(z: Tensor) -> Tensor:
    positive = torch.where(z > 0, z + 1, z.exp())
    return positive / (positive.sum() + 1e-5)


def softmax(z: Tensor) -> Tensor:
    return z.exp() / z.exp().sum()


def write(fast: Tensor, key: Tensor, value: Tensor, rate: Tensor) -> Tensor:
    """The delta rule: W + σ(β) (v − W k) ⊗ k."""
    return fast + torch.sigmoid(rate) * torch.outer(value - fast @ key, key)


# One episode of one head: memory, number of the head, slow projections -> reads, fast weights after the last step.
Oracle = Callable[[FastMemory, int, list[Tensor]], tuple[list[Tensor], Fast]]


def delta_net(memory: FastMemory, head: int, slow: list[Tensor]) -> tuple[list[Tensor], Fast]:
    fast, reads = zeros(SIZE, SIZE), []
    for slow_t in slow:
        q, k, v, beta = cut(slow_t, SIZE, SIZE, SIZE, 1)
        fast = write(fast, features(k), v, beta)
        reads.append(fast @ features(q))
    return reads, (fast,)


def rdn(memory: FastMemory, head: int, slow: list[Tensor]) -> tuple[list[Tensor], Fast]:
    r_q, r_k, r_v, r_beta = torch.split(memory.recurrent[head].T, [SIZE, SIZE, SIZE, 1])
    fast, y, reads = zeros(SIZE, SIZE), zeros(SIZE), []
    for slow_t in slow:
        q, k, v, beta = cut(slow_t, SIZE, SIZE, SIZE, 1)
        s = torch.tanh(y)
        fast = write(fast, softmax(k + r_k @ s), v + r_v @ s, beta + r_beta[0] @ s)
        y = fast @ softmax(q + r_q @ s)
        reads.append(y)
    return reads, (fast, y)


ORACLES: dict[str, Oracle] = {"delta_net": delta_net, "rdn": rdn}


def layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * norm.weight + norm.bias


def block(oracle: Oracle, layer: Block, stream: list[Tensor]) -> tuple[list[Tensor], list[Fast]]:
    """One block over one episode, head by head and step by step."""
    reads, after = [], []
    for head in range(HEADS):
        rows = layer.memory.slow.weight.view(HEADS, -1, HEADS * SIZE)[head]
        read, fast = oracle(layer.memory, head, [rows @ layer_norm(layer.memory_norm, x) for x in stream])
        reads.append(read)
        after.append(fast)
    norm, inner, _, _, outer, _ = layer.feedforward
    result = []
    for t, x in enumerate(stream):
        x = x + layer.output[0].weight @ torch.cat([read[t] for read in reads])
        hidden = torch.relu(inner.weight @ layer_norm(norm, x) + inner.bias)
        result.append(x + outer.weight @ hidden + outer.bias)
    return result, after


def network(oracle: Oracle, core: FastWeightStack, xs: Tensor, starts: list[int]) -> tuple[Tensor, list[Tensor]]:
    """One sequence xs [T, D] that has episodes from each of `starts` on -> outputs, flat state after the last step."""
    outputs, state = [], []
    for start, end in zip(starts, [*starts[1:], len(xs)], strict=True):
        stream, state = [core.input.weight @ x + core.input.bias for x in xs[start:end]], []
        for layer in core.blocks:
            stream, after = block(oracle, layer, stream)
            state += [torch.stack(leaves) for leaves in zip(*after, strict=True)]
        outputs += stream
    return torch.stack(outputs), state


@pytest.mark.parametrize("name", ORACLES)
def test_a_core_is_its_equations(name: str) -> None:
    torch.manual_seed(0)
    config = importlib.import_module(f"rfwp.models.cores.{name}").Config(**SETTINGS)
    core = config.build(input_size=4).double()
    x = torch.randn(LENGTH, BATCH, 4, dtype=torch.float64, requires_grad=True)
    starts = [[0], [0, 3], [0, 1, 6]]
    reset = torch.tensor([[t in each for each in starts] for t in range(LENGTH)])
    outputs, state = core(x, core.initial_state(BATCH), reset)
    expected = [network(ORACLES[name], core, x[:, b], starts[b]) for b in range(BATCH)]
    expected_outputs = torch.stack([each for each, _ in expected], 1)
    expected_state = tuple(torch.stack(leaves) for leaves in zip(*(leaves for _, leaves in expected), strict=True))
    torch.testing.assert_close((outputs, state), (expected_outputs, expected_state), rtol=1e-10, atol=1e-10)

    weights = [x, *core.parameters()]
    direction = torch.randn_like(outputs)
    gradient = torch.autograd.grad((outputs * direction).sum(), weights)
    expected_gradient = torch.autograd.grad((expected_outputs * direction).sum(), weights)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-10)
