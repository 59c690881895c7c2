"""The Transformer core against `torch.nn.TransformerEncoder`, and the limits of what a step can see."""

import pytest
import torch
from torch import Tensor, nn

from rfwp.models.cores.transformer import Config, Transformer
from rfwp.models.positions import sinusoidal
from rfwp.models.residual_stack import BlockName

HIDDEN, LAYERS, HEADS, INNER, LENGTH, BATCH = 12, 3, 3, 20, 9, 2
SIZES = {"hidden_size": HIDDEN, "num_layers": LAYERS, "num_heads": HEADS, "feedforward_size": INNER}


def make(input_size: int = HIDDEN, **settings: object) -> Transformer:
    torch.manual_seed(0)
    core = Config(**(SIZES | settings)).build(input_size).double()
    for parameter in core.parameters():  # biases and norms, too, must be told apart
        parameter.data += 0.1 * torch.randn_like(parameter)
    return core


def encoder_with_weights_of(core: Transformer, block: BlockName, final_norm: bool) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(HIDDEN, HEADS, INNER, dropout=0, norm_first=block == "pre_norm")
    norm = nn.LayerNorm(HIDDEN) if final_norm else None
    encoder = nn.TransformerEncoder(layer, LAYERS, norm, enable_nested_tensor=False).double()
    for theirs, ours in zip(encoder.layers, core.blocks, strict=True):
        theirs.self_attn.in_proj_weight.data = ours.memory.project.weight.data
        theirs.self_attn.in_proj_bias.data = ours.memory.project.bias.data
        inner, _, _, outer, _ = ours.feedforward
        for copy, original in (
            (theirs.self_attn.out_proj, ours.output[0]),
            (theirs.linear1, inner),
            (theirs.linear2, outer),
            (theirs.norm1, ours.memory_norm),
            (theirs.norm2, ours.feedforward_norm),
        ):
            copy.load_state_dict(original.state_dict())
    if norm is not None:
        norm.load_state_dict(core.norm.state_dict())
    return encoder


def no_resets() -> Tensor:
    return torch.zeros(LENGTH, BATCH, dtype=torch.bool)


@pytest.mark.parametrize("context", [LENGTH, 3])
@pytest.mark.parametrize(("block", "final_norm"), [("pre_norm", True), ("pre_norm", False), ("post_norm", True)])
def test_it_is_the_encoder_of_pytorch(block: BlockName, final_norm: bool, context: int) -> None:
    core = make(block=block, final_norm=final_norm, context=context, positions="none", input_layer=False)
    encoder = encoder_with_weights_of(core, block, final_norm)
    x = torch.randn(LENGTH, BATCH, HIDDEN, dtype=torch.float64, requires_grad=True)
    outputs, _ = core(x, core.initial_state(BATCH), no_resets())
    hidden = torch.ones(LENGTH, LENGTH, dtype=torch.bool)
    expected = encoder(x, mask=hidden.triu(1) | hidden.tril(-context - 1))
    torch.testing.assert_close(outputs, expected, rtol=1e-10, atol=1e-10)
    along = torch.randn_like(outputs)
    gradients = [torch.autograd.grad(each, x, along)[0] for each in (outputs, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def test_positions_are_added_after_the_input_layer_and_count_from_the_start_of_the_episode() -> None:
    core, plain = make(4), make(4, positions="none")
    x = torch.randn(LENGTH, BATCH, 4, dtype=torch.float64)
    first = no_resets()
    first[5, 1] = True
    before = core.initial_state(BATCH)
    outputs, _ = core(x, before, first)
    steps = torch.stack([torch.arange(LENGTH), torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3])], 1)
    stream = core.input(x) + sinusoidal(steps.double(), HIDDEN)
    expected = plain.norm(plain.run_blocks(stream, before, first)[0])
    torch.testing.assert_close(outputs, expected, rtol=1e-10, atol=1e-10)


def test_sinusoidal_positions_are_the_published_formula() -> None:
    encoding = sinusoidal(torch.arange(50.0, dtype=torch.float64), 8)
    for pair in range(4):
        angles = torch.arange(50.0, dtype=torch.float64) / 10_000 ** (2 * pair / 8)
        torch.testing.assert_close(encoding[:, pair], angles.sin())
        torch.testing.assert_close(encoding[:, 4 + pair], angles.cos())


@pytest.mark.parametrize("cut", [0, 2, 7])  # where the unroll is split in two, if anywhere
def test_a_layer_sees_the_context_and_its_own_episode_and_nothing_else(cut: int) -> None:
    context = 3
    core = make(num_layers=1, context=context)
    first = no_resets()
    first[4, 1] = True
    x = torch.randn(LENGTH, BATCH, HIDDEN, dtype=torch.float64, requires_grad=True)
    head, state = core(x[:cut], core.initial_state(BATCH), first[:cut]) if cut else ((), core.initial_state(BATCH))
    outputs = torch.cat([*([head] if cut else []), core(x[cut:], state, first[cut:])[0]])
    for t in range(LENGTH):
        (of_input,) = torch.autograd.grad(outputs[t].square().sum(), x, retain_graph=True)
        seen = of_input.abs().sum(2) > 0
        for b, start in enumerate([0, 4 if t >= 4 else 0]):
            assert seen[:, b].tolist() == [max(start, t - context) <= s <= t for s in range(LENGTH)]


def test_nan_in_one_step_reaches_the_steps_that_see_it_and_no_others() -> None:
    core = make(num_layers=1, context=2)
    first = no_resets()
    first[4, 1] = True
    x = torch.randn(LENGTH, BATCH, HIDDEN, dtype=torch.float64)
    clean, _ = core(x, core.initial_state(BATCH), first)
    x[3] = torch.nan
    outputs, _ = core(x, core.initial_state(BATCH), first)
    lost = outputs.isnan().any(2)
    assert lost[:, 0].tolist() == [3 <= t <= 5 for t in range(LENGTH)]
    assert lost[:, 1].tolist() == [t == 3 for t in range(LENGTH)]
    assert torch.equal(outputs[~lost], clean[~lost])


def test_settings_that_make_no_sense_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="^context: got 0; allowed: 1 or more"):
        Config(context=0)
    with pytest.raises(ValueError, match="^hidden_size: got 3; allowed: an even number"):
        Config(hidden_size=3, num_heads=1)
    with pytest.raises(ValueError, match="^hidden_size: got 128; allowed: 7, the input's size"):
        Config(input_layer=False).build(7)
    with pytest.raises(ValueError, match="^block: got 'middle'; allowed: pre_norm, normalised_residual, post_norm"):
        Config(block="middle")
