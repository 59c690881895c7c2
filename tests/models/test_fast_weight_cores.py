"""Fast weight cores against their equations, written out for one head of one episode at a time."""

import importlib
import pkgutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import rfwp.models.cores
from rfwp.models.fast_weight_stack import Block, FastWeightStack
from rfwp.models.fast_weights import FastMemory, FastWeightConfig

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


def linear_transformer(memory: FastMemory, head: int, slow: list[Tensor]) -> tuple[list[Tensor], Fast]:
    fast, reads = zeros(SIZE, SIZE), []
    for slow_t in slow:
        q, k, v = cut(slow_t, SIZE, SIZE, SIZE)
        fast = fast + torch.outer(v, features(k))
        reads.append(fast @ features(q))
    return reads, (fast,)


def gated_delta_net(memory: FastMemory, head: int, slow: list[Tensor]) -> tuple[list[Tensor], Fast]:
    fast, reads = zeros(SIZE, SIZE), []
    for slow_t in slow:
        q, k, v, beta, alpha = cut(slow_t, SIZE, SIZE, SIZE, 1, 1)
        k, beta, alpha = features(k), torch.sigmoid(beta), torch.sigmoid(alpha + memory.decay_bias[head])
        forget = torch.eye(SIZE, dtype=torch.float64) - beta * torch.outer(k, k)
        fast = alpha * fast @ forget + beta * torch.outer(v, k)
        reads.append(fast @ features(q))
    return reads, (fast,)


def delta_rnn(memory: FastMemory, head: int, slow: list[Tensor]) -> tuple[list[Tensor], Fast]:
    fast, back, y, reads = zeros(SIZE, SIZE), zeros(SIZE, SIZE), zeros(SIZE), []
    for slow_t in slow:
        q, k, v, beta, back_k, back_v, back_beta = cut(slow_t, SIZE, SIZE, SIZE, 1, SIZE, SIZE, 1)
        fast = write(fast, softmax(k), v, beta)
        back = write(back, softmax(back_k), back_v, back_beta)
        y = fast @ softmax(q) + back @ softmax(y)
        reads.append(y)
    return reads, (fast, back, y)


def delta_lstm(memory: FastMemory, head: int, slow: list[Tensor]) -> tuple[list[Tensor], Fast]:
    fast, back = [zeros(SIZE, SIZE)] * 3, [zeros(SIZE, SIZE)] * 3
    h, c, reads = zeros(SIZE), zeros(SIZE), []
    for slow_t in slow:
        gates = []
        for gate, of_gate in enumerate(slow_t.chunk(3)):
            q, k, v, beta, back_k, back_v, back_beta = cut(of_gate, SIZE, SIZE, SIZE, 1, SIZE, SIZE, 1)
            fast = [write(each, features(k), v, beta) if g == gate else each for g, each in enumerate(fast)]
            back = [
                write(each, softmax(back_k), back_v, back_beta) if g == gate else each for g, each in enumerate(back)
            ]
            gates.append(fast[gate] @ features(q) + back[gate] @ softmax(h))
        i, u, o = gates
        c = torch.sigmoid(i) * u + (1 - torch.sigmoid(i)) * c
        h = torch.sigmoid(o) * c
        reads.append(h)
    return reads, (torch.stack(fast), torch.stack(back), h, c)


def delta_mlp(memory: FastMemory, head: int, slow: list[Tensor]) -> tuple[list[Tensor], Fast]:
    wide, blocks = 4 * SIZE, len(memory.norms)
    up, down, reads = [zeros(wide, SIZE)] * blocks, [zeros(SIZE, wide)] * blocks, []
    for slow_t in slow:
        q, of_blocks = slow_t[:SIZE], slow_t[SIZE:].chunk(blocks)
        for n, norm in enumerate(memory.norms):
            k_up, v_up, beta_up, k_down, v_down, beta_down = cut(of_blocks[n], SIZE, wide, 1, wide, SIZE, 1)
            up = [*up[:n], write(up[n], features(k_up), v_up, beta_up), *up[n + 1 :]]
            down = [*down[:n], write(down[n], features(k_down), v_down, beta_down), *down[n + 1 :]]
            a = up[n] @ features(layer_norm(norm, q))
            q = q + down[n] @ features(a)
        reads.append(q)
    return reads, tuple(fast for pair in zip(up, down, strict=True) for fast in pair)


def delta_delta_net(memory: FastMemory, head: int, slow: list[Tensor]) -> tuple[list[Tensor], Fast]:
    outer, inner, reads = zeros(3 * SIZE + 1, SIZE), zeros(SIZE, SIZE), []
    for slow_t in slow:
        q, k, v, beta = cut(slow_t, SIZE, SIZE, 3 * SIZE + 1, 1)
        outer = write(outer, features(k), v, beta)
        q, k, v, beta = cut(outer @ features(q), SIZE, SIZE, SIZE, 1)
        inner = write(inner, features(k), v, beta)
        reads.append(inner @ features(q))
    return reads, (outer, inner)


def srwm(memory: FastMemory, head: int, slow: list[Tensor]) -> tuple[list[Tensor], Fast]:
    fast, reads = memory.initial[head], []
    for x in slow:
        y, q, k, beta = cut(fast @ softmax(x), SIZE, SIZE, SIZE, 4)
        rates = torch.sigmoid(
            torch.cat([beta[0].repeat(SIZE), beta[1].repeat(SIZE), beta[2].repeat(SIZE), beta[3].repeat(4)])
        )
        fast = fast + torch.outer(rates * (fast @ softmax(q) - fast @ softmax(k)), softmax(k))
        reads.append(y)
    return reads, (fast - memory.initial[head],)


CASES: list[tuple[str, Oracle, dict[str, int]]] = [
    ("delta_net", delta_net, {}),
    ("rdn", rdn, {}),
    ("linear_transformer", linear_transformer, {}),
    ("gated_delta_net", gated_delta_net, {}),
    ("delta_rnn", delta_rnn, {}),
    ("delta_lstm", delta_lstm, {}),
    ("delta_mlp", delta_mlp, {"fast_blocks": 1}),
    ("delta_mlp", delta_mlp, {"fast_blocks": 2}),
    ("delta_delta_net", delta_delta_net, {}),
    ("srwm", srwm, {}),
]


def layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * norm.weight + norm.bias


def project(layer: Block, head: int, x: Tensor) -> Tensor:
    """What one head gets at a step: its rows of the slow projection, or its part of x where there is none."""
    x = layer_norm(layer.memory_norm, x)
    if isinstance(layer.memory.slow, nn.Identity):
        return x.view(HEADS, SIZE)[head]
    return layer.memory.slow.weight.view(HEADS, -1, HEADS * SIZE)[head] @ x


def block(oracle: Oracle, layer: Block, stream: list[Tensor]) -> tuple[list[Tensor], list[Fast]]:
    """One block over one episode, head by head and step by step."""
    reads, after = [], []
    for head in range(HEADS):
        read, fast = oracle(layer.memory, head, [project(layer, head, x) for x in stream])
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


def test_every_fast_weight_core_has_its_equations_here() -> None:
    configs = {
        module.name: importlib.import_module(f"rfwp.models.cores.{module.name}").Config
        for module in pkgutil.iter_modules(rfwp.models.cores.__path__)
    }
    with_fast_weights = {name for name, config in configs.items() if issubclass(config, FastWeightConfig)}
    assert with_fast_weights == {name for name, _, _ in CASES}


@pytest.mark.parametrize(("name", "oracle", "settings"), CASES)
def test_a_core_is_its_equations(name: str, oracle: Oracle, settings: dict[str, int]) -> None:
    torch.manual_seed(0)
    config = importlib.import_module(f"rfwp.models.cores.{name}").Config(**SETTINGS, **settings)
    core = config.build(input_size=4).double()
    x = torch.randn(LENGTH, BATCH, 4, dtype=torch.float64, requires_grad=True)
    starts = [[0], [0, 3], [0, 1, 6]]
    reset = torch.tensor([[t in each for each in starts] for t in range(LENGTH)])
    outputs, state = core(x, core.initial_state(BATCH), reset)
    expected = [network(oracle, core, x[:, b], starts[b]) for b in range(BATCH)]
    expected_outputs = torch.stack([each for each, _ in expected], 1)
    expected_state = tuple(torch.stack(leaves) for leaves in zip(*(leaves for _, leaves in expected), strict=True))
    torch.testing.assert_close((outputs, state), (expected_outputs, expected_state), rtol=1e-10, atol=1e-10)

    weights = [x, *core.parameters()]
    direction = torch.randn_like(outputs)
    gradient = torch.autograd.grad((outputs * direction).sum(), weights)
    expected_gradient = torch.autograd.grad((expected_outputs * direction).sum(), weights)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-10)
