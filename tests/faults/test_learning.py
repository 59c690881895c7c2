"""Gradients that are not finite, and memory that runs out: what was learned is kept, and the cause is told."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from rfwp.agents.learner import Learner
from rfwp.models.cores import lstm
from rfwp.runners.cli import main
from rfwp.runners.runfolder.checkpoint import CheckpointStore
from rfwp.runners.training.memory_estimate import is_out_of_memory

TRAIN = (
    "train --env delayed_cue --core lstm --core.hidden_size 8 --encoder.size 8 --final_episodes 0"
    " --learner.batch_size 4 --actors.envs 8 --sync --total_steps 1_000_000"
).split()
USELESS = (  # weights of 1e37 and more after the first update
    "--core linear_transformer --core.num_heads 2 --learner.learning_rate 1e37"
).split()
GOOD = 7  # updates before it goes wrong


@pytest.fixture
def broken(monkeypatch):
    """Makes every update after the first GOOD ones learn from rewards that are not finite, or whatever is asked."""

    def install(break_it):
        learn = Learner.learn

        def learn_or_break(self, batch):
            return learn(self, break_it(self, batch) if self.version >= GOOD else batch)

        monkeypatch.setattr(Learner, "learn", learn_or_break)

    return install


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_ten_updates_in_a_row_that_are_not_finite_end_the_run_with_the_weights_from_before(
    tmp_path, capsys, broken, value
):
    before = {}

    def spoil(learner, batch):
        before.setdefault("weights", {name: each.clone() for name, each in learner.model.state_dict().items()})
        batch.behaviour.fill_(value)  # in place: what is dumped is what was learned from
        return batch

    broken(spoil)
    run = tmp_path / "run"
    assert main([*TRAIN, "--run", str(run)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "10 updates in a row were not finite" in error
    checkpoint = CheckpointStore(run / "checkpoints").find("last")
    assert checkpoint.load_trainer()["learner"]["version"] == GOOD + 10
    saved = load_file(checkpoint.folder / "weights.safetensors")
    assert all(torch.equal(saved[name], weights) for name, weights in before["weights"].items())
    (dump,) = run.glob("bad-batch-*.safetensors")
    assert str(dump) in error
    batch = load_file(dump)
    assert not batch["behaviour"].isfinite().any()
    assert {"observation.0", "reward", "first", "action", "version", "state.0"} <= batch.keys()


def test_single_updates_that_are_not_finite_are_skipped_and_counted(tmp_path, broken):
    def spoil_every_other(learner, batch):
        spoilt = batch._replace(behaviour=torch.full_like(batch.behaviour, float("nan")))
        return spoilt if learner.version % 2 else batch

    broken(spoil_every_other)
    run = tmp_path / "run"
    assert main([*TRAIN, "--total_steps", "3000", "--log_seconds", "1000", "--run", str(run)]) == 0
    assert 0 < json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["update_skipped"] < 1


@pytest.mark.parametrize("when", ["--total_steps 64", "--total_steps 2048 --checkpoint.minutes 1e-9"])
def test_weights_that_became_useless_in_the_newest_update_are_not_saved(tmp_path, capsys, when):
    assert main([*TRAIN, *USELESS, *when.split(), "--run", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "lower learner.learning_rate" in error
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_useless_weights_are_not_saved_when_the_run_is_told_to_stop(tmp_path, capsys, monkeypatch):
    learn = Learner.learn

    def learn_and_stop(self, batch):
        os.kill(os.getpid(), signal.SIGTERM)
        return learn(self, batch)

    monkeypatch.setattr(Learner, "learn", learn_and_stop)
    assert main([*TRAIN, *USELESS, "--run", str(tmp_path / "run")]) == 1
    assert "lower learner.learning_rate" in capsys.readouterr().err
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


OUT_OF_MEMORY = {
    "allocator": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "context": RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported asynchronously."),
    "pinned": torch.AcceleratorError("CUDA error: out of memory"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
    "python": MemoryError(),
}


def test_every_allocator_that_runs_out_is_recognised():
    assert [kind for kind, error in OUT_OF_MEMORY.items() if not is_out_of_memory(error)] == []
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


@pytest.mark.parametrize("kind", ["context", "python"])  # a RuntimeError, and one that is none
def test_memory_that_runs_out_later_names_the_sizes_and_keeps_a_checkpoint(tmp_path, capsys, broken, kind):
    def run_out(*words):
        raise OUT_OF_MEMORY[kind]

    def run_out_for_good(learner, batch):
        learner.model.forward = run_out  # whatever else it is asked
        run_out()

    broken(run_out_for_good)
    run = tmp_path / "run"
    assert main([*TRAIN, "--run", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    cause = str(OUT_OF_MEMORY[kind]).partition("\n")[0]
    for size in ("actors.envs 8", "learner.batch_size 4", "learner.unroll_length 16", "core lstm", cause):
        assert size in error
    assert CheckpointStore(run / "checkpoints").find("last").load_trainer()["learner"]["version"] == GOOD


def test_an_error_that_is_not_of_memory_is_not_taken_for_one(tmp_path, broken):
    def fail(learner, batch):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    broken(fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        main([*TRAIN, "--run", str(tmp_path / "run")])


def test_memory_that_runs_out_at_the_start_names_the_sizes_and_creates_nothing(tmp_path, capsys, monkeypatch):
    def run_out(self, input_size):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(lstm.Config, "build", run_out)
    assert main([*TRAIN, "--run", str(tmp_path / "run")]) == 2
    assert "learner.batch_size 4" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
