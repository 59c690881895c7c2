"""No race, no bad access, no undefined behaviour: every kernel runs under sanitizers, which are shown to find such."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from rfwp.cuda.compiler import KERNELS

Drive = Callable[..., subprocess.CompletedProcess[str]]

THREADS = ("-g", "-fsanitize=thread")
ACCESSES = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture
def drive(compile_for_cpu) -> Drive:
    """Builds drive.cpp with some flags, from the kernels or a changed copy, and runs it until the first report."""

    def run(*flags: str, kernels: Path = KERNELS, words: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        program = compile_for_cpu(Path(__file__).parent / "on_cpu" / "drive.cpp", *flags, kernels=kernels)
        environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1"}
        return subprocess.run([program, *words], capture_output=True, text=True, env=environment, timeout=600)

    return run


class Barrier(NamedTuple):
    """A line of the sources where threads wait for each other."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def barriers() -> list[Barrier]:
    """Every barrier but those inside `sync`, of which all others are calls."""
    return [
        Barrier(path.name, number)
        for path in sorted(KERNELS.iterdir())
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "sync<D>();" in line
    ]


def change(copy: Path, file: str, line: int, old: str, new: str) -> None:
    """Change one line of a copy of the sources."""
    lines = (copy / file).read_text().splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    (copy / file).write_text("\n".join(lines))


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the sources, to be changed."""
    return Path(shutil.copytree(KERNELS, tmp_path / "kernels"))


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> Path:
    """A copy of the sources in which every barrier asks whether it is the one to be left out."""
    copy = Path(shutil.copytree(KERNELS, tmp_path_factory.mktemp("numbered") / "kernels"))
    for number, barrier in enumerate(barriers()):
        change(copy, *barrier, "sync<D>();", f"if (!on_cpu::left_out({number})) sync<D>();")
    return copy


def line_of(file: str, text: str) -> int:
    """The number of the one line that holds a text."""
    (number,) = (n for n, line in enumerate((KERNELS / file).read_text().splitlines(), 1) if text in line)
    return number


def family(file: str) -> str:
    """The kernels that show a change of a file; those of the RDN use all that is shared."""
    return f'-DKERNELS="{"rdn" if file == "common.cuh" else Path(file).stem}"'


@pytest.mark.parametrize(
    ("flags", "sizes"),
    [
        pytest.param((*THREADS, "-DFEWER_SIZES"), 2, id="threads"),
        pytest.param(ACCESSES, 3, id="accesses", marks=pytest.mark.slow),
    ],
)
def test_every_kernel_is_clean_and_two_schedules_give_the_same_bits(flags, sizes, drive) -> None:
    ran = drive("-O0", *flags)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    # Three delta rules, and two recurrences with two feature maps each, in each head size; and the two cells.
    assert re.findall(r": (.*)", ran.stdout) == ["ok"] * (7 * sizes + 2)


def test_all_barriers_are_calls_that_the_next_test_removes() -> None:
    text = "".join(path.read_text() for path in KERNELS.iterdir())
    assert len(re.findall(r"sync<D>\(\)", text)) == len(barriers()) > 10
    within_sync = text.partition("void sync() {")[2].partition("\n}")[0]
    for kind in ("__syncwarp(", "__syncthreads("):
        assert text.count(kind) == within_sync.count(kind) > 0


@pytest.mark.slow
@pytest.mark.parametrize("barrier", barriers(), ids=str)
def test_without_this_barrier_there_is_a_race(barrier, drive, numbered) -> None:
    words = (str(barriers().index(barrier)),)
    ran = drive("-O0", "-DFEWER_SIZES", family(barrier.file), *THREADS, kernels=numbered, words=words)
    assert ran.returncode != 0
    assert "WARNING: ThreadSanitizer: data race" in ran.stderr or "SCHEDULES DIFFER" in ran.stdout


PLANTED = {
    "past shared memory": ("rdn.cuh", "dq_input[i] = own_dq_input;", "dq_input[2 * D + i]", "global-buffer-overflow"),
    "past an array of the caller": (
        "rdn.cuh",
        "d_read_before[n * D + i]",
        "d_read_before[n * D + i + 1]",
        "heap-buffer",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_bad_access_is_found(what, drive, copy) -> None:
    file, place, new, report = PLANTED[what]
    change(copy, file, line_of(file, place), place.partition(" = ")[0], new)
    ran = drive("-O0", "-DFEWER_SIZES", family(file), *ACCESSES, kernels=copy)
    assert ran.returncode != 0
    assert report in ran.stderr


def test_a_gpu_that_would_hang_is_noticed(drive, copy) -> None:
    """A barrier that only some threads of a block reach."""
    line = line_of("delta.cuh", "if (now.reset) clear<D>(W);")
    change(copy, "delta.cuh", line, "if (now.reset)", "if (threadIdx.x) { __syncthreads(); } if (now.reset)")
    ran = drive("-O0", "-DFEWER_SIZES", family("delta.cuh"), kernels=copy)
    assert "a GPU would hang" in ran.stderr
