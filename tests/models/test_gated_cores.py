"""LSTM and GRU against PyTorch's own, one episode at a time."""

import pytest
import torch
from torch import Tensor, nn

from rfwp.models.core import CoreConfig
from rfwp.models.cores import gru, lstm

LENGTH, BATCH, SIZE, HIDDEN, LAYERS = 7, 3, 4, 5, 2
STARTS = [[0], [0, 3], [0, 1, 6]]  # the steps that open an episode in each sequence


def reference(kind: type[nn.RNNBase], core: nn.Module) -> nn.RNNBase:
    """PyTorch's module with the weights of ours."""
    module = kind(SIZE, HIDDEN, LAYERS).double()
    for layer, cell in enumerate(core.layers):
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(module, f"{part}_l{layer}").data.copy_(getattr(cell, part))
    return module


def episodes(module: nn.RNNBase, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Run the module over every episode alone -> outputs [T, B, H], the last hidden state of each sequence."""
    outputs, states = [], []
    for b, starts in enumerate(STARTS):
        runs = [module(x[start:end, b]) for start, end in zip(starts, [*starts[1:], LENGTH], strict=True)]
        outputs.append(torch.cat([output for output, _ in runs]))
        states.append(runs[-1][1])
    return torch.stack(outputs, 1), states


@pytest.mark.parametrize(
    ("config", "kind"), [(lstm.Config(HIDDEN, LAYERS), nn.LSTM), (gru.Config(HIDDEN, LAYERS), nn.GRU)]
)
def test_a_gated_core_is_pytorchs_run_on_each_episode(config: CoreConfig, kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    core = config.build(SIZE).double()
    module = reference(kind, core)
    x = torch.randn(LENGTH, BATCH, SIZE, dtype=torch.float64, requires_grad=True)
    reset = torch.tensor([[t in starts for starts in STARTS] for t in range(LENGTH)])
    outputs, state = core(x, core.initial_state(BATCH), reset)
    expected, states = episodes(module, x)
    torch.testing.assert_close(outputs, expected, rtol=1e-10, atol=1e-10)
    for b, after in enumerate(states):
        of_layers = zip(*after, strict=True) if kind is nn.LSTM else ((h,) for h in after)
        flat = [leaf for leaves in of_layers for leaf in leaves]
        torch.testing.assert_close([leaf[b] for leaf in state], flat, rtol=1e-10, atol=1e-10)

    direction = torch.randn_like(outputs)
    gradient = torch.autograd.grad((outputs * direction).sum(), [x, *core.parameters()])
    wanted = torch.autograd.grad((expected * direction).sum(), [x, *module.parameters()])
    torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)
