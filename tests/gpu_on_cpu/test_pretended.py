"""The pretended GPU refuses what a GPU would, and finds what on a GPU goes wrong only now and then."""

import gc

import pytest
import torch
from pretended import counts, streams
from pretended.graph import CannotBeCaptured
from pretended.streams import Overtaken
from pretended.tensor import MixedDevices

pytestmark = pytest.mark.gpu


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, device="cuda")


def test_tensors_on_the_cpu_are_refused():
    with pytest.raises(MixedDevices):
        zeros(3) + torch.zeros(3)
    with pytest.raises(MixedDevices):
        torch.where(zeros(3) > 0, zeros(3), torch.zeros(3))
    with pytest.raises(TypeError, match="to numpy"):
        zeros(3).numpy()
    assert (zeros(3) + torch.tensor(1.0)).tolist() == [1, 1, 1]  # a scalar is passed on as a number


def test_waits_are_counted():
    x = zeros(3)
    x += 1
    x[1].copy_(torch.tensor(5.0), non_blocking=True)
    assert not counts.WAITS
    for read in (x.cpu, lambda: x[0].item(), lambda: bool(x.any()), x.nonzero, lambda: x[x > 0]):
        counts.reset()
        read()
        assert counts.WAITS.total() == 1


def test_a_graph_computes_on_the_memory_that_it_was_captured_with():
    given, total, factor = zeros(2), zeros(2), 3
    graph = torch.cuda.CUDAGraph()
    generator = torch.Generator("cuda").manual_seed(1)
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        total += factor * given
        noise = torch.empty_like(given).exponential_(generator=generator)
    assert total.tolist() == [0, 0]  # a capture computes nothing
    factor = 100  # of the host: it has no effect
    draws = []
    for value in (1, 2):
        given.fill_(value)
        graph.replay()
        draws += noise.tolist()
    assert total.tolist() == [9, 9]
    assert draws == torch.empty(4).exponential_(generator=torch.Generator().manual_seed(1)).tolist()
    assert generator.initial_seed() == 1


def test_what_a_graph_cannot_hold_is_refused():
    x, graph = zeros(2), torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"), torch.cuda.graph(graph):
        x.cpu()
    with pytest.raises(CannotBeCaptured), torch.cuda.graph(graph):
        x.exponential_(generator=torch.Generator("cuda"))


def test_a_stream_that_overtakes_another_is_found():
    side, x = torch.cuda.Stream(), zeros(3)
    with torch.cuda.stream(side), pytest.raises(Overtaken):
        x + 1  # may come before the zeros
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        y = x + 1
        read = side.record_event()
    with pytest.raises(Overtaken):
        x += 1  # may come before the sum
    torch.cuda.current_stream().wait_event(read)
    x += 1
    with torch.cuda.stream(side):
        y += 1
        y.cpu()  # after which the host knows that all is done
    y += x
    torch.cuda.synchronize()  # before the memory is given up


def test_memory_that_is_given_up_too_soon_is_found():
    side = torch.cuda.Stream()
    for keep in (True, False):
        x = zeros(3)
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            x + 1
        if keep:
            x.record_stream(side)
        del x
        gc.collect()
        assert bool(streams.FREED_TOO_SOON) == (not keep)
    streams.FREED_TOO_SOON.clear()
