"""Encoders: every file in models/encoders, and the paper's residual network layer by layer."""

import importlib
import pkgutil

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear, max_pool2d, relu

import rfwp.models.encoders
from rfwp.models.encoder import Encoder
from rfwp.models.encoders import flat, impala, nature, shallow

ATARI = (4, 84, 84)
NAMES = sorted(module.name for module in pkgutil.iter_modules(rfwp.models.encoders.__path__))
every_encoder = pytest.mark.parametrize("name", NAMES)


def make(name: str, shape: tuple[int, int, int] = ATARI) -> Encoder:
    torch.manual_seed(0)
    return importlib.import_module(f"rfwp.models.encoders.{name}").Config().build(shape)


def frames(number: int, shape: tuple[int, int, int] = ATARI) -> Tensor:
    return torch.randint(0, 256, (number, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def size(encoder: Encoder) -> int:
    return sum(weight.numel() for weight in encoder.parameters())


@every_encoder
@pytest.mark.parametrize("shape", [ATARI, (3, 37, 53), (1, 64, 64)])
def test_features_are_float32_of_the_declared_size(name: str, shape: tuple[int, int, int]) -> None:
    encoder = make(name, shape)
    features = encoder(frames(3, shape))
    assert features.shape == (3, encoder.output_size)
    assert features.dtype == torch.float32


@every_encoder
def test_frames_do_not_mix(name: str) -> None:
    encoder, observation = make(name), frames(3)
    alone = torch.cat([encoder(each) for each in observation.split(1)])
    torch.testing.assert_close(encoder(observation), alone, rtol=1e-4, atol=1e-5)


@every_encoder
def test_bfloat16_stays_close_to_float32(name: str) -> None:
    encoder, observation = make(name), frames(4)
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(observation).float()
    exact = encoder(observation)
    assert not torch.equal(rough, exact)
    assert (rough - exact).norm() < 0.02 * exact.norm()


@every_encoder
def test_every_weight_gets_a_gradient_in_float32(name: str) -> None:
    encoder = make(name)
    with torch.autocast("cpu", torch.bfloat16):
        encoder(frames(2)).float().square().sum().backward()
    for weight in encoder.parameters():
        assert weight.grad is not None
        assert weight.grad.dtype == torch.float32
        assert weight.grad.count_nonzero() > 0


@pytest.mark.parametrize("name", ["shallow", "nature"])
def test_the_memory_layout_that_training_uses_changes_no_number_beyond_rounding(name: str) -> None:
    encoder, observation = make(name), frames(4)
    direction = torch.randn(4, encoder.output_size, generator=torch.Generator().manual_seed(2))
    results = []
    for training in (True, False):
        features = encoder.train(training)(observation)
        results.append([features, *torch.autograd.grad(features, list(encoder.parameters()), direction)])
    for ours, plain in zip(*results, strict=True):
        assert (ours - plain).norm() <= 1e-5 * plain.norm()


def test_impala_is_the_papers_network_layer_by_layer() -> None:
    encoder, observation = make("impala"), frames(2)
    weights = iter(encoder.parameters())

    def convolve(x: Tensor) -> Tensor:
        return conv2d(x, next(weights), next(weights), padding=1)

    x = observation.float() / 255
    for filters, side in [(16, 42), (32, 21), (32, 11)]:
        x = max_pool2d(convolve(x), kernel_size=3, stride=2, padding=1)
        for _ in range(2):
            x = x + convolve(relu(convolve(relu(x))))
        assert x.shape == (2, filters, side, side)
    expected = relu(linear(relu(x).flatten(1), next(weights), next(weights)))
    assert not list(weights)
    torch.testing.assert_close(encoder(observation), expected, rtol=1e-4, atol=1e-6)


def test_impala_has_as_many_weights_as_its_layers_add_up_to() -> None:
    def convolution(below: int, above: int) -> int:
        return 9 * below * above + above

    stages = convolution(4, 16) + 4 * convolution(16, 16) + convolution(16, 32) + 4 * convolution(32, 32)
    stages += convolution(32, 32) + 4 * convolution(32, 32)
    assert size(make("impala")) == stages + (32 * 11 * 11 * 256 + 256)


def test_shallow_has_as_many_weights_as_its_layers_add_up_to() -> None:
    assert size(make("shallow")) == (4 * 64 * 16 + 16) + (16 * 16 * 32 + 32) + (32 * 9 * 9 * 256 + 256)


def test_nature_is_the_network_of_dqn_layer_by_layer() -> None:
    encoder, x = make("nature"), frames(2)
    weights = list(encoder.parameters())
    expected, strides = x.float() / 255, (4, 2, 1)
    for weight, bias, stride in zip(weights[0:6:2], weights[1:6:2], strides, strict=True):
        expected = relu(conv2d(expected, weight, bias, stride=stride))
    assert expected.shape == (2, 64, 7, 7)
    torch.testing.assert_close(encoder(x), relu(linear(expected.flatten(1), *weights[6:])), rtol=1e-4, atol=1e-6)
    convolutions = (4 * 64 * 32 + 32) + (32 * 16 * 64 + 64) + (64 * 9 * 64 + 64)
    assert size(encoder) == convolutions + (64 * 7 * 7 * 512 + 512)


def test_flat_has_as_many_weights_as_its_layer() -> None:
    assert size(make("flat", (2, 3, 5))) == 30 * 64 + 64


def test_pixels_are_divided_by_255() -> None:
    encoder, observation = make("flat", (1, 2, 2)), frames(3, (1, 2, 2))
    weight, bias = encoder.parameters()
    torch.testing.assert_close(encoder(observation), relu(linear(observation.flatten(1).float() / 255, weight, bias)))


@pytest.mark.parametrize("config", [impala.Config, nature.Config, shallow.Config, flat.Config])
def test_a_size_below_one_is_refused(config: type[impala.Config]) -> None:
    with pytest.raises(ValueError, match=r"^size: got 0; allowed: 1 or more$"):
        config(size=0)


@pytest.mark.parametrize("channels", [(), (16, 0)])
def test_impala_refuses_stages_without_filters(channels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^channels: got "):
        impala.Config(channels=channels)


@pytest.mark.parametrize(("name", "side"), [("shallow", 20), ("nature", 36)])
def test_frames_that_the_convolutions_do_not_fit_in_are_refused(name: str, side: int) -> None:
    make(name, (1, side, side))
    allowed = rf"^image_shape: got \(1, {side - 1}, 84\); allowed: {side} x {side} pixels or more"
    with pytest.raises(ValueError, match=allowed):
        make(name, (1, side - 1, 84))
