"""Settings, feature maps and starting weights that fast weight cores share."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rfwp.models.cores import delta_net, rdn
from rfwp.models.fast_weights import delta_rule
from rfwp.models.feature_maps import FeatureMapName, feature_map

NORMALISED = ["elu_sum_norm", "softmax", "dpfp"]


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("hidden_size", 0, "a multiple of num_heads = 4"),
        ("hidden_size", 101, "a multiple of num_heads = 4"),
        ("num_heads", 0, "1 or more"),
        ("num_layers", 0, "1 or more"),
        ("feedforward_size", 0, "1 or more"),
        ("dropout", 1.0, "0 up to, not including, 1"),
        ("dropout", -0.1, "0 up to, not including, 1"),
        ("gradient_horizon", 0, "1 or more, or null"),
        ("feature_map", "foo", "elu_sum_norm, softmax, l2, elu, dpfp, identity"),
    ],
)
def test_a_bad_setting_is_named_with_what_is_allowed(field: str, value: object, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: got {value!r}; allowed: {allowed}$"):
        delta_net.Config(**{field: value})


def test_heads_share_out_the_hidden_size() -> None:
    assert [delta_net.Config(num_heads=heads).head_size for heads in (1, 4, 8)] == [128, 32, 16]


@pytest.mark.parametrize("name", get_args(FeatureMapName))
def test_a_feature_map_has_the_size_that_it_declares(name: FeatureMapName) -> None:
    apply, growth = feature_map(name)
    assert apply(torch.randn(5, 4)).shape == (5, 4 * growth)


@pytest.mark.parametrize("name", NORMALISED)
def test_normalised_features_are_positive_and_sum_to_one(name: FeatureMapName) -> None:
    features = feature_map(name).apply(torch.rand(50, 8) + 0.1)
    assert (features >= 0).all()
    torch.testing.assert_close(features.sum(-1), torch.ones(50), rtol=0, atol=1e-3)


def test_dpfp_multiplies_each_rectified_input_with_its_neighbour() -> None:
    features = feature_map("dpfp").apply(torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(features, torch.tensor([2.0, 6.0, 0.0, 0.0, 0.0, 0.0]) / 8, rtol=0, atol=1e-5)
    features = feature_map("dpfp").apply(torch.tensor([1.0, -2.0, -3.0]))  # 1, 0, 0, 0, 2, 3 when rectified
    torch.testing.assert_close(features, torch.tensor([0.0, 0.0, 0.0, 0.0, 6.0, 3.0]) / 9, rtol=0, atol=1e-5)


def phi(z: Tensor) -> Tensor:
    return torch.where(z > 0, z + 1, z.exp())


def normalised(z: Tensor) -> Tensor:
    return z / (z.sum() + 1e-5)


def neighbours(z: Tensor) -> Tensor:
    r = [*z.clamp(min=0), *(-z).clamp(min=0)]
    return torch.stack([r[i] * r[(i + 1) % len(r)] for i in range(len(r))])


FORMULAS = {
    "elu_sum_norm": lambda z: normalised(phi(z)),
    "softmax": lambda z: z.exp() / z.exp().sum(),
    "l2": lambda z: z / (z @ z + 1e-6).sqrt(),
    "elu": phi,
    "dpfp": lambda z: normalised(neighbours(z)),
    "identity": lambda z: z,
}


@pytest.mark.parametrize("name", get_args(FeatureMapName))
def test_a_feature_map_is_its_formula(name: FeatureMapName) -> None:
    torch.manual_seed(0)
    z = torch.randn(20, 3, dtype=torch.float64, requires_grad=True)
    features, expected = feature_map(name).apply(z), torch.stack([FORMULAS[name](row) for row in z])
    torch.testing.assert_close(features, expected, rtol=1e-12, atol=1e-12)
    direction = torch.randn_like(features)
    gradients = [torch.autograd.grad(each, z, direction)[0] for each in (features, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_the_delta_rule_replaces_what_a_unit_key_holds() -> None:
    key, value = torch.tensor([[0.6, 0.8]]), torch.tensor([[5.0, -1.0, 2.0]])
    read, _ = delta_rule(torch.randn(1, 3, 2), torch.stack([key, key], 1), value, torch.ones(1, 1))
    torch.testing.assert_close(read, value)


@given(seed=st.integers(0, 1000), steps=st.integers(1, 50), turn=st.floats(0, 3, width=32), scale=st.floats(0.1, 10))
def test_keys_of_at_most_unit_length_keep_the_delta_rule_from_diverging(
    seed: int, steps: int, turn: float, scale: float
) -> None:
    """The spectral norm grows by β ‖v‖ a step at most, whether keys are random or turn slowly."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    fast, direction = randn(1, 3, 4), randn(1, 4)
    for _ in range(steps):
        direction = direction + turn * randn(1, 4)
        key = feature_map("l2").apply(scale * direction)
        value, rate = scale * randn(1, 3), randn(1, 1).sigmoid()
        _, after = delta_rule(fast, torch.stack([key, key], 1), value, rate)
        bound = torch.linalg.matrix_norm(fast, 2) + rate[0] * value.norm()
        assert torch.linalg.matrix_norm(after, 2) <= bound * (1 + 1e-12)
        fast = after


def test_the_recurrent_weights_start_with_a_deviation_of_one_over_root_d() -> None:
    torch.manual_seed(0)
    recurrent = rdn.Config().build(257).blocks[0].memory.recurrent
    assert recurrent.shape == (4, 32, 97)  # heads, y, (q, k, v, β)
    assert recurrent.std().item() == pytest.approx(32**-0.5, rel=0.03)
    assert recurrent.mean().item() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("core", "memory"), [(delta_net, 0), (rdn, 4 * 32 * 97)])
def test_the_paper_network_has_as_many_weights_as_its_layers_add_up_to(core: object, memory: int) -> None:
    attention = 2 * 128 + 128 * 4 * 97 + 128 * 128  # LayerNorm, slow projection, output layer
    feedforward = 2 * 128 + (128 * 512 + 512) + (512 * 128 + 128)
    expected = 257 * 128 + 128 + 2 * (attention + memory + feedforward)
    assert sum(weight.numel() for weight in core.Config().build(257).parameters()) == expected
