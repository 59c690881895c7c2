"""Whole runs through the command line's own functions and processes: real games, real signals, real files."""

import copy
import gzip
import json
import os
import signal
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from waiting import HANGS, interrupt_twice, shared_memory, wait_for, wait_until_freed, whole_lines

from rfwp.agents import host
from rfwp.agents.actor_learner import ActorLearner, Update
from rfwp.agents.metrics import Episode
from rfwp.runners.bench.workloads import synthetic_batch
from rfwp.runners.cli import main
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.settings import components
from rfwp.runners.settings.options import config_from_words
from rfwp.runners.training.agent_training import AgentTraining
from rfwp.runners.training.memory_estimate import kept_bytes, unroll_bytes
from rfwp.runners.training.trainer import Trainer

SMALL = "--encoder.size 16 --actors.envs 8 --learner.batch_size 4 --learner.unroll_length 5 --log_seconds 0.2".split()
TOY = ["--env", "delayed_cue", "--final_episodes", "0", *SMALL]
ENDLESS = [*TOY, "--total_steps", "1_000_000_000"]
PONG = (
    "--env.game pong --preset cpu --core lstm --core.hidden_size 32 --final_episodes 0"
    " --actors.envs 8 --learner.batch_size 4 --log_seconds 0.5"
).split()


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in whole_lines(run / "metrics.jsonl")]


def checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").iterdir())


def trainer_state(run: Path) -> dict:
    return torch.load(checkpoints(run)[-1] / "trainer.pt", weights_only=True)


def same(ours, theirs) -> bool:
    """Bit for bit, through nested dicts and lists of tensors and plain values."""
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs


def has_trained(run: Path) -> bool:
    return (run / "metrics.jsonl").exists() and len(lines(run)) >= 2


def alive(children: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are still there a moment later."""
    return psutil.wait_procs(children, timeout=HANGS)[1]


def test_the_same_seed_gives_the_same_run_bit_for_bit_with_any_number_of_cores(tmp_path, monkeypatch):
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        words = [*TOY, "--core", "rdn", "--sync", "true", "--seed", str(seed), "--total_steps", "600"]
        assert main(["train", *words, "--run", str(tmp_path / name)]) == 0
        monkeypatch.setattr(host, "cores", lambda: 8)  # the next one, on another machine
    one, two, other = (
        load_file(checkpoints(tmp_path / n)[-1] / "weights.safetensors") for n in ("one", "two", "other")
    )
    assert same(one, two)
    assert not same(one, other)
    states = [trainer_state(tmp_path / name) for name in ("one", "two")]
    for state in states:
        del state["wall_seconds"]
    assert same(*states)


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    run = str(tmp_path / "run")
    assert main(["train", *TOY, "--total_steps", "400", "--run", run]) == 0
    before = trainer_state(tmp_path / "run")
    assert main(["train", "--run", run, "--total_steps", "800"]) == 0
    after = trainer_state(tmp_path / "run")
    assert (before["learner"]["steps"], after["learner"]["steps"]) == (400, 800)
    assert after["learner"]["version"] == 2 * before["learner"]["version"]
    assert after["training"]["episodes"]["count"] > before["training"]["episodes"]["count"]
    assert after["wall_seconds"] > before["wall_seconds"]
    steps = [line["steps"] for line in lines(tmp_path / "run")]
    assert steps == sorted(set(steps))
    assert {400, 800} <= set(steps)
    versions = [line["updates"] for line in lines(tmp_path / "run")]
    assert versions == [step // 20 for step in steps]


class Watcher:
    """A display that shows nothing and stops the run once it has got so far."""

    def __init__(self, system, at):
        self.system, self.at = system, at

    def advance(self, steps):
        if steps >= self.at:
            self.system.stop()

    def update(self, line): ...

    def note(self, message): ...


@pytest.mark.parametrize("core", ["lstm", "rdn --core.dropout 0.1"])
def test_a_run_taken_up_from_its_files_equals_the_one_that_was_stopped_bit_for_bit(tmp_path, monkeypatch, core):
    words = [*TOY, "--core", *core.split(), "--sync", "--seed", "3", "--total_steps", "2_000"]
    config, folder = config_from_words(words), RunFolder(tmp_path / "run")
    folder.create()
    batches = []
    update = ActorLearner.update
    monkeypatch.setattr(ActorLearner, "update", lambda self, batch: [batches.append(batch), update(self, batch)][1])
    first = ActorLearner(config)
    stopped = Trainer(AgentTraining(config, first), folder, Watcher(first, at=400))
    stopped.run()
    assert first.learner.version == len(batches) == 20
    state = copy.deepcopy(stopped.state_dict())

    second = ActorLearner(config)
    assert not same(second.agent.state_dict(), first.agent.state_dict())
    resumed = Trainer(AgentTraining(config, second), folder, Watcher(second, at=0))
    resumed.resume(folder.checkpoints.find("last"))
    assert same(second.agent.state_dict(), first.agent.state_dict())
    assert same(resumed.state_dict(), state)  # with the generators, of which one is of the whole process
    assert second.learner.learning_rate == first.learner.learning_rate

    for batch in batches:
        learned = []
        for system in (first, second):
            torch.set_rng_state(state["random"])
            learned.append(system.learner.learn(batch))
        assert same(*learned)
        assert same(first.agent.state_dict(), second.agent.state_dict())
    torch.set_rng_state(state["random"])
    after = stopped.state_dict()
    assert same(resumed.state_dict(), after)
    assert not same(after["learner"], state["learner"])


def test_a_complete_run_is_left_as_it_is(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", *TOY, "--total_steps", "200", "--run", str(run)]) == 0
    before = (run / "metrics.jsonl").read_text()
    assert main(["train", "--run", str(run)]) == 0
    assert "complete" in capsys.readouterr().out
    assert (run / "metrics.jsonl").read_text() == before


def test_a_complete_run_is_evaluated_once(tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    assert main(["train", *TOY, "--total_steps", "200", "--final_episodes", "2", "--run", str(run)]) == 0
    monkeypatch.setattr("rfwp.runners.training.agent_training.run_evaluation", None)
    assert main(["train", "--run", str(run)]) == 0
    assert "score it again" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", ["--core lstm", "--core.num_layers 1", "--encoder.size 17", "--env.delay 3", "--learner.optimiser adam"]
)
def test_a_change_that_cannot_be_resumed_is_refused_with_both_values(tmp_path, capsys, words):
    run = tmp_path / "run"
    assert main(["train", *TOY, "--core", "rdn", "--total_steps", "200", "--run", str(run)]) == 0
    before = (run / "config.yaml").read_text()
    assert main(["train", "--run", str(run), *words.split()]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "got" in message
    assert "started with" in message
    assert (run / "config.yaml").read_text() == before


@pytest.mark.parametrize(
    ("words", "number", "code"),
    [
        pytest.param(PONG, signal.SIGINT, 130, id="pong", marks=pytest.mark.slow),
        pytest.param(ENDLESS, signal.SIGTERM, 143, id="toy"),
    ],
)
def test_a_signal_saves_and_ends_every_process(start, tmp_path, words, number, code):
    run, shared = tmp_path / "run", shared_memory()
    process = start("train", *words, "--run", str(run))
    wait_for(lambda: has_trained(run))
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    os.killpg(process.pid, number)  # as a terminal and a scheduler do
    output, _ = process.communicate(timeout=HANGS)
    assert process.returncode == code, output
    assert "Traceback" not in output
    assert f"rfwp train --run {run}" in output
    assert not alive(children)
    wait_until_freed(shared)
    steps = int(checkpoints(run)[-1].name.removeprefix("step-"))
    assert steps == lines(run)[-1]["steps"]


@pytest.mark.slow
def test_pong_is_trained_to_its_end_and_scored_and_scored_again(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", *PONG, "--total_steps", "2_000", "--final_episodes", "2", "--run", str(run)]) == 0
    assert lines(run)[-1]["steps"] >= 2000
    assert "pong: 2 full episodes" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--episodes", "2", "--json", "-"]) == 0
    again = json.loads(capsys.readouterr().out)
    (first,) = (json.loads(path.read_text()) for path in (run / "eval").iterdir())
    assert {**again, "weights": first["weights"]} == first  # the same weights, seed and policy
    assert -21 <= again["mean"] <= 21


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once_and_leaves_no_process(start, tmp_path):
    run = tmp_path / "run"
    process = start("train", *ENDLESS, "--run", str(run))
    wait_for(lambda: has_trained(run))
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    (run / "checkpoints").rmdir()
    (run / "checkpoints").touch()  # what a clean stop tries for some seconds to write to
    interrupt_twice(process, handled="checkpoints cannot be written")
    output, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 130
    assert output == ""  # not even what is lost
    assert not alive(children)


def test_killing_the_main_process_leaves_no_actor_behind(start, tmp_path):
    run, shared = tmp_path / "run", shared_memory()
    process = start("train", *ENDLESS, "--run", str(run))
    wait_for(lambda: has_trained(run))
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert not alive(children)
    wait_until_freed(shared)


@pytest.mark.slow
def test_a_killed_actor_is_replaced_and_the_run_goes_on(start, tmp_path):
    run = tmp_path / "run"
    process = start("train", *ENDLESS, "--run", str(run))
    wait_for(lambda: has_trained(run))
    actors = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    actors[0].kill()
    steps = lines(run)[-1]["steps"]
    wait_for(lambda: lines(run)[-1]["steps"] > steps + 2000 and lines(run)[-1]["actor_restarts"] == 1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=HANGS)
    assert "it was replaced" in output
    assert process.returncode == 130


def test_a_folder_in_use_is_refused(start, tmp_path, capsys):
    run = tmp_path / "run"
    process = start("train", *ENDLESS, "--run", str(run))
    wait_for(lambda: has_trained(run))
    assert main(["train", "--run", str(run)]) == 2
    assert f"in use by process {process.pid}" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_left_untouched(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["train", *TOY, "--run", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_a_profile_holds_the_asked_for_updates_and_the_phases_of_both_threads(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", *TOY, "--total_steps", "400", "--profile", "10", "--run", str(run)]) == 0
    assert str(run / "profile.json.gz") in capsys.readouterr().out
    with gzip.open(run / "profile.json.gz") as file:
        events = json.load(file)["traceEvents"]
    threads = {}
    for event in events:
        threads.setdefault(event.get("name"), []).append(event.get("tid"))
    assert len(threads["forward"]) == len(threads["optimise"]) == 10
    assert len(set(threads["forward"])) == 1
    assert set(threads["act"]).isdisjoint(threads["forward"])
    assert "aten::addmm" in threads


@pytest.mark.parametrize("updates", ["-1", "many"])
def test_a_wrong_number_of_updates_to_profile_is_refused(tmp_path, capsys, updates):
    assert main(["train", *TOY, f"--profile={updates}", "--run", str(tmp_path / "run")]) == 2
    assert f"profile: got {updates}; allowed: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("core", ["feedforward", "lstm", "linear_transformer", "rdn", "delta_mlp"])
@pytest.mark.parametrize("length", [5, 40])
def test_the_predicted_memory_of_an_unroll_is_what_one_more_in_the_batch_takes(core, length):
    words = f"--preset cpu --core {core} --learner.unroll_length {length} --learner.batch_size"
    systems = [ActorLearner(config_from_words([*words.split(), games])) for games in ("2", "3")]
    few, more = (
        kept_bytes(partial(each.config.objective.loss, each.agent, synthetic_batch(each), 0)) for each in systems
    )
    predicted = unroll_bytes(systems[0].agent, systems[0].config.env.spec(), length + 1)
    assert predicted == pytest.approx(more - few, rel=0.1)


SLOWER = dict.fromkeys(("lstm", "transformer", "delta_mlp"), 60_000)  # agent steps


def learned_return(tmp_path: Path, core: str, steps: int) -> float:
    words = (
        f"--env delayed_cue --env.delay 2 --core {core} --total_steps {steps} --seed 1 --final_episodes 0 --sync"
        " --actors.processes 2 --precision float32".split()
    )
    assert main(["train", *words, "--run", str(tmp_path / core)]) == 0
    return lines(tmp_path / core)[-1]["return_mean"]


@pytest.mark.slow
@pytest.mark.parametrize("core", [name for name in components.names("core") if name != "feedforward"])
def test_a_recurrent_core_learns_what_needs_memory(tmp_path, core):
    assert learned_return(tmp_path, core, SLOWER.get(core, 30_000)) > 0.8


@pytest.mark.slow
def test_no_memory_is_no_better_than_chance_at_what_needs_it(tmp_path):
    assert learned_return(tmp_path, "feedforward", 30_000) < 0.45  # chance is 1/4


def test_the_score_of_an_agent_waits_for_a_hundred_episodes():
    config = config_from_words("--env recall --core gru --device cpu".split())
    training = AgentTraining(config, ActorLearner(config))
    for number in range(1, 101):
        episode = Episode(score=float(number), length=1)
        training.note(Update(1, number, {}, None, (episode,), ()), tell=print)
        assert training.score == (50.5 if number == 100 else None)
