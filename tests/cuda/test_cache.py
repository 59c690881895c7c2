"""Compiled kernels are kept on the disk, and nothing that happens there breaks a start."""

import subprocess
import sys
from pathlib import Path

import pytest

from rfwp.cache import cache_folder
from rfwp.cuda import compiler
from rfwp.cuda.compiler import cached_kernel, pick_architecture

KERNEL = ("gated.cuh", "gru_backward<float>", "sm_90")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of a user who never compiled a kernel."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rfwp" / "kernels"


@pytest.fixture
def compiled(monkeypatch):
    """The kernels that had to be compiled."""
    names = []

    def compile_kernel(*arguments):
        names.append(arguments)
        return compiler.Compiled("symbol", b"\0image of " + repr(arguments).encode(), "log")

    monkeypatch.setattr(compiler, "compile_kernel", compile_kernel)
    return names


def test_a_kernel_is_compiled_once(folder, compiled):
    first, again = cached_kernel(*KERNEL), cached_kernel(*KERNEL)
    assert again[:2] == first[:2] == ("symbol", b"\0image of " + repr(KERNEL).encode())
    assert compiled == [KERNEL]
    (kept,) = folder.iterdir()
    assert kept.suffix == ".bin"


CHANGES = {
    "kernel": lambda patch: ("gated.cuh", "gru_forward<float>", "sm_90"),
    "architecture": lambda patch: (*KERNEL[:2], "sm_80"),
    "NVRTC": lambda patch: patch.setattr(compiler, "nvrtc_version", lambda: (13, 99)),
    "flags": lambda patch: patch.setattr(compiler, "FLAGS", (*compiler.FLAGS, "--use_fast_math")),
    "source": lambda patch: patch.setattr(
        compiler, "_headers", lambda: {path.name: path.read_bytes() + b" " for path in compiler.KERNELS.iterdir()}
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_what_decides_the_image_compiles_again(what, folder, compiled, monkeypatch):
    cached_kernel(*KERNEL)
    cached_kernel(*(CHANGES[what](monkeypatch) or KERNEL))
    assert len(compiled) == len(list(folder.iterdir())) == 2


DAMAGES = {
    "emptied": lambda content: b"",
    "cut short": lambda content: content[:-1],
    "cut to less than its hash": lambda content: content[:7],
    "changed in one bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "overwritten": lambda content: b"\xff" * len(content),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_rebuilt(how, folder, compiled):
    whole = cached_kernel(*KERNEL)
    (kept,) = folder.iterdir()
    content = kept.read_bytes()
    kept.write_bytes(DAMAGES[how](content))
    assert cached_kernel(*KERNEL)[:2] == whole[:2]
    assert len(compiled) == 2
    assert kept.read_bytes() == content


def test_a_folder_that_cannot_be_written_is_survived(folder, compiled):
    folder.parent.write_text("a file where the folder should be")
    assert cached_kernel(*KERNEL) == cached_kernel(*KERNEL)
    assert len(compiled) == 2


def test_a_full_disk_is_survived_and_leaves_nothing_behind(folder, compiled, monkeypatch):
    def replace(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiler.os, "replace", replace)
    assert cached_kernel(*KERNEL) == cached_kernel(*KERNEL)
    assert list(folder.iterdir()) == []


def test_a_user_without_a_home_is_served(compiled, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(compiler.os.path, "expanduser", lambda path: path)
    with pytest.raises(OSError, match="~"):
        cache_folder("kernels")
    assert cached_kernel(*KERNEL).symbol == "symbol"


START = """
import sys
from rfwp.cuda.compiler import cached_kernel
sys.stdin.readline()
sys.stdout.buffer.write(cached_kernel(*sys.argv[1:]).image)
"""


def test_processes_that_start_at_once_all_get_the_whole_kernel(folder):
    command = [sys.executable, "-c", START, *KERNEL]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for process in processes:
        process.stdin.write(b"go\n")
        process.stdin.flush()
    images = {process.communicate(timeout=300)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    (image,) = images
    assert image.startswith(b"\x7fELF")
    (kept,) = folder.iterdir()
    assert kept.read_bytes().endswith(image)
    assert cached_kernel(*KERNEL).image == image


def test_kernels_are_compiled_for_the_gpu_or_for_an_older_one():
    assert pick_architecture(90, [75, 80, 90]) == "sm_90"
    assert pick_architecture(101, [75, 80, 90]) == "compute_90"
    assert pick_architecture(70, [75, 80, 90]) is None


def test_a_gpu_newer_than_nvrtc_gets_assembly_that_its_driver_compiles():
    compiled = compiler.compile_kernel(*KERNEL[:2], "compute_90")
    assert b".target sm_90" in compiled.image
    assert f".entry {compiled.symbol}(".encode() in compiled.image
    assert bytes([32]) == b" "  # NVRTC wrote its empty log to memory of its own


def test_what_does_not_compile_says_why():
    with pytest.raises(RuntimeError, match="(?s)gru_backward<nonsense> does not compile for sm_90:.*undefined"):
        compiler.compile_kernel("gated.cuh", "gru_backward<nonsense>", "sm_90")


def test_every_kernel_file_is_read():
    assert set(compiler._headers()) == {path.name for path in Path(compiler.KERNELS).iterdir()}
