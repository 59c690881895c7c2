"""CUDA graphs: work that is recorded once and replayed on the same memory, without the host's cost of each operator."""

import warnings
from collections.abc import Callable

import torch

WARM_UPS = 3  # calls before the capture, in which libraries choose algorithms and kernels are loaded


class HostWaits(RuntimeError):
    """The host waits for the GPU within a function."""


def graphed(
    function: Callable[[], object], device: torch.device, generator: torch.Generator | None = None
) -> Callable[[], object]:
    """Call a function a few times, capture it as a CUDA graph, and return the replay.

    The function reads and writes the same tensors at every replay. Whatever else it computes on the host is done once.
    A replay draws new random numbers from `generator`, the only one besides the device's own that it may use.

    Raises HostWaits if the function reads a tensor on the host, which a graph cannot hold.
    """
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    function()
                _check_host(function)
        finally:  # also of a failure, after which the function's memory is used for something else
            torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        if generator is not None:
            graph.register_generator_state(generator)
        # Other threads may use the GPU meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            function()
    return graph.replay


def _check_host(function: Callable[[], object]) -> None:
    """Raise HostWaits if the host waits in the function: a capture would fail, and leave the generators unusable."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls this mode a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        function()
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        raise HostWaits("the host reads a tensor within a step") from error
    finally:
        torch.cuda.set_sync_debug_mode("default")
