"""Launching kernels: the launcher interface, and how kernels are named and their arguments packed."""

import ctypes
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

Argument = Tensor | int | None

HEAD_SIZES = (16, 32, 64)
TYPE_NAMES = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "BFloat16"}
FEATURE_MAPS = {"softmax": "Softmax", "l2": "UnitLength"}  # those that kernels compute, and their names there


class Launcher(Protocol):
    """Runs kernels on one type of device."""

    def launch(
        self,
        source: str,
        kernel: str,
        num_blocks: int,
        num_threads: int,
        arguments: Sequence[Argument],
        shared_bytes: int = 0,
    ) -> None:
        """Queue a kernel: source "rdn.cuh", kernel "rdn_forward<float, float, 32, Softmax>".

        Tensors are passed as pointers; those written to must be contiguous. Ints are 32-bit; None is a null pointer.
        """


class Packed:
    """Arguments for cuLaunchKernel: an array of pointers to the values. Keep it alive until the launch returns."""

    def __init__(self, arguments: Sequence[Argument]) -> None:
        self._tensors = [each.contiguous() if isinstance(each, Tensor) else each for each in arguments]
        self._values = [_value(each) for each in self._tensors]
        self.pointers = (ctypes.c_void_p * len(self._values))(*(ctypes.addressof(value) for value in self._values))

    @property
    def address(self) -> int:
        """Address of the array of pointers."""
        return ctypes.addressof(self.pointers)


def _value(argument: Argument) -> ctypes.c_void_p | ctypes.c_int:
    if isinstance(argument, int):
        return ctypes.c_int(argument)
    return ctypes.c_void_p(argument.data_ptr() if argument is not None else None)


def device_of(kernel: str, arguments: Sequence[Argument]) -> torch.device:
    """Return the device of all tensors. Raise ValueError for several, whose addresses mean nothing to each other."""
    devices = {each.device for each in arguments if isinstance(each, Tensor)}
    if len(devices) != 1:
        raise ValueError(f"{kernel}: got tensors on {', '.join(sorted(map(str, devices)))}; allowed: one device")
    return devices.pop()


def input_type(state: Tensor, *inputs: Tensor | None) -> torch.dtype:
    """Return the data type for all inputs of a kernel: bfloat16 if all have it, else the state's.

    Under autocast, inputs may differ in type.
    """
    in_bfloat16 = all(each is None or each.dtype == torch.bfloat16 for each in inputs)
    return torch.bfloat16 if in_bfloat16 else state.dtype


def check_state(*states: Tensor) -> None:
    """Raise ValueError if a kernel cannot change a state in place."""
    for state in states:
        if not state.is_contiguous():
            raise ValueError(f"state: got strides {state.stride()}; allowed: a contiguous tensor")
