"""LSTM and GRU against PyTorch's own, one episode at a time."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from rfwp.models.core import CoreConfig, State
from rfwp.models.cores import gru, lstm

LENGTH, BATCH, SIZE, HIDDEN, LAYERS = 7, 3, 4, 5, 2
STARTS = [[], [3], [0, 1, 6]]  # the steps that open an episode in each sequence; before them, one is under way


def reference(kind: type[nn.RNNBase], core: nn.Module) -> nn.RNNBase:
    """PyTorch's module with the weights of ours."""
    module = kind(SIZE, HIDDEN, LAYERS).double()
    for layer, cell in enumerate(core.layers):
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(module, f"{part}_l{layer}").data.copy_(getattr(cell, part))
    return module


def episodes(module: nn.RNNBase, x: Tensor, before: State) -> tuple[Tensor, State]:
    """Run the module over every episode alone -> outputs [T, B, H], final state with our leaves."""
    outputs, states = [], []
    for b, starts in enumerate(STARTS):
        state, runs = to_pytorch(module, [leaf[b] for leaf in before]), []
        for start, end in pairwise(sorted({0, *starts, LENGTH})):
            output, state = module(x[start:end, b], None if start in starts else state)
            runs.append(output)
        outputs.append(torch.cat(runs))
        states.append(state)
    return torch.stack(outputs, 1), from_pytorch(module, states)


def to_pytorch(module: nn.RNNBase, leaves: list[Tensor]) -> Tensor | tuple[Tensor, Tensor]:
    """Leaves [H] of each layer in turn -> h, or h and c, [layers, H]."""
    if isinstance(module, nn.LSTM):
        return torch.stack(leaves[0::2]), torch.stack(leaves[1::2])
    return torch.stack(leaves)


def from_pytorch(module: nn.RNNBase, states: list[Tensor | tuple[Tensor, Tensor]]) -> State:
    """The final state of each sequence -> leaves [B, H] of each layer in turn."""
    if isinstance(module, nn.LSTM):
        pairs = zip(*(torch.stack(leaves, 1) for leaves in zip(*states, strict=True)), strict=True)  # h, c by layer
        return tuple(leaf for pair in pairs for leaf in pair)
    return torch.stack(states, 1).unbind()


@pytest.mark.parametrize(
    ("config", "kind"), [(lstm.Config(HIDDEN, LAYERS), nn.LSTM), (gru.Config(HIDDEN, LAYERS), nn.GRU)]
)
def test_a_gated_core_is_pytorchs_run_on_each_episode(config: CoreConfig, kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    core = config.build(SIZE).double()
    module = reference(kind, core)
    x = torch.randn(LENGTH, BATCH, SIZE, dtype=torch.float64, requires_grad=True)
    first = torch.tensor([[t in starts for starts in STARTS] for t in range(LENGTH)])
    before = tuple(torch.randn(BATCH, *s, dtype=torch.float64, requires_grad=True) for s in core.state_shapes)
    outputs, after = core(x, before, first)
    expected, expected_after = episodes(module, x, before)
    torch.testing.assert_close((outputs, *after), (expected, *expected_after), rtol=1e-10, atol=1e-10)

    directions = [torch.randn_like(each) for each in (outputs, *after)]
    gradient = torch.autograd.grad((outputs, *after), [x, *before, *core.parameters()], directions)
    wanted = torch.autograd.grad((expected, *expected_after), [x, *before, *module.parameters()], directions)
    torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)
