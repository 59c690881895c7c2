"""Tensors as files: safetensors, and what torch.save writes. Loading runs no code.

PyTorch takes a second to import, so what only reads records must not import this module at its top.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from rfwp.runners.machine.errors import UserError


def as_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors as the content of a safetensors file."""
    return save({name: tensor.contiguous() for name, tensor in tensors.items()})


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file. Raise UserError if it is damaged."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"checkpoint: {path} is damaged: {error}") from None
    return tensors


def batch_tensors(batch: NamedTuple) -> dict[str, Tensor]:
    """Return the tensors of a batch by name; those of a field that is a tuple are numbered."""
    tensors: dict[str, Tensor] = {}
    for name, value in batch._asdict().items():
        leaves = {f"{name}.{index}": leaf for index, leaf in enumerate(value)} if isinstance(value, tuple) else {}
        tensors |= {name: value} if isinstance(value, Tensor) else leaves
    return tensors


def as_torch_file(values: dict[str, Any]) -> bytes:
    """Return what torch.save writes as bytes, so that a full disk always raises OSError."""
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


def read_torch_file(path: Path) -> dict[str, Any]:
    """Read tensors and plain values. Raise UserError if the file is damaged or holds anything else."""
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types; each means a damaged file
        raise UserError(f"checkpoint: {path} is damaged: {str(error).splitlines()[0]}") from None
    return values
