"""Command lines and config files: what wins, what is refused, and that every refusal is one line that helps."""

import re
import shlex
from pathlib import Path
from typing import Literal

import pytest
import torch
import yaml
from sequence_runs import LISTS

from rfwp.models.cores import lstm, rdn
from rfwp.models.encoders import impala, shallow
from rfwp.runners.cli import main
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.settings import components
from rfwp.runners.settings.config_file import read_config_file
from rfwp.runners.settings.glance import names_a_task
from rfwp.runners.settings.kinds import AGENT
from rfwp.runners.settings.layers import config_from_values, merge, to_dict
from rfwp.runners.settings.options import config_from_words, read_command_line
from rfwp.runners.settings.values import convert

REPOSITORY = Path(__file__).parents[2]


def config(words: str = "", base: dict | None = None):
    if base is None:
        return config_from_words(["--preset", "cpu", *words.split()])
    return read_command_line(words.split(), below=merge(AGENT.preset("cpu", {}, None), base)).config


def documented_commands() -> list[str]:
    """The complete words after `rfwp train` in the README and in docs/."""
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
    return [words for page in pages for words in re.findall(r"(?:`|\n)rfwp train (--[^`\n]*[^`\n.])", page.read_text())]


@pytest.mark.parametrize("words", documented_commands())
def test_the_command_lines_of_the_docs_are_understood(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunFolder(tmp_path / "runs" / "pong")
    run.create()
    run.write_config(config())
    config_from_words([word for word in shlex.split(words) if word != "--help"])


def test_a_long_command_line_is_understood():
    made = config(
        "--env.game pong --env.protocol dqn --core rdn --core.num_heads 4 --preset cpu --total_steps 2_000_000"
        " --learner.learning_rate 6e-4 --learner.unroll_length 50 --learner.batch_size 32 --seed 1"
    )
    assert (made.env.game, made.env.protocol) == ("pong", "dqn")
    assert isinstance(made.core, rdn.Config)
    assert made.total_steps == 2_000_000
    assert (made.learner.unroll_length, made.learner.batch_size, made.learner.learning_rate) == (50, 32, 6e-4)


def test_the_paper_preset_holds_the_published_settings():
    made = config_from_words(["--preset", "paper"])
    assert isinstance(made.encoder, impala.Config)
    learner = made.learner
    assert (learner.unroll_length, learner.batch_size, made.actors.envs) == (50, 32, 48)
    assert (learner.learning_rate, learner.rmsprop_decay, learner.rmsprop_epsilon) == (6e-4, 0.99, 0.01)
    assert learner.gradient_clip == 40.0
    objective = made.objective
    assert (objective.discount, objective.reward_clip) == (0.99, 1.0)
    assert (objective.baseline_cost, objective.entropy_cost) == (0.5, 0.01)
    assert (made.total_steps, made.initialisation) == (200_000_000, "default")


def test_the_cpu_preset_has_the_small_encoder():
    assert isinstance(config().encoder, shallow.Config)


def test_a_toy_task_gets_the_toy_preset():
    assert components.name_of(config_from_words(["--env", "delayed_cue"]).encoder) == "flat"


def test_the_toy_preset_gives_keys_unit_length_and_the_published_settings_keep_their_maps():
    def map_of(preset, core):
        return config_from_words(["--env", "recall", "--preset", preset, "--core", core]).core.feature_map

    cores = ["linear_transformer", "delta_net", "rdn", "srwm"]
    assert [map_of("toy", core) for core in cores] == ["l2"] * 4
    assert [map_of("paper", core) for core in cores] == ["elu_sum_norm"] * 2 + ["softmax"] * 2
    assert not hasattr(config_from_words(["--env", "recall", "--core", "lstm"]).core, "feature_map")


def test_the_rate_of_the_toy_preset_is_that_of_the_core():
    rates = {core: config_from_words(["--env", "recall", "--core", core]).learner for core in ("gru", "delta_net")}
    assert {core: learner.learning_rate for core, learner in rates.items()} == {"gru": 2e-3, "delta_net": 5e-4}
    assert rates["gru"].unroll_length == rates["delta_net"].unroll_length == 16


def test_command_line_over_config_file_over_preset():
    base = {"learner": {"unroll_length": 7, "batch_size": 3}, "seed": 5}
    made = config("--learner.batch_size 4", base)
    assert (made.learner.unroll_length, made.learner.batch_size, made.seed) == (7, 4, 5)


def test_another_core_leaves_the_settings_of_the_core_in_the_config_file_behind():
    base = {"core": {"name": "rdn", "num_heads": 2}}
    assert config("", base).core == rdn.Config(num_heads=2)
    assert config("--core lstm", base).core == lstm.Config()


@pytest.mark.parametrize("core", components.names("core"))
def test_a_config_survives_its_file(core):
    made = config(f"--core {core} --env.game pong --seed 3")
    assert config_from_values(yaml.safe_load(yaml.safe_dump(to_dict(made)))) == made


WRONG = [
    ("--learner.unroll_length 0", "learner.unroll_length: got 0; allowed: "),
    ("--learner.unroll_length x", "learner.unroll_length: got x; allowed: a whole number"),
    ("--learner.learning_rate -1", "learner.learning_rate: got -1"),
    ("--learner.learning_rate nan", "learner.learning_rate: got nan"),
    ("--total_steps 1.5", "total_steps: got 1.5; allowed: a whole number"),
    ("--total_steps 0", "total_steps: got 0"),
    ("--sync maybe", "sync: got maybe; allowed: true or false"),
    ("--precision float16", "precision: got float16; allowed: auto, float32, bfloat16"),
    ("--core rdm", "core: got 'rdm'; allowed: .*did you mean rdn"),
    ("--core=", "core: got ''"),
    ("--encoder resnet", "encoder: got 'resnet'; allowed: flat, impala, nature, shallow"),
    ("--env pacman", "env: got 'pacman'; allowed: .*atari"),
    ("--env.game pnog", "env.game: got 'pnog'.*pong"),
    ("--env.protocol paper", "env.protocol: got paper; allowed: dqn, machado"),
    ("--preset big", "preset: got 'big'; allowed: paper, gpu, cpu, toy, memory"),
    ("--core.num_head 3", "core.num_head: there is no such option.*core.num_heads"),
    ("--core.hidden_size 101", "core.hidden_size: got 101; allowed: a multiple of num_heads = 4"),
    ("--core.gradient_horizon 0", "core.gradient_horizon: got 0"),
    ("--core.feature_map relu", "core.feature_map: got relu; allowed: .*softmax"),
    ("--actors.envs 7", "actors.envs: got 7; allowed: a multiple of groups"),
    (
        "--encoder.channels 16 --encoder impala",
        r"encoder.channels: got 16; allowed: a list as in \[2, 4\], each",
    ),
    ("--seed -1", "seed: got -1"),
    ("--total_steps", "total_steps.*expected one argument"),
    ("stray", "stray: "),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_a_wrong_word_gets_one_line_with_the_field_the_value_and_what_is_allowed(words, message):
    with pytest.raises(UserError, match=message) as caught:
        config(words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"learner": 3}, "learner"),
        ({"learnr": {"unroll_length": 3}}, "learnr"),
        ({"learner": {"unroll_lenght": 3}}, "learner.unroll_lenght.*unroll_length"),
        ({"learner": {"unroll_length": "long"}}, "learner.unroll_length: got long"),
        ({"learner": {"unroll_length": [1]}}, "learner.unroll_length"),
        ({"total_steps": {"a": 1}}, "total_steps"),
        ({"core": {"name": "nonesuch"}}, "core: got 'nonesuch'"),
        ({"core": {"name": ["rdn"]}}, "core: got"),
        ({3: 4}, "3"),
        ({"learner": {None: 4}}, "learner"),
        ({"sync": None}, "sync"),
    ],
)
def test_a_wrong_config_file_gets_one_line(base, message):
    with pytest.raises(UserError, match=message) as caught:
        config("", base)
    assert "\n" not in str(caught.value)


@pytest.fixture
def config_file(tmp_path):
    """Writes a config file."""

    def write(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learnr: {unroll_length: 3}", "learnr: got {'unroll_length': 3} in '.*'; there is no such setting.*learner"),
        ("learner: 3", "learner: got 3 in '.*'; allowed: its settings, one per line"),
        ("learner:", "learner: got None in "),
        ("core: 3", "core: got 3 in '.*'; allowed: its name or its settings"),
        ("core: lstn", "core: got 'lstn'; allowed: .*did you mean lstm"),
    ],
)
def test_a_wrong_field_of_a_config_file_gets_one_line(config_file, text, message):
    with pytest.raises(UserError, match=message) as caught:
        config_from_words(["--config", str(config_file(text)), "--core", "rdn"])
    assert "\n" not in str(caught.value)


def test_a_config_file_may_name_components_as_the_command_line_does(config_file):
    made = config_from_words(["--config", str(config_file("core: lstm\nenv: recall"))])
    assert (made.core, made.env.title) == (lstm.Config(), "recall")


def test_on_a_machine_with_a_gpu_the_preset_follows_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [AGENT.default_preset({}, device) for device in (None, "auto", "cuda:1", "cpu")] == ["gpu"] * 3 + ["cpu"]


NO_CONFIG = [
    *("", "- a\n- b\n", "a: [", "\0", "[" * 1000),
    *("seed: 1\nseed: 1", "core:\n  name: rdn\n  name: rdn", "core: &a\n  name: *a", "? [seed]\n: 1", "[seed, 1]: 1"),
]


@pytest.mark.parametrize("text", NO_CONFIG)
def test_a_file_that_is_no_config_is_refused(config_file, text):
    with pytest.raises(UserError, match="config"):
        read_config_file(config_file(text))


def test_a_config_file_runs_no_code(config_file, tmp_path):
    mark = tmp_path / "made"
    with pytest.raises(UserError, match="could not determine a constructor"):
        read_config_file(config_file(f"seed: !!python/object/apply:os.mkdir ['{mark}']"))
    assert not mark.exists()


@pytest.mark.parametrize(("text", "seed"), [("010", 10), ("+7", 7), ("1_000", 1000), ("0", 0)])
def test_numbers_in_a_config_file_are_decimal(config_file, text, seed):
    words = ["--env", "recall"]
    assert config_from_words([*words, "--config", str(config_file(f"seed: {text}"))]).seed == seed
    assert config_from_words([*words, "--seed", text]).seed == seed


@pytest.mark.parametrize("text", ["0x10", "0b11", "1:30", "2026-01-01", "2020-13-45", "1e3", "!!binary aGVsbG8="])
def test_a_number_in_a_config_file_that_is_none_on_the_command_line_is_refused(config_file, text):
    with pytest.raises(UserError, match="seed: got .*; allowed: a whole number"):
        config_from_words(["--env", "recall", "--config", str(config_file(f"seed: {text}"))])


@pytest.mark.parametrize("key", ["run", "preset", "config"])
def test_what_belongs_on_the_command_line_is_refused_in_a_file(config_file, key):
    with pytest.raises(UserError, match=f"{key}: got 'paper'.*only on the command line"):
        read_config_file(config_file(f"{key}: paper\n"))


@pytest.mark.parametrize("words", ["", "--core delta_mlp", "--core lstm", "--env recall --encoder flat"])
def test_every_setting_has_a_help_text(words, capsys):
    with pytest.raises(SystemExit):
        main(["train", *words.split(), "--help"])
    entries = re.split(r"\n  (?=-)", capsys.readouterr().out.partition("\n\n")[2])[1:]
    bare = [entry for entry in entries if len(entry.partition("; default: ")[0].split()) < 4]
    assert bare == []


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        *((int, value) for value in (True, 1.5, "1.5", "", "x", None, [1])),
        *((float, value) for value in (True, "nan", "inf", "-inf", float("inf"), 10**400, "1e999", "", None)),
        *((bool, value) for value in (2, "yes", "True", None)),
        *((str, value) for value in (1, None, ["x"])),
        *((int | None, value) for value in (True, "none", "")),
        *((tuple[int, ...], value) for value in ("1", "[1, x]", "[1, true]", "[1", 1, None)),
        *((Literal["a", "b"], value) for value in ("c", "", None, ["a"])),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_no_setting(hint, value):
    with pytest.raises(ValueError):  # noqa: PT011
        convert(hint, value)


@pytest.mark.parametrize(
    ("hint", "value", "converted"),
    [
        *((int, "2_000", 2000), (float, "3e-4", 3e-4), (float, 2, 2.0), (bool, "true", True), (bool, False, False)),
        *((int | None, "null", None), (int | None, None, None), (int | None, "3", 3)),
        *((tuple[int, ...], "[2, 4]", (2, 4)), (tuple[str, ...], ["x"], ("x",)), (Literal["a", "b"], "b", "b")),
    ],
    ids=str,
)
def test_text_and_values_of_yaml_become_settings(hint, value, converted):
    found = convert(hint, value)
    assert (found, type(found)) == (converted, type(converted))


def test_a_command_line_about_a_task_is_known_by_a_glance(tmp_path):
    tasks, agents = tmp_path / "tasks" / "run", tmp_path / "agents" / "run"
    for folder, words in ((tasks, LISTS), (agents, ["--env", "recall"])):
        run = RunFolder(folder)
        run.create()
        run.write_config(config_from_words(words))
        (folder / "checkpoints" / "step-1").mkdir()
    for known in (["--task", "listops"], ["--task=listops"], *([str(path)] for path in (tasks, tasks.parent))):
        assert names_a_task(known)
    assert names_a_task(["--seed", "3", f"--run={tasks}"])
    assert names_a_task([str(tasks / "checkpoints" / "step-1")])
    assert names_a_task(["--config", str(tasks / "config.yaml")])
    assert not any(map(names_a_task, ([], ["--env", "recall"], [str(agents)], [str(tmp_path / "none")], ["--json="])))
