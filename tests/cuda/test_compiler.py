"""NVRTC compiles every kernel for every kind of GPU, within the registers that a GPU has."""

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import NamedTuple

import pytest

from rfwp.cuda.compiler import KERNELS, compile_kernel
from rfwp.cuda.launch import FEATURE_MAPS, HEAD_SIZES

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
INPUT_TYPES = ("float", "BFloat16")
FLAGS = ("false, false", "true, false", "true, true")  # of the delta kernels: corrects, decays
GATED = ("lstm_forward", "lstm_backward", "gru_forward", "gru_backward")


class Use(NamedTuple):
    """What a thread of a kernel takes of a multiprocessor."""

    registers: int  # of 255
    spilled: int = 0  # bytes that found no register


# By kernel, head size and feature map, the most of any architecture, type of input and flag. Some spill: a thread of
# rdn_backward holds 3 * 64 numbers of matrices.
LIMITS = {
    ("lstm_forward", None, None): Use(33),
    ("lstm_backward", None, None): Use(32),
    ("gru_forward", None, None): Use(30),
    ("gru_backward", None, None): Use(28),
    ("delta_forward", 16, None): Use(89),
    ("delta_forward", 32, None): Use(126),
    ("delta_forward", 64, None): Use(168),
    ("delta_backward", 16, None): Use(114),
    ("delta_backward", 32, None): Use(132),
    ("delta_backward", 64, None): Use(255),
    ("feedback_forward", 16, "Softmax"): Use(89),
    ("feedback_forward", 32, "Softmax"): Use(118),
    ("feedback_forward", 64, "Softmax"): Use(165),
    ("feedback_backward", 16, "Softmax"): Use(122),
    ("feedback_backward", 32, "Softmax"): Use(166),
    ("feedback_backward", 64, "Softmax"): Use(255),
    ("rdn_forward", 16, "Softmax"): Use(128),
    ("rdn_forward", 32, "Softmax"): Use(219),
    ("rdn_forward", 64, "Softmax"): Use(250),
    ("rdn_backward", 16, "Softmax"): Use(128),
    ("rdn_backward", 32, "Softmax"): Use(255),
    ("rdn_backward", 64, "Softmax"): Use(255, spilled=32),
    ("feedback_forward", 16, "UnitLength"): Use(91),
    ("feedback_forward", 32, "UnitLength"): Use(120),
    ("feedback_forward", 64, "UnitLength"): Use(162),
    ("feedback_backward", 16, "UnitLength"): Use(120),
    ("feedback_backward", 32, "UnitLength"): Use(168),
    ("feedback_backward", 64, "UnitLength"): Use(255),
    ("rdn_forward", 16, "UnitLength"): Use(128),
    ("rdn_forward", 32, "UnitLength"): Use(228),
    ("rdn_forward", 64, "UnitLength"): Use(250),
    ("rdn_backward", 16, "UnitLength"): Use(134),
    ("rdn_backward", 32, "UnitLength"): Use(255),
    ("rdn_backward", 64, "UnitLength"): Use(255, spilled=8),
}


def launchable(kernel: str, head_size: int | None, feature_map: str | None) -> list[str]:
    """The instantiations of a kernel that a GPU can be given; states are float32 there."""
    if head_size is None:
        return [f"{kernel}<float>"]
    if kernel == "rdn_backward":  # all that it reads was saved in the state's type
        return [f"{kernel}<float, {head_size}, {feature_map}>"]
    flags = FLAGS if feature_map is None else (feature_map,)
    return [f"{kernel}<float, {x}, {head_size}, {flag}>" for x, flag in product(INPUT_TYPES, flags)]


def source_of(kernel: str) -> str:
    """The file of a kernel."""
    name = kernel.partition("_")[0]
    return "gated.cuh" if name in ("lstm", "gru") else f"{name}.cuh"


def use(kernel: str, architecture: str) -> Use:
    """Compile an instantiation, and read from the log what it takes."""
    log = compile_kernel(source_of(kernel), kernel, architecture).log
    registers = re.search(r"Used (\d+) registers", log)
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert registers is not None, log
    assert spills is not None, log
    return Use(int(registers[1]), max(int(spills[1]), int(spills[2])))


def above_limit(limits: dict[str, Use], architecture: str) -> dict[str, Use]:
    """Compile these instantiations -> those that take more than they may."""
    with ThreadPoolExecutor() as pool:
        uses = dict(zip(limits, pool.map(lambda each: use(each, architecture), limits), strict=True))
    return {
        each: used
        for each, used in uses.items()
        if used.registers > limits[each].registers or used.spilled > limits[each].spilled
    }


def test_the_table_has_every_kernel_of_the_sources_and_every_head_size() -> None:
    text = "".join(path.read_text() for path in KERNELS.iterdir())
    kernels = re.findall(r"__global__\s+void\s+(?:__launch_bounds__\(D\)\s+)?(\w+)\(", text)
    assert len(kernels) == text.count("__global__ ")
    assert set(LIMITS) == {
        *product(GATED, [None], [None]),
        *product([each for each in kernels if each.startswith("delta")], HEAD_SIZES, [None]),
        *product([each for each in kernels if each.startswith(("feedback", "rdn"))], HEAD_SIZES, FEATURE_MAPS.values()),
    }


def test_nothing_spills_at_the_default_head_size() -> None:
    assert all(limit.spilled == 0 for (_, head_size, _), limit in LIMITS.items() if head_size == 32)


def test_the_default_core_compiles_within_its_registers() -> None:
    default = [("rdn_forward", 32, "Softmax"), ("rdn_backward", 32, "Softmax")]
    assert above_limit({each: LIMITS[kernel] for kernel in default for each in launchable(*kernel)}, "sm_90") == {}


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(ARCHITECTURES)), ids=ARCHITECTURES.__getitem__)
def test_every_kernel_compiles_within_its_registers(number) -> None:
    """Each architecture compiles every kernel at every head size, with types and flags that take turns."""
    turns = {kernel: launchable(*kernel) for kernel in LIMITS}
    assert max(map(len, turns.values())) <= len(ARCHITECTURES)  # so all of them get one
    limits = {each[number % len(each)]: LIMITS[kernel] for kernel, each in turns.items()}
    assert above_limit(limits, ARCHITECTURES[number]) == {}
