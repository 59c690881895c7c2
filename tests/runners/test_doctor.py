"""`rfwp doctor` finds what is wrong, and the limits of containers count."""

import json
import os
import resource
from types import SimpleNamespace

import psutil
import pytest
import torch

from rfwp.agents import host
from rfwp.models.cores import rdn
from rfwp.runners.cli import main
from rfwp.runners.machine import doctor, resources


@pytest.fixture
def without_games(monkeypatch):
    monkeypatch.setattr(doctor, "_play", lambda: "passed")


def test_a_machine_that_works_gets_its_facts_and_exit_code_0(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "SELF_TEST_SECONDS", 0.01)
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    facts = report["facts"]
    assert facts["torch"] == torch.__version__
    assert facts["cores of the machine"] == os.cpu_count()
    assert facts["open files allowed"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert "steps/s of Pong" in facts["emulator self-test"]
    assert "passed on" in facts["kernel self-test"]
    assert all(problem["severity"] == "warning" for problem in report["problems"])


def test_a_kernel_that_computes_something_else_is_an_error(without_games, capsys, monkeypatch):
    forward = rdn.RecurrentDeltaNet.forward

    def wrong(self, x, state, first):
        output, state = forward(self, x, state, first)
        return output + 0.01, state

    monkeypatch.setattr(rdn.RecurrentDeltaNet, "forward", wrong)
    assert main(["doctor"]) == 1
    assert "error: the kernel self-test failed: the Recurrent Delta Net differs by" in capsys.readouterr().out


def test_few_open_files_and_little_shared_memory_are_said_with_what_to_do(without_games, capsys, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 64))
    monkeypatch.setattr(doctor, "ENOUGH_SHARED_MEMORY", 10**18)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "warning: only 64 files may be open; run `ulimit -n 1024` first" in shown
    assert "docker run --shm-size=1g" in shown


@pytest.mark.parametrize(("problem", "kernels"), [(None, "fused"), ("no driver", "none: PyTorch loops")])
def test_a_gpu_is_described_with_the_kernels_that_it_will_run(monkeypatch, problem, kernels):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (3_000_000, 8_000_000))
    monkeypatch.setattr("rfwp.cuda.available._problem", lambda: problem)
    report = doctor.Report()
    doctor._examine_gpu(report)
    assert (report.facts["kernels in use"], report.facts["GPU memory free"]) == (kernels, "3 MB of 8 MB")
    assert [found.what for found in report.problems] == ["the fused kernels cannot be used"] * (problem is not None)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "200000 100000\n"}, 2.0),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_the_cpu_limit_of_a_container_is_read(tmp_path, files, limit):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert host.cpu_limit(tmp_path) == limit


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"memory.max": "9000\n", "memory.current": "7000\n", "memory.stat": "file 500\ninactive_file 400\n"}, 2400),
        (
            {
                "memory/memory.limit_in_bytes": "9000\n",
                "memory/memory.usage_in_bytes": "9500\n",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 200\n",
            },
            0,
        ),
        ({"memory.max": "9000000\n", "memory.current": "0\n", "memory.stat": "inactive_file 0\n"}, 1_000_000),
        ({"memory.max": "max\n", "memory.current": "7000\n"}, 1_000_000),
        ({}, 1_000_000),
    ],
)
def test_the_memory_that_is_free_is_that_of_machine_and_container(tmp_path, monkeypatch, files, free):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=10**9, available=1_000_000))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert resources.free_memory(tmp_path) == free


@pytest.mark.parametrize(("limit", "cores"), [(None, 8), (0.5, 1), (1.5, 2), (64.0, 8)])
def test_the_cores_are_those_of_affinity_and_limit(monkeypatch, limit, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(host, "cpu_limit", lambda: limit)
    assert host.cores() == cores
