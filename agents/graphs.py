"""CUDA graphs: work that is recorded once and replayed on the same memory, without the host's cost of each operator."""

from collections.abc import Callable

import torch

WARM_UPS = 3  # calls before the capture, in which libraries choose algorithms and kernels are loaded


def graphed(
    function: Callable[[], object], device: torch.device, generator: torch.Generator | None = None
) -> Callable[[], object]:
    """Call a function a few times, capture it as a CUDA graph, and return the replay.

    The function reads and writes the same tensors at every replay. Whatever else it computes on the host is done once.
    A replay draws new random numbers from `generator`, the only one besides the device's own that it may use.

    Raises RuntimeError if a graph cannot hold the function, for example because it reads a tensor on the host.
    """
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        if generator is not None:
            graph.register_generator_state(generator)
        # Other threads may use the GPU meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            function()
    return graph.replay
