"""Initial weights of an agent."""

from typing import Literal

from torch import nn

from rfwp.models.actor_critic import ActorCritic

Scheme = Literal["default", "orthogonal"]


def initialise(agent: ActorCritic, scheme: Scheme) -> None:
    """Initialise the weights in place.

    default: keep PyTorch's initial weights, as in the paper.
    orthogonal: gain √2 in the encoder, 0.01 in the policy head, 1 in the value head and in the matrices of LSTM and GRU
    cells. Early learning from few samples needs it, because PyTorch's weights shrink the signal layer by layer. Biases
    are 0, but 1 in the gate by which a cell keeps its memory (Jozefowicz et al. 2015): with 0, each step would halve
    it. Fast weight cores keep their weights.

    Raises ValueError for an unknown scheme.
    """
    match scheme:
        case "default":
            return
        case "orthogonal":
            for layer in agent.encoder.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear | nn.EmbeddingBag):
                    _orthogonal(layer, gain=2**0.5)
            for layer in agent.core.modules():
                if isinstance(layer, nn.RNNCellBase):
                    _orthogonal_cell(layer)
            _orthogonal(agent.policy, gain=0.01)
            _orthogonal(agent.value, gain=1.0)
        case _:
            raise ValueError(f"initialisation: got {scheme}; allowed: default, orthogonal")


def _orthogonal(layer: nn.Conv2d | nn.Linear | nn.EmbeddingBag, gain: float) -> None:
    nn.init.orthogonal_(layer.weight, gain)
    if not isinstance(layer, nn.EmbeddingBag) and layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _orthogonal_cell(cell: nn.RNNCellBase) -> None:
    for name, parameter in cell.named_parameters():
        if name.startswith("weight"):
            nn.init.orthogonal_(parameter)
        else:
            nn.init.zeros_(parameter)
    nn.init.ones_(cell.bias_hh[cell.hidden_size : 2 * cell.hidden_size])  # forget gate, or update gate of a GRU
