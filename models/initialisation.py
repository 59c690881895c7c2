"""Starting weights of an agent."""

from typing import Literal

from torch import nn

from rfwp.models.actor_critic import ActorCritic

Scheme = Literal["default", "orthogonal"]


def initialise(agent: ActorCritic, scheme: Scheme) -> None:
    """Set the starting weights in place.

    default: PyTorch's, as built, which is what the paper used.
    orthogonal: encoder with gain √2, policy head 0.01, value head 1, matrices of LSTM and GRU cells 1, their biases 0;
    fast weight cores as built. Early learning with few samples needs it: PyTorch's weights shrink the signal layer by
    layer.

    ValueError for an unknown scheme.
    """
    match scheme:
        case "default":
            return
        case "orthogonal":
            for layer in agent.encoder.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    _orthogonal(layer, gain=2**0.5)
            for layer in agent.core.modules():
                if isinstance(layer, nn.RNNCellBase):
                    _orthogonal_cell(layer)
            _orthogonal(agent.policy, gain=0.01)
            _orthogonal(agent.value, gain=1.0)
        case _:
            raise ValueError(f"initialisation: got {scheme}; allowed: default, orthogonal")


def _orthogonal(layer: nn.Conv2d | nn.Linear, gain: float) -> None:
    nn.init.orthogonal_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _orthogonal_cell(cell: nn.RNNCellBase) -> None:
    for name, parameter in cell.named_parameters():
        if name.startswith("weight"):
            nn.init.orthogonal_(parameter)
        else:
            nn.init.zeros_(parameter)
