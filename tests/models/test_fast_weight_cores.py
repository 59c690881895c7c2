"""Fast weight cores against their equations, written out for one head of one episode at a time."""

import importlib
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from every_core import NAMES
from torch import Tensor, nn

from rfwp.models.fast_weights import FastMemory, FastWeightConfig
from rfwp.models.feature_maps import FeatureMapName, feature_map
from rfwp.models.residual_stack import Block, ResidualStack

HEADS, SIZE, LENGTH, BATCH = 2, 3, 7, 3
SETTINGS = {"hidden_size": HEADS * SIZE, "num_layers": 2, "num_heads": HEADS, "feedforward_size": 5}
STARTS = [[], [3], [0, 1, 6]]  # the steps that open an episode in each sequence; before them, one is under way
Fast = tuple[Tensor, ...]
Map = Callable[[Tensor], Tensor]


def cut(vector: Tensor, *sizes: int) -> list[Tensor]:
    """Consecutive parts of a vector; a part of size 1 comes as a scalar."""
    assert sum(sizes) == vector.numel()
    return [part.squeeze() if part.numel() == 1 else part for part in torch.split(vector, sizes)]


def softmax(z: Tensor) -> Tensor:
    return z.exp() / z.exp().sum()


def unit_length(z: Tensor) -> Tensor:
    return z / (z @ z + 1e-6).sqrt()


def write(fast: Tensor, key: Tensor, value: Tensor, rate: Tensor) -> Tensor:
    """The delta rule: W + σ(β) (v − W k) ⊗ k."""
    return fast + torch.sigmoid(rate) * torch.outer(value - fast @ key, key)


# A stretch of one head's episode: memory, number of the head, feature map, slow projections, fast weights before
# -> reads, fast weights after.
Oracle = Callable[[FastMemory, int, Map, list[Tensor], Fast], tuple[list[Tensor], Fast]]


def delta_net(memory: FastMemory, head: int, f: Map, slow: list[Tensor], before: Fast) -> tuple[list[Tensor], Fast]:
    (fast,), reads = before, []
    for slow_t in slow:
        q, k, v, beta = cut(slow_t, SIZE, SIZE, SIZE, 1)
        fast = write(fast, f(k), v, beta)
        reads.append(fast @ f(q))
    return reads, (fast,)


def rdn(memory: FastMemory, head: int, f: Map, slow: list[Tensor], before: Fast) -> tuple[list[Tensor], Fast]:
    r_q, r_k, r_v, r_beta = torch.split(memory.recurrent[head].T, [SIZE, SIZE, SIZE, 1])
    (fast, y), reads = before, []
    for slow_t in slow:
        q, k, v, beta = cut(slow_t, SIZE, SIZE, SIZE, 1)
        s = torch.tanh(y)
        fast = write(fast, f(k + r_k @ s), v + r_v @ s, beta + r_beta[0] @ s)
        y = fast @ f(q + r_q @ s)
        reads.append(y)
    return reads, (fast, y)


def linear_transformer(
    memory: FastMemory, head: int, f: Map, slow: list[Tensor], before: Fast
) -> tuple[list[Tensor], Fast]:
    (fast,), reads = before, []
    for slow_t in slow:
        q, k, v = cut(slow_t, SIZE, SIZE, SIZE)
        fast = fast + torch.outer(v, f(k))
        reads.append(fast @ f(q))
    return reads, (fast,)


def gated_delta_net(
    memory: FastMemory, head: int, f: Map, slow: list[Tensor], before: Fast
) -> tuple[list[Tensor], Fast]:
    (fast,), reads = before, []
    for slow_t in slow:
        q, k, v, beta, alpha = cut(slow_t, SIZE, SIZE, SIZE, 1, 1)
        k, beta, alpha = f(k), torch.sigmoid(beta), torch.sigmoid(alpha + memory.decay_bias[head])
        forget = torch.eye(len(k), dtype=torch.float64) - beta * torch.outer(k, k)
        fast = alpha * fast @ forget + beta * torch.outer(v, k)
        reads.append(fast @ f(q))
    return reads, (fast,)


def delta_rnn(
    memory: FastMemory, head: int, f: Map, slow: list[Tensor], before: Fast, g: Map = softmax
) -> tuple[list[Tensor], Fast]:
    (fast, back, y), reads = before, []
    for slow_t in slow:
        q, k, v, beta, back_k, back_v, back_beta = cut(slow_t, SIZE, SIZE, SIZE, 1, SIZE, SIZE, 1)
        fast = write(fast, f(k), v, beta)
        back = write(back, g(back_k), back_v, back_beta)
        y = fast @ f(q) + back @ g(y)
        reads.append(y)
    return reads, (fast, back, y)


def delta_lstm(
    memory: FastMemory, head: int, f: Map, slow: list[Tensor], before: Fast, g: Map = softmax
) -> tuple[list[Tensor], Fast]:
    (all_fast, all_back, h, c), reads = before, []
    fast, back = list(all_fast), list(all_back)  # one of each for every gate
    for slow_t in slow:
        gates = []
        for gate, of_gate in enumerate(slow_t.chunk(3)):
            q, k, v, beta, back_k, back_v, back_beta = cut(of_gate, SIZE, SIZE, SIZE, 1, SIZE, SIZE, 1)
            fast[gate] = write(fast[gate], f(k), v, beta)
            back[gate] = write(back[gate], g(back_k), back_v, back_beta)
            gates.append(fast[gate] @ f(q) + back[gate] @ g(h))
        i, u, o = gates
        c = torch.sigmoid(i) * u + (1 - torch.sigmoid(i)) * c
        h = torch.sigmoid(o) * c
        reads.append(h)
    return reads, (torch.stack(fast), torch.stack(back), h, c)


def delta_mlp(memory: FastMemory, head: int, f: Map, slow: list[Tensor], before: Fast) -> tuple[list[Tensor], Fast]:
    wide, reads = 4 * SIZE, []
    up, down = list(before[0::2]), list(before[1::2])
    for slow_t in slow:
        q, of_blocks = slow_t[:SIZE], slow_t[SIZE:].chunk(len(memory.norms))
        for n, norm in enumerate(memory.norms):
            k_up, v_up, beta_up, k_down, v_down, beta_down = cut(of_blocks[n], SIZE, wide, 1, wide, SIZE, 1)
            up[n] = write(up[n], f(k_up), v_up, beta_up)
            down[n] = write(down[n], f(k_down), v_down, beta_down)
            a = up[n] @ f(layer_norm(norm, q))
            q = q + down[n] @ f(a)
        reads.append(q)
    return reads, tuple(fast for pair in zip(up, down, strict=True) for fast in pair)


def delta_delta_net(
    memory: FastMemory, head: int, f: Map, slow: list[Tensor], before: Fast
) -> tuple[list[Tensor], Fast]:
    (outer, inner), reads = before, []
    for slow_t in slow:
        q, k, v, beta = cut(slow_t, SIZE, SIZE, 3 * SIZE + 1, 1)
        outer = write(outer, f(k), v, beta)
        q, k, v, beta = cut(outer @ f(q), SIZE, SIZE, SIZE, 1)
        inner = write(inner, f(k), v, beta)
        reads.append(inner @ f(q))
    return reads, (outer, inner)


def srwm(memory: FastMemory, head: int, f: Map, slow: list[Tensor], before: Fast) -> tuple[list[Tensor], Fast]:
    fast, reads = memory.initial[head] + before[0], []
    for x in slow:
        y, q, k, beta = cut(fast @ f(x), SIZE, SIZE, SIZE, 4)
        rates = torch.sigmoid(
            torch.cat([beta[0].repeat(SIZE), beta[1].repeat(SIZE), beta[2].repeat(SIZE), beta[3].repeat(4)])
        )
        fast = fast + torch.outer(rates * (fast @ f(q) - fast @ f(k)), f(k))
        reads.append(y)
    return reads, (fast - memory.initial[head],)


ORACLES: dict[str, Oracle] = {
    "delta_net": delta_net,
    "rdn": rdn,
    "linear_transformer": linear_transformer,
    "gated_delta_net": gated_delta_net,
    "delta_rnn": delta_rnn,
    "delta_lstm": delta_lstm,
    "delta_mlp": delta_mlp,
    "delta_delta_net": delta_delta_net,
    "srwm": srwm,
}
DEFAULT_MAPS = {name: "softmax" if name in ("rdn", "delta_rnn", "srwm") else "elu_sum_norm" for name in ORACLES}


def layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * norm.weight + norm.bias


def project(layer: Block, head: int, x: Tensor) -> Tensor:
    """What one head gets at a step: its rows of the slow projection, or its part of x where there is none."""
    if isinstance(layer.memory.slow, nn.Identity):
        return x.view(HEADS, SIZE)[head]
    return layer.memory.slow.weight.view(HEADS, -1, HEADS * SIZE)[head] @ x


def block(
    oracle: Oracle, f: Map, config: FastWeightConfig, layer: Block, stream: list[Tensor], before: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """One block over a stretch of one episode, head by head and step by step; the state's leaves are [heads, ...]."""
    post = config.block == "post_norm"
    inputs = stream if post else [layer_norm(layer.memory_norm, x) for x in stream]
    reads, after = [], []
    for head in range(HEADS):
        slow = [project(layer, head, x) for x in inputs]
        read, fast = oracle(layer.memory, head, f, slow, tuple(leaf[head] for leaf in before))
        reads.append(read)
        after.append(fast)
    inner, _, _, outer, _ = layer.feedforward
    result = []
    for t, x in enumerate(inputs if config.block == "normalised_residual" else stream):
        read = torch.cat([read[t] for read in reads]) / (SIZE**0.5 if config.scale_reads else 1)
        x = x + layer.output[0].weight @ read
        x = layer_norm(layer.memory_norm, x) if post else x
        hidden = torch.relu(inner.weight @ (x if post else layer_norm(layer.feedforward_norm, x)) + inner.bias)
        x = x + outer.weight @ hidden + outer.bias
        result.append(layer_norm(layer.feedforward_norm, x) if post else x)
    return result, [torch.stack(leaves) for leaves in zip(*after, strict=True)]


def network(
    oracle: Oracle,
    f: Map,
    config: FastWeightConfig,
    core: ResidualStack,
    xs: Tensor,
    state: list[Tensor],
    starts: list[int],
) -> tuple[Tensor, list[Tensor]]:
    """One sequence xs [T, D] that goes on from a state and has new episodes at `starts` -> outputs, flat state."""
    outputs = []
    for start, end in pairwise(sorted({0, *starts, len(xs)})):
        if start in starts:
            state = [torch.zeros_like(leaf) for leaf in state]
        stream, after = list(xs[start:end]), []
        if config.input_layer:
            stream = [core.input.weight @ x + core.input.bias for x in stream]
        leaves = len(state) // len(core.blocks)
        for number, layer in enumerate(core.blocks):
            stream, of_layer = block(oracle, f, config, layer, stream, state[number * leaves : (number + 1) * leaves])
            after += of_layer
        outputs, state = outputs + stream, after
    return torch.stack(outputs), state


def config_class(name: str) -> type[FastWeightConfig]:
    found: type[FastWeightConfig] = importlib.import_module(f"rfwp.models.cores.{name}").Config
    return found


def test_every_fast_weight_core_has_its_equations_here() -> None:
    assert {name for name in NAMES if issubclass(config_class(name), FastWeightConfig)} == ORACLES.keys()


def test_the_feature_map_of_a_core_is_the_papers_unless_another_is_chosen() -> None:
    assert {name: config_class(name)().feature_map for name in ORACLES} == DEFAULT_MAPS
    assert {config_class(name)().feedback_map for name in ("delta_rnn", "delta_lstm")} == {"softmax"}


@pytest.mark.parametrize(
    ("name", "map_name", "settings"),
    [(name, map_name, {}) for name in ORACLES for map_name in (DEFAULT_MAPS[name], "dpfp")]  # which makes keys longer
    + [
        ("delta_mlp", "elu_sum_norm", {"fast_blocks": 2}),
        ("delta_net", "elu_sum_norm", {"block": "post_norm", "scale_reads": True}),
        ("delta_lstm", "softmax", {"block": "normalised_residual", "scale_reads": True}),
        ("rdn", "softmax", {"input_layer": False}),
        *((name, "l2", {}) for name in ORACLES if name not in ("delta_rnn", "delta_lstm")),
        *((name, "l2", {"feedback_map": "l2"}) for name in ("delta_rnn", "delta_lstm")),
    ],
)
def test_a_core_is_its_equations(name: str, map_name: FeatureMapName, settings: dict[str, object]) -> None:
    torch.manual_seed(0)
    config = config_class(name)(**SETTINGS, feature_map=map_name, **settings)
    input_size = 4 if config.input_layer else config.hidden_size
    core = config.build(input_size).double()
    x = torch.randn(LENGTH, BATCH, input_size, dtype=torch.float64, requires_grad=True)
    first = torch.tensor([[t in starts for starts in STARTS] for t in range(LENGTH)])
    before = [0.1 * torch.randn(BATCH, *shape, dtype=torch.float64) for shape in core.state_shapes]
    for leaf in before:
        leaf.requires_grad_()
    for weight in core.parameters():
        weight.data *= 0.5  # an SRWM at keys that are not normalised would overflow within these few steps
    outputs, after = core(x, tuple(before), first)
    results = (outputs, *after)

    oracle, f = ORACLES[name], feature_map(map_name).apply
    if settings.get("feedback_map") == "l2":
        oracle = partial(oracle, g=unit_length)
    alone = [
        network(oracle, f, config, core, x[:, b], [leaf[b] for leaf in before], starts)
        for b, starts in enumerate(STARTS)
    ]
    expected = (
        torch.stack([outputs for outputs, _ in alone], 1),
        *(torch.stack(leaves) for leaves in zip(*(state for _, state in alone), strict=True)),
    )
    torch.testing.assert_close(results, expected, rtol=1e-10, atol=1e-10)

    sought, directions = [x, *before, *core.parameters()], [torch.randn_like(each) for each in results]
    gradients = [torch.autograd.grad(each, sought, directions) for each in (results, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", sorted(ORACLES.keys() - {"linear_transformer"}))  # which never overwrites
def test_keys_of_unit_length_are_stable_over_many_steps_of_large_inputs(name: str) -> None:
    """The values are about as large as the inputs, 10, and so are all memories after 10,000 steps."""
    torch.manual_seed(0)
    feedback = {"feedback_map": "l2"} if name in ("delta_rnn", "delta_lstm") else {}
    memory = config_class(name)(num_layers=1, feature_map="l2", **feedback).build(5).blocks[0].memory
    state = tuple(torch.zeros(1, *shape) for shape in memory.state_shapes)
    goes_on = torch.zeros(100, 1, dtype=torch.bool)
    with torch.no_grad():
        for _ in range(100):
            reads, state = memory(10 * torch.randn(100, 1, 128), state, goes_on)
            assert all(each.abs().max() < 100 for each in (reads, *state))
