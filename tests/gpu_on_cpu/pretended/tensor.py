"""Tensors that say `cuda:0`."""

from typing import Any

import torch
from torch.utils._mode_utils import no_dispatch
from torch.utils._pytree import tree_map

from pretended import graph, streams
from pretended.counts import LAUNCHES
from pretended.streams import Memory, current_stream

CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")
# Operators whose result the host reads, or needs to know its size.
READING = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2"}
ALLOCATING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


class MixedDevices(RuntimeError):
    """An operator got tensors of two devices."""


class Pretended(torch.Tensor):
    """A tensor on the pretended GPU, whose numbers are in `inner`, on the CPU."""

    inner: torch.Tensor
    memory: Memory

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Pretended":
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=CUDA,
        )
        self.inner, self.memory = inner, streams.memory_of(inner)
        return self

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(operator, args, kwargs or {})

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"{self.inner} on a pretended GPU"

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        copy: torch.Tensor = self.detach().clone()
        memo[id(self)] = torch.nn.Parameter(copy, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copy
        return memo[id(self)]

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()

    def record_stream(self, stream: Any) -> None:
        self.memory.record_stream(stream)

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy: use Tensor.cpu() first")

    def __reduce_ex__(self, protocol: Any) -> Any:  # to be saved
        return self.detach().cpu().__reduce_ex__(protocol)

    def tolist(self) -> Any:
        return self.cpu().tolist()


def run(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute an operator as a GPU would. Returns tensors on the GPU, or on the CPU where it copies them there."""
    name = operator._schema.name.partition("::")[2]
    given = {id(unwrapped(each)): each for each in graph.tensors_of((args, kwargs))}
    on_gpu = [each for each in given.values() if isinstance(each, Pretended)]
    asked = kwargs.get("device")
    to_gpu = bool(on_gpu) if asked is None else torch.device(asked).type == "cuda"
    crosses = to_gpu != bool(on_gpu) if name == "_to_copy" else name == "copy_" and len(on_gpu) < len(given)
    if on_gpu and not crosses:
        check_devices(operator, [each for each in given.values() if not isinstance(each, Pretended)])

    queued = not operator.is_view and name not in ALLOCATING
    if queued:
        queue(operator, name, args, kwargs)
        if waits(name, args, kwargs, crosses):
            streams.host_waits(name)
    results = compute(operator, args, kwargs, queued)

    def wrapped(value: Any) -> Any:
        if id(value) in given:  # of an operator that works in place
            return given[id(value)]
        if not (to_gpu and isinstance(value, torch.Tensor)):
            return value
        new = Pretended(value)
        if queued:
            note(new.memory, writes=True)
        return new

    return tree_map(wrapped, results)


def queue(operator: Any, name: str, args: Any, kwargs: dict[str, Any]) -> None:
    """Queue an operator on the current stream, or in the graph that is being captured."""
    if graph.capturing() is None:
        LAUNCHES[name] += 1
        current_stream().queue()
    for position, argument in enumerate(operator._schema.arguments):
        value = args[position] if position < len(args) else kwargs.get(argument.name)
        for each in graph.tensors_of(value):
            if isinstance(each, Pretended):
                note(each.memory, writes=argument.alias_info is not None and argument.alias_info.is_write)


def note(memory: Memory, writes: bool) -> None:
    """Note that the operator that is being queued uses a memory."""
    captured = graph.capturing()
    if captured is None:
        memory.use(current_stream(), writes)
    else:
        captured.use(memory, writes)


def compute(operator: Any, args: Any, kwargs: dict[str, Any], queued: bool) -> Any:
    """Return what an operator computes on the CPU, from the numbers of its tensors."""
    plain_args, plain_kwargs = tree_map(unwrapped, (args, kwargs))
    if kwargs.get("device") is not None:
        plain_kwargs["device"] = CPU
    plain_kwargs |= {option: False for option in ("pin_memory", "non_blocking") if plain_kwargs.get(option)}
    results = operator(*plain_args, **plain_kwargs)
    if torch.Tag.inplace_view in operator.tags:  # t_ and the like: change the shape of the outer tensor, too
        with no_dispatch():
            operator(*args, **kwargs)
    captured = graph.capturing()
    if captured is not None and queued:
        captured.record(operator, plain_args, plain_kwargs, results)
    return results


def unwrapped(value: Any) -> Any:
    return value.inner if isinstance(value, Pretended) else value


def check_devices(operator: Any, others: list[torch.Tensor]) -> None:
    """Raise MixedDevices for tensors on the CPU, but not for indices, or a scalar where a number may be."""
    name = operator._schema.name
    takes_numbers = torch.Tag.pointwise in operator.tags or "foreach" in name or name == "aten::fill_"
    if "index" not in name and any(each.dim() > 0 or not takes_numbers for each in others):
        raise MixedDevices(f"{operator}: tensors on cuda:0 and, of shape {[*others[0].shape]}, on the CPU")


def waits(name: str, args: Any, kwargs: dict[str, Any], crosses: bool) -> bool:
    """Return whether the host waits for an operator."""
    if crosses:
        return not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
    if name in ("index", "index_put_"):
        indices = [each for each in args[1] if each is not None]
        return any(each.dtype == torch.bool or not isinstance(each, Pretended) for each in indices)
    return name in READING
