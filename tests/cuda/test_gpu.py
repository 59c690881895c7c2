"""What only a GPU has: streams, graphs, several devices."""

import importlib

import pytest
import torch

pytestmark = pytest.mark.gpu

CORES = ("delta_net", "delta_rnn", "gated_delta_net", "gru", "linear_transformer", "lstm", "rdn")


def build(name, device="cuda"):
    """A core with default settings, and inputs, state and resets for it."""
    torch.manual_seed(0)
    core = importlib.import_module(f"rfwp.models.cores.{name}").Config().build(7).to(device)
    reset = torch.rand(20, 3, device=device) < 0.1
    return core, torch.randn(20, 3, 7, device=device), core.initial_state(3), reset


def learn(core, x, state, reset):
    y, after = core(x, state, reset)
    return [y, *after, *torch.autograd.grad(y.square().sum(), tuple(core.parameters()))]


@pytest.mark.parametrize("name", CORES)
def test_a_graph_of_forward_and_backward_replays_on_new_inputs(name, on_gpu) -> None:
    core, x, state, reset = build(name)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        learn(core, x, state, reset)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = learn(core, x, state, reset)
    x.normal_()
    reset.copy_(torch.rand_like(x[:, :, 0]) < 0.3)
    graph.replay()
    for given, wanted in zip(captured, learn(core, x, state, reset), strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CORES)
def test_kernels_wait_for_what_is_queued_on_their_stream(name, on_gpu) -> None:
    core, x, state, reset = build(name)
    expected = core(2 * x, state, reset)[0]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        actual = core(2 * x, state, reset)[0]
    stream.synchronize()
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("name", ["rdn", "lstm"])
def test_kernels_run_on_the_device_of_their_tensors(name, on_gpu) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU only")
    expected = [each.to("cuda:1") for each in learn(*build(name, "cuda:0"))]
    core, *given = build(name, "cuda:1")
    given = [build(name, "cuda:0")[1].to("cuda:1"), given[1], build(name, "cuda:0")[3].to("cuda:1")]
    for actual, wanted in zip(learn(core, *given), expected, strict=True):
        assert actual.device == torch.device("cuda:1")
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)
    assert torch.cuda.current_device() == 0
