"""The sequence model: its softmax against PyTorch's, its core in place."""

import pytest
import torch
from torch import Tensor, nn

from rfwp.models.cores import lstm, rdn
from rfwp.models.positions import sinusoidal
from rfwp.models.sequence_model import SequenceModelConfig
from rfwp.models.softmax_head import SoftmaxHead

CLASSES, SIZE, ROWS = 30, 6, 50


def make_head(*cutoffs: int) -> SoftmaxHead:
    torch.manual_seed(0)
    head = SoftmaxHead(nn.Parameter(torch.randn(CLASSES, SIZE)), cutoffs).double()
    head.bias.data.normal_()
    return head


def hidden_and_target() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(ROWS, SIZE, dtype=torch.float64, generator=generator)
    return hidden.requires_grad_(), torch.randint(CLASSES, (ROWS,), generator=generator)


@pytest.mark.parametrize("cutoffs", [(), (12,), (5, 6, 20)])
def test_the_probabilities_of_all_classes_sum_to_one_and_hold_the_likelihood(cutoffs: tuple[int, ...]) -> None:
    head, (hidden, target) = make_head(*cutoffs), hidden_and_target()
    every = head.log_probabilities(hidden)
    torch.testing.assert_close(every.exp().sum(1), torch.ones(ROWS, dtype=torch.float64))
    torch.testing.assert_close(head(hidden, target), every.gather(1, target[:, None])[:, 0])


def test_without_cutoffs_it_is_the_softmax() -> None:
    head, (hidden, target) = make_head(), hidden_and_target()
    logits = hidden @ head.weight.T + head.bias
    expected = -nn.functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(head(hidden, target), expected)


def test_with_cutoffs_it_is_pytorchs_adaptive_softmax_without_projections_and_biases() -> None:
    head, (hidden, target) = make_head(5, 6, 20), hidden_and_target()
    head.bias.data.zero_()
    assert head.clusters is not None
    head.clusters.bias.data.zero_()
    theirs = nn.AdaptiveLogSoftmaxWithLoss(SIZE, CLASSES, [5, 6, 20], div_value=1, head_bias=False).double()
    theirs.head.weight.data = torch.cat([head.weight.data[:5], head.clusters.weight.data])
    for (projection, tail), (start, stop) in zip(theirs.tail, ((5, 6), (6, 20), (20, 30)), strict=True):
        nn.init.eye_(projection.weight)
        tail.weight.data = head.weight.data[start:stop].clone()
    ours, expected = head(hidden, target), theirs(hidden, target).output
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(each.sum(), hidden)[0] for each in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_gradients_of_the_adaptive_softmax_agree_with_finite_differences() -> None:
    head, (hidden, target) = make_head(5, 6, 20), hidden_and_target()
    hidden, target = hidden[:8].detach().requires_grad_(), target[:8]
    names, weights = zip(*head.named_parameters(), strict=True)

    def likelihood(hidden: Tensor, *weights: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(head, dict(zip(names, weights, strict=True)), (hidden, target))
        return found

    assert torch.autograd.gradcheck(likelihood, (hidden, *weights))


def test_an_lstm_model_is_pytorchs_lstm_between_embedding_and_linear_layer() -> None:
    torch.manual_seed(0)
    config = SequenceModelConfig(embedding_size=4, embedding_scale=True, positions="backwards")
    model = config.build(lstm.Config(hidden_size=5, num_layers=2), tokens=7, classes=3).double()
    theirs = nn.LSTM(4, 5, num_layers=2).double()
    for layer, cell in enumerate(model.core.layers):
        for name, weight in cell.named_parameters():
            getattr(theirs, f"{name}_l{layer}").data = weight.data
    token, first = torch.randint(7, (9, 2)), torch.zeros(9, 2, dtype=torch.bool)
    hidden, _ = model(token, first, model.initial_state(2))
    follow = torch.arange(8, -1, -1, dtype=torch.float64)
    expected, _ = theirs(2 * model.embedding.weight[token] + sinusoidal(follow, 4)[:, None])
    torch.testing.assert_close(hidden, expected, rtol=1e-10, atol=1e-10)
    logits = expected[0] @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model.head.log_probabilities(hidden[0]), logits.log_softmax(1))


def test_normal_initialisation_is_the_published_one() -> None:
    torch.manual_seed(0)
    core = rdn.Config(hidden_size=64, num_heads=2, input_layer=False)
    model = SequenceModelConfig(64, tied=True, initialisation="normal").build(core, 500, 500)
    assert model.head.weight is model.embedding.weight
    block = model.core.blocks[0]
    for weight in (model.embedding.weight, block.memory.slow.weight, block.feedforward[0].weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.memory_norm.weight.mean().item() == pytest.approx(1, abs=0.02)
    assert block.memory_norm.weight.std().item() == pytest.approx(0.02, rel=0.4)
    assert block.feedforward[0].bias.count_nonzero() == 0
    assert block.memory.recurrent.std().item() == pytest.approx(32**-0.5, rel=0.1)


def test_settings_that_make_no_sense_are_refused_by_name() -> None:
    for settings, message in (
        ({"embedding_size": 0}, "^embedding_size: got 0; allowed: 1 or more"),
        ({"embedding_size": 3, "positions": "backwards"}, "^embedding_size: got 3; allowed: an even number"),
        ({"dropout": 1.0}, "^dropout: got 1.0; allowed: 0 up to, not including, 1"),
        ({"cutoffs": (5, 5)}, r"^cutoffs: got \[5, 5\]; allowed: rising whole numbers above 0"),
        ({"initialisation": "zeros"}, "^initialisation: got 'zeros'; allowed: default, normal"),
    ):
        with pytest.raises(ValueError, match=message):
            SequenceModelConfig(**settings)
    with pytest.raises(ValueError, match="^tied: got True; allowed: false, because"):
        SequenceModelConfig(tied=True).build(lstm.Config(), tokens=5, classes=6)
    with pytest.raises(ValueError, match="^embedding_size: got 256; allowed: 64 if tied"):
        SequenceModelConfig(tied=True).build(lstm.Config(hidden_size=64), tokens=5, classes=5)
