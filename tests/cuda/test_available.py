"""Whether kernels can be used, and the one warning where they cannot."""

import re
import sys
import warnings

import pytest
import torch

from rfwp.cuda import available, compiler, driver

HERE = 90  # the compute capability of the GPU that these tests make believe in


@pytest.fixture(autouse=True)
def _a_machine_with_everything(monkeypatch):
    """No GPU is touched: what is asked of it is answered here."""
    monkeypatch.setattr(compiler, "nvrtc_version", lambda: (13, 0))
    monkeypatch.setattr(compiler, "supported_architectures", lambda: [75, 80, 90])
    monkeypatch.setattr(driver, "driver_version", lambda: (13, 1))
    monkeypatch.setattr(driver, "compute_capability", lambda device: HERE)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    available._problem.cache_clear()
    yield
    available._problem.cache_clear()


def asked(times=3, dtype=torch.float32, head_size=32):
    """The answers for a GPU, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answers = {available.available("cuda", dtype, head_size) for _ in range(times)}
    return answers, [str(warning.message) for warning in caught]


def fails(*_):
    raise RuntimeError("cannot open shared object file\nand more")


def test_nothing_is_missing_and_nothing_is_said():
    assert asked() == ({True}, [])


@pytest.mark.parametrize("head_size", [8, 33, 128])
def test_sizes_without_a_kernel_need_no_warning(head_size):
    assert asked(head_size=head_size) == ({False}, [])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_types_without_a_kernel_need_no_warning(dtype):
    assert asked(dtype=dtype) == ({False}, [])


def test_the_switch_needs_no_warning(monkeypatch):
    monkeypatch.setenv("RFWP_KERNELS", "off")
    monkeypatch.setattr(compiler, "nvrtc_version", fails)
    assert asked() == ({False}, [])


def test_a_cpu_needs_no_warning(monkeypatch):
    monkeypatch.setattr(compiler, "nvrtc_version", fails)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not available.available("cpu", torch.float32, 32)


MISSING = {
    "NVRTC": (
        (compiler, "nvrtc_version", fails),
        "NVRTC cannot be loaded .*object file.; pip install 'nvidia-cuda-nvrtc",
    ),
    "driver": ((driver, "driver_version", fails), "driver cannot be loaded .*; install NVIDIA's driver for CUDA 13"),
    "newer driver": (
        (driver, "driver_version", lambda: (12, 8)),
        "supports CUDA 12.8, .* 13.0: install a newer driver",
    ),
    "newer GPU": ((driver, "compute_capability", lambda device: 61), "capability is 6.1, .* 7.5: install nvidia-cuda-"),
    "NVIDIA": ((torch.version, "hip", "7.0"), "NVIDIA's GPUs"),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_is_missing_is_said_once(what, monkeypatch):
    patch, message = MISSING[what]
    monkeypatch.setattr(*patch)
    answers, (warning,) = asked()
    assert answers == {False}
    assert warning.startswith("fused kernels are not used")
    assert "\n" not in warning
    assert re.search(message, warning)


def test_missing_bindings_are_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "rfwp.cuda.driver")
    monkeypatch.delattr("rfwp.cuda.driver")
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    answers, (warning,) = asked()
    assert answers == {False}
    assert "pip install 'cuda-bindings" in warning
