"""A pytest plugin that sets the pretended GPU up: `pytest -p pretended.plugin`."""

import contextlib
import ctypes
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gxx import build

HERE = Path(__file__).parent
BUILT = HERE.parents[2] / "build" / "pretended"


def build_guard() -> Path:
    """Build guard.cpp against the installed PyTorch, unless it is built already."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    torch, source = Path(str(spec.origin)).parent, HERE / "guard.cpp"
    include, lib = torch / "include", torch / "lib"
    flags = ["-shared", "-fPIC", "-O1", f"-I{include}", f"-I{include}/torch/csrc/api/include"]
    flags += [f"-L{lib}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{lib}"]
    return build(BUILT, source, flags, [source, torch / "version.py"])


assert "torch" not in sys.modules, "the pretended GPU must be set up before PyTorch is imported"
ctypes.CDLL(str(build_guard()))

import pytest  # noqa: E402
import torch  # noqa: E402
from kernels_on_cpu import CpuLauncher, compile_for_cpu, library  # noqa: E402
from torch.optim.optimizer import _foreach_supported_types as in_optimisers  # noqa: E402
from torch.utils._foreach_utils import _foreach_supported_types as in_clipping  # noqa: E402

from pretended import counts, graph, streams, tensor  # noqa: E402
from rfwp.cuda import available  # noqa: E402
from rfwp.cuda.launchers import running  # noqa: E402

__all__ = ["compile_for_cpu", "library"]


class Generator(torch.Generator):
    """A generator on the CPU that says where it was asked for."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        return super().__new__(cls, "cpu")

    def __init__(self, device: Any = "cpu") -> None:
        self._device = tensor.CUDA if torch.device(device).type == "cuda" else tensor.CPU

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._device


STAND_INS: dict[str, Any] = {
    "CUDAGraph": graph.CUDAGraph,
    "Event": streams.Event,
    "Stream": streams.Stream,
    "_lazy_init": lambda: None,
    "cudart": lambda: SimpleNamespace(cudaHostRegister=lambda *_: 0, cudaHostUnregister=lambda *_: 0),
    "current_device": lambda: 0,
    "current_stream": streams.current_stream,
    "device": lambda device: contextlib.nullcontext(),
    "device_count": lambda: 1,
    "get_device_capability": lambda device=None: (9, 0),
    "get_device_name": lambda device=None: "a pretended GPU",
    "get_device_properties": lambda device=None: SimpleNamespace(uuid="pretended", total_memory=80 << 30),
    "get_rng_state": lambda device=None: torch.get_rng_state(),
    "graph": graph.graph,
    "is_available": lambda: True,
    "is_bf16_supported": lambda *_, **__: True,
    "is_current_stream_capturing": lambda: graph.capturing() is not None,
    "manual_seed_all": lambda seed: None,
    "max_memory_reserved": lambda device=None: 1 << 20,
    "mem_get_info": lambda device=None: (80 << 30, 80 << 30),
    "memory_reserved": lambda device=None: 1 << 20,
    "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
    "set_sync_debug_mode": streams.set_sync_debug_mode,
    "stream": streams.on_stream,
    "synchronize": streams.synchronize,
}


def set_up() -> None:
    for name, stand_in in STAND_INS.items():
        setattr(torch.cuda, name, stand_in)
    torch.Generator = Generator  # type: ignore[misc]
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    for supported in (in_optimisers, in_clipping):
        supported.append(tensor.Pretended)
    # Operators without an argument on the pretended GPU, which are asked for results there.
    _operators.fallback(lambda operator, *args, **kwargs: tensor.run(operator, args, kwargs), "CUDA")


_operators = torch.library.Library("_", "IMPL")
set_up()


@pytest.fixture(autouse=True)
def pretended_gpu(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets the kernels run on the pretended GPU, and finds memory that was given up too soon."""
    monkeypatch.setattr(available, "_problem", lambda: None)
    counts.reset()
    streams.FREED_TOO_SOON.clear()
    with running("cpu", CpuLauncher(library)):  # operators get the tensors within
        yield
    assert not streams.FREED_TOO_SOON
