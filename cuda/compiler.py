"""Compiles the kernels with NVRTC, which needs neither a GPU nor a host compiler, and caches the results."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cuda.bindings import nvrtc

from rfwp.cache import cache_folder

KERNELS = Path(__file__).parent / "kernels"
FLAGS = ("--std=c++17", "--ptxas-options=-v")
DIGEST_BYTES = hashlib.sha256().digest_size


class Compiled(NamedTuple):
    """A kernel that the driver can load."""

    symbol: str  # its name in the image
    image: bytes  # cubin, or PTX for the driver to compile
    log: str  # of the compiler, with registers and spills; empty if the image came from the cache


def compile_kernel(source: str, kernel: str, architecture: str) -> Compiled:
    """Compile one kernel: source "rdn.cuh", kernel "rdn_forward<float, float, 32, Softmax>", architecture "sm_90".

    Raises RuntimeError with the compiler's log if it does not compile.
    """
    program = _check(
        nvrtc.nvrtcCreateProgram(
            f'#include "{source}"\nusing namespace rfwp;\n'.encode(),
            source.replace(".cuh", ".cu").encode(),
            len(_headers()),
            list(_headers().values()),
            [name.encode() for name in _headers()],
        )
    )
    try:
        expression = f"rfwp::{kernel}".encode()
        _check(nvrtc.nvrtcAddNameExpression(program, expression))
        flags = [flag.encode() for flag in (f"--gpu-architecture={architecture}", *FLAGS)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
        log = _read(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).decode(errors="replace")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeError(f"{source}: {kernel} does not compile for {architecture}:\n{log}")
        if architecture.startswith("sm_"):
            image = _read(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
        else:
            image = _read(program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
        return Compiled(_check(nvrtc.nvrtcGetLoweredName(program, expression)).decode(), image, log)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def cached_kernel(source: str, kernel: str, architecture: str) -> Compiled:
    """Return a kernel from the disk cache if it is there and intact; else compile and store it.

    The file name is a hash of everything that the image depends on. If the folder is not writable, nothing is stored.
    """
    name = f"{_key(source, kernel, architecture)}.bin"
    try:
        return _load(name)
    except (OSError, ValueError):
        compiled = compile_kernel(source, kernel, architecture)
    with suppress(OSError):  # a full or read-only disk only costs time at the next start
        _keep(name, compiled)
    return compiled


def pick_architecture(compute_capability: int, supported: Sequence[int]) -> str | None:
    """Return the target: 90 -> "sm_90"; PTX for a GPU newer than NVRTC; None for one that NVRTC dropped."""
    if compute_capability in supported:
        return f"sm_{compute_capability}"
    older = [each for each in supported if each < compute_capability]
    return f"compute_{max(older)}" if older else None


def supported_architectures() -> list[int]:
    """Return the compute capabilities that the installed NVRTC compiles for: 75, 80, ..."""
    return list(_check(nvrtc.nvrtcGetSupportedArchs()))


def nvrtc_version() -> tuple[int, int]:
    """Return the version of the installed NVRTC. Raises one of many exceptions if it cannot be loaded."""
    major, minor = _check(nvrtc.nvrtcVersion())
    return major, minor


@cache
def _headers() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(KERNELS.glob("*.cuh"))}


def _key(source: str, kernel: str, architecture: str) -> str:
    facts = (source, kernel, architecture, nvrtc_version(), FLAGS, sorted(_headers().items()))
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _load(name: str) -> Compiled:
    """Read a kernel from the cache. Raises OSError if it is not there, ValueError if it is damaged."""
    content = (cache_folder("kernels") / name).read_bytes()
    digest, body = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError(f"{name}: the content does not match its hash")
    symbol, _, image = body.partition(b"\0")
    return Compiled(symbol.decode(), image, log="")


def _keep(name: str, compiled: Compiled) -> None:
    """Write a kernel to the cache atomically, so that several processes may start at once."""
    folder, body = cache_folder("kernels"), compiled.symbol.encode() + b"\0" + compiled.image
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(body).digest() + body)
        os.replace(temporary, folder / name)
    except BaseException:
        os.unlink(temporary)
        raise


def _read(program: Any, size: Any, read: Any) -> bytes:
    content = bytearray(_check(size(program)))  # not bytes: Python shares bytes objects of length 1
    _check(read(program, content))
    return bytes(content)


def _check(result: tuple[Any, ...]) -> Any:
    """Return the values of a call without its status; raise RuntimeError if it failed."""
    status, *values = result
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"NVRTC: {nvrtc.nvrtcGetErrorString(status)[1].decode()}")
    return values[0] if len(values) == 1 else tuple(values)
