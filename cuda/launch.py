"""Starting kernels: what a launcher is, what kernels are called, and how their arguments are packed."""

import ctypes
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

Argument = Tensor | int | None

HEAD_SIZES = (16, 32, 64)
TYPE_NAMES = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "BFloat16"}


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
        """Queue a kernel: source "rdn.cuh", kernel "rdn_forward<float, float, 32>".

        Tensors go in as pointers, what is written to must be contiguous; ints are 32 bits wide; None is a null pointer.
        """


class Packed:
    """Arguments as cuLaunchKernel takes them: an array of pointers to the values. Keep it until the launch returns."""

    def __init__(self, arguments: Sequence[Argument]) -> None:
        self._tensors = [each.contiguous() if isinstance(each, Tensor) else each for each in arguments]
        self._values = [_value(each) for each in self._tensors]
        self.pointers = (ctypes.c_void_p * len(self._values))(*(ctypes.addressof(value) for value in self._values))

    @property
    def address(self) -> int:
        """Where the array of pointers lies."""
        return ctypes.addressof(self.pointers)


def _value(argument: Argument) -> ctypes.c_void_p | ctypes.c_int:
    if isinstance(argument, int):
        return ctypes.c_int(argument)
    return ctypes.c_void_p(argument.data_ptr() if argument is not None else None)


def input_type(state: Tensor, *inputs: Tensor | None) -> torch.dtype:
    """Choose the one data type that a kernel reads all its inputs in: bfloat16 if they have it, else the state's.

    Under autocast they come in several.
    """
    in_bfloat16 = all(each is None or each.dtype == torch.bfloat16 for each in inputs)
    return torch.bfloat16 if in_bfloat16 else state.dtype


def check_state(*states: Tensor) -> None:
    """ValueError for a state that a kernel cannot change in place."""
    for state in states:
        if not state.is_contiguous():
            raise ValueError(f"state: got strides {state.stride()}; allowed: a contiguous tensor")
