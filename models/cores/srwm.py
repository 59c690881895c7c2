"""Self-referential weight matrix (Irie et al. 2022): one fast weight matrix that rewrites itself."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rfwp.models.core import State
from rfwp.models.fast_weights import FastMemory, FastWeightConfig
from rfwp.models.feature_maps import FeatureMapName
from rfwp.models.residual_stack import ResidualStack


@dataclass(frozen=True)
class Config(FastWeightConfig):
    """Settings of the self-referential weight matrix."""

    feature_map: FeatureMapName = "softmax"
    """Function applied to the input, the queries and the keys. With elu or identity the memory soon diverges."""

    def build(self, input_size: int) -> ResidualStack:
        return ResidualStack(input_size, self, lambda: SelfReferentialWeightMatrix(self))


class SelfReferentialWeightMatrix(FastMemory):
    """y_t, q, k, β = W_{t-1} f(x);  W_t = W_{t-1} + σ(β) (W_{t-1} f(q) − W_{t-1} f(k)) ⊗ f(k).

    It reads before it writes, and each head reads its own part of x. β is four rates, for the rows of W that produce
    y, q, k and β. W_0 is learned; the state holds W_t − W_0 [B, num_heads, 3 * head_size + 4, keys] of each layer.
    """

    leaf_names = ("W - W0",)
    row_rates: Tensor

    def __init__(self, config: Config) -> None:
        size = config.head_size
        rows, keys = 3 * size + 4, config.key_size
        super().__init__(config, slow_size=None, state_shapes=((rows, keys),))
        self.sizes = [size, 2 * size, 4]
        self.initial = nn.Parameter(torch.randn(config.num_heads, rows, keys) / size**0.5)
        counts = torch.tensor([size, size, size, 4])
        row_rates = torch.eye(4).repeat_interleave(counts, 1, output_size=rows)  # which rate each row uses
        self.register_buffer("row_rates", row_rates, persistent=False)

    def prepare(self, slow: Tensor) -> tuple[Tensor, ...]:
        return (self.features(slow),)

    def advance(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        fast, output, query_key, rates = self._read(inputs, state)
        value, old = torch.bmm(query_key, fast.mT).unbind(1)
        change = (rates @ self.row_rates) * (value - old)
        return output, (torch.addcmul(state[0], change.unsqueeze(2), query_key[:, 1:]),)

    def rates(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, ...]:
        return (self._read(inputs, state)[3],)

    def _read(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return W, and its outputs for x: y, f(q) and f(k), and the four σ(β)."""
        (x,), (shift,) = inputs, state
        fast = (self.initial.unsqueeze(1) + shift.view(self.num_heads, -1, *shift.shape[1:])).flatten(0, 1)
        read = torch.bmm(x.unsqueeze(1), fast.mT).squeeze(1)
        output, query_key, rates = read.split_with_sizes(self.sizes, -1)
        return fast, output, self.query_and_key(query_key), rates.sigmoid()
