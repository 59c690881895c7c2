"""`rfwp evaluate`: what it prints, writes and refuses, for one run and for several."""

import errno
import json
import os
import re
import shutil

import pytest
import torch

from rfwp.agents.metrics import Episode
from rfwp.envs.worlds import atari
from rfwp.runners.cli import main
from rfwp.runners.evaluation.scoreboard import Line, aggregate_lines, run_evaluation
from rfwp.runners.evaluation.scoring import Evaluation
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.runfolder.manifest import digest
from rfwp.runners.runfolder.records import read_run
from rfwp.runners.settings.options import config_from_words


def test_evaluate_prints_and_writes_what_it_found(tmp_path, capsys):
    run = str(tmp_path / "run")
    train = "train --env delayed_cue --total_steps 200 --final_episodes 3 --encoder.size 8".split()
    assert main([*train, "--learner.batch_size", "4", "--actors.envs", "8", "--run", run]) == 0
    assert main(["evaluate", run, "--episodes", "6", "--policy", "greedy", "--json", str(tmp_path / "out.json")]) == 0
    shown = capsys.readouterr().out
    facts = json.loads((tmp_path / "out.json").read_text())
    assert (facts["episodes"], facts["policy"], len(facts["returns"])) == (6, "greedy", 6)
    assert facts["steps"] >= 200
    assert f"{facts['mean']:,.2f}" in shown
    assert list((tmp_path / "run" / "eval").glob("*-final.json"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--episodes 0", "episodes: got 0; allowed: a whole number of at least 1"),
        ("--policy best", "policy: got best; allowed: sampled, greedy"),
        ("--checkpoint 77", "checkpoint: got '77'; allowed: best, last, "),
        ("--score points", "score: got points; allowed: episode, life, both"),
        ("--score both", "score: got both; allowed: episode, because delayed_cue has no lives"),
        ("--protocol dqn", "protocol: got 'dqn'; allowed: none, because delayed_cue has no protocols"),
        ("--drop_negative", "drop_negative: applies to lives only; add --score life"),
        ("--device gpu9", "device: got 'gpu9'; allowed: "),
    ],
)
def test_wrong_words_get_one_line(tmp_path_factory, capsys, words, message):
    run = tmp_path_factory.getbasetemp() / "a-run"
    if not run.exists():
        train = "train --env delayed_cue --total_steps 100 --final_episodes 0 --encoder.size 8".split()
        assert main([*train, "--learner.batch_size", "4", "--actors.envs", "8", "--run", str(run)]) == 0
    assert main(["evaluate", str(run), *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Atari runs of no training at all: Pong and Breakout under dqn, Pong under machado."""
    parent = tmp_path_factory.mktemp("atari")
    few = "--preset cpu --total_steps 1 --final_episodes 0 --actors.envs 4 --learner.batch_size 2 --encoder.size 8"
    for name, words in {"pong": "pong", "breakout": "breakout", "sticky": "pong --env.protocol machado"}.items():
        words = f"train --env.game {words} --env.max_frames 400 --core feedforward {few} --run {parent / name}"
        assert main(words.split()) == 0
    return parent


def test_several_runs_stand_in_one_table_with_reference_scores_and_aggregates(runs, capsys, tmp_path):
    file = tmp_path / "all.json"
    words = ["evaluate", str(runs / "pong"), str(runs / "breakout"), "--episodes", "1", "--score", "both"]
    assert main([*words, "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    facts = json.loads(file.read_text())
    assert [(each["env"], each["score"], each["policy"]) for each in facts] == [
        ("pong", "episode", "sampled"),
        ("pong", "life", "greedy"),
        ("breakout", "episode", "sampled"),
        ("breakout", "life", "greedy"),
    ]
    assert "pong, dqn: random -20.7; human 14.6; IMPALA shallow (50M) 20.4; IMPALA deep (50M) 21.0" in shown
    human = [each["normalised_percent"] for each in facts if each["score"] == "episode"]
    assert f"normalised over 2 environments: mean {sum(human) / 2:,.1f} %" in shown


def line(game: str, steps: int, score: float, words: str = "") -> Line:
    env = "--env recall" if game == "recall" else f"--env.game {game}"
    config = config_from_words(f"--preset cpu {env} --core gru {words}".split())
    scored = Evaluation(config.env, "sampled", "episode", 0, steps, 4 * steps, [Episode(score, 9)])
    return Line(f"{game}-{steps}", config, scored, None)


def test_scores_are_taken_together_over_games_only_after_the_same_steps_by_the_same_settings():
    # Random play scores 1.7 in Breakout and -20.7 in Pong: 0 %; the human 30.5 and 14.6: 100 %.
    young = [line("breakout", 0, 1.7, "--seed 2"), line("pong", 0, -20.7)]
    trained = [line("breakout", 9000, 30.5), line("pong", 9000, 14.6)]
    larger = [line("breakout", 9000, 30.5, "--core.hidden_size 9"), line("pong", 9000, 14.6, "--core.hidden_size 9")]
    none, all_of_it = (f"mean {x} %, median {x} %, interquartile mean {x} %." for x in ("0.0", "100.0"))
    assert aggregate_lines([*young, *trained]) == [
        f"gru after 0 agent steps, normalised over 2 environments: {none}",
        f"gru after 9,000 agent steps, normalised over 2 environments: {all_of_it}",
    ]
    for mixed in ([*trained, *larger], [young[0], trained[1]]):
        (said,) = aggregate_lines(mixed)
        assert said.startswith(
            "Scores of a core are aggregated over environments only for runs with the same agent steps"
        )


def test_mixed_protocols_are_refused_unless_asked_for_and_then_marked(runs, capsys):
    words = ["evaluate", str(runs), "--episodes", "1"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "protocol: got runs of several, dqn (" in error
    assert error.count("\n") == 1
    assert main([*words, "--mixed"]) == 0
    shown = capsys.readouterr().out
    assert "protocol" in shown
    assert "machado" in shown
    assert "normalised over" not in shown


def test_scores_are_taken_together_within_a_suite_only():
    atari_lines, toy_line = [line("breakout", 9000, 30.5), line("pong", 9000, 14.6)], line("recall", 9000, 2.0)
    assert toy_line.either.normalised == 0.5
    assert aggregate_lines([toy_line, *atari_lines]) == aggregate_lines(atari_lines) != []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--protocol atari", "protocol: got 'atari'; allowed: dqn, machado"),
        ("--score life", "because a lost life does not end an episode under machado (it does under dqn)"),
    ],
)
def test_a_run_by_another_protocol_is_told_what_it_can_do(runs, capsys, words, message):
    assert main(["evaluate", str(runs / "sticky"), *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_another_protocol_is_played_with_the_actions_that_the_agent_knows(runs, capsys):
    words = ["evaluate", str(runs / "pong"), str(runs / "sticky"), "--episodes", "1", "--protocol", "machado"]
    assert main(words) == 0
    assert "not as in" in capsys.readouterr().out
    (path,) = (runs / "pong" / "eval").glob("*-x1-protocol=machado-actions=minimal-seed0.json")
    facts = json.loads(path.read_text())
    assert (facts["protocol"], facts["changed"]) == ("machado", {"protocol": "machado", "actions": "minimal"})
    other = atari.Config("pong").under("machado")
    assert (other.rules.sticky, other.rules.full_actions, other.spec().action_sizes) == (0.25, False, (6,))


def test_other_settings_of_the_environment_are_scored_apart(tmp_path, capsys):
    run = tmp_path / "run"
    train = "train --env t_maze --env.length 2 --total_steps 200 --final_episodes 3 --encoder.size 8".split()
    assert main([*train, "--learner.batch_size", "4", "--actors.envs", "8", "--run", str(run)]) == 0
    assert main(["evaluate", str(run), "--env.length", "2,5", "--episodes", "9"]) == 0
    shown = capsys.readouterr().out
    assert [row.split().count("length") for row in shown.splitlines() if row.startswith(" run  t_maze")] == [0, 1]
    lengths = {}
    for path in (run / "eval").glob("*-x9-*.json"):
        facts = json.loads(path.read_text())
        lengths[facts["changed"].get("length"), path.name.partition("-x9-")[2]] = facts["lengths"]
    assert lengths.keys() == {(None, "seed0.json"), (5, "length=5-seed0.json")}
    assert min(lengths[5, "length=5-seed0.json"]) > 5
    assert max(lengths[None, "seed0.json"]) <= 4 * (2 + 1)
    own = json.loads(next((run / "eval").glob("*-x9-seed0.json")).read_text())
    assert read_run(RunFolder(run)).final("sampled").score == own["mean"]


def test_checkpoints_are_scored_one_by_one_or_all(runs, capsys):
    (checkpoint,) = (runs / "pong" / "checkpoints").iterdir()
    for place in (checkpoint, checkpoint.parent):
        assert main(["evaluate", str(place), "--episodes", "1"]) == 0
        assert "pong: 1 full episodes" in capsys.readouterr().out


def test_an_evaluation_of_fewer_games_takes_the_place_of_no_other(runs, tmp_path):
    shutil.copytree(runs / "pong", tmp_path / "pong", ignore=shutil.ignore_patterns("eval"))
    for episodes in ("2", "1"):
        assert main(["evaluate", str(tmp_path / "pong"), "--episodes", episodes]) == 0
    written = [json.loads(path.read_text()) for path in (tmp_path / "pong" / "eval").iterdir()]
    assert sorted(facts["episodes"] for facts in written) == [1, 2]


@pytest.mark.parametrize("file", ["manifest.json", "weights.safetensors"])
def test_a_damaged_run_among_several_is_left_out_and_named(runs, tmp_path, capsys, file):
    shutil.copytree(runs / "pong", tmp_path / "whole")
    shutil.copytree(runs / "pong", tmp_path / "damaged")
    next((tmp_path / "damaged").glob(f"checkpoints/*/{file}")).unlink()
    assert main(["evaluate", str(tmp_path), "--episodes", "1"]) == 1
    shown = capsys.readouterr()
    assert "pong: 1 full episodes" in shown.out
    assert "rfwp evaluate: left out: checkpoint: " in shown.err
    assert shown.err.count("\n") == 1


def test_an_agent_that_cannot_be_scored_as_asked_is_left_out_and_named(runs, tmp_path, capsys, monkeypatch):
    shutil.copytree(runs / "pong", tmp_path / "pong")
    shutil.copytree(runs / "breakout", tmp_path / "breakout")
    monkeypatch.setattr("rfwp.runners.evaluation.scoring.PATIENCE", 0)  # lives of Pong are lost by negative scores
    assert main(["evaluate", str(tmp_path), "--episodes", "1", "--score", "life", "--drop_negative"]) == 1
    shown = capsys.readouterr()
    assert "breakout: 5 single lives" in shown.out
    assert re.search("left out: drop_negative: .* \\(in pong\\)\n", shown.err)
    assert main(["evaluate", str(tmp_path / "pong"), "--episodes", "1", "--score", "life", "--drop_negative"]) == 2


def test_what_is_no_run_among_several_is_left_out_and_named(runs, tmp_path, capsys):
    stray, empty = tmp_path / "comparison.json", tmp_path / "empty"
    stray.write_text("{}")
    empty.mkdir()
    assert main(["evaluate", str(stray), str(runs / "pong"), str(empty), "--episodes", "1"]) == 1
    shown = capsys.readouterr()
    assert "pong: 1 full episodes" in shown.out
    assert [f"got {str(place)!r}" in line for place, line in zip((stray, empty), shown.err.splitlines(), strict=True)]


def test_a_checkpoint_that_training_has_pruned_since_is_replaced_by_the_newest(runs, tmp_path, capsys, monkeypatch):
    shutil.copytree(runs / "pong", tmp_path / "pong")
    (old,) = (tmp_path / "pong" / "checkpoints").iterdir()
    newer = old.with_name("step-000000001000")

    def prune(device):
        shutil.copytree(old, newer)
        manifest = json.loads((newer / "manifest.json").read_text())
        manifest["steps"] = 1000
        manifest["sha256"]["manifest.json"] = digest(manifest)
        (newer / "manifest.json").write_text(json.dumps(manifest))
        shutil.rmtree(old)
        return torch.device("cpu")

    monkeypatch.setattr("rfwp.runners.machine.resources.pick_device", prune)  # after the runs were looked at
    assert main(["evaluate", str(tmp_path / "pong"), "--episodes", "1"]) == 0
    assert "1,000 agent steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    "failing", ["rfwp.runners.commands.evaluate.film", "rfwp.runners.runfolder.evaluations.write_whole"]
)
def test_scores_are_shown_and_written_as_asked_even_if_what_follows_fails(runs, tmp_path, capsys, monkeypatch, failing):
    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "place")

    shutil.copytree(runs / "pong", tmp_path / "pong")
    monkeypatch.setattr(failing, fail)
    json_file = ["--video", "--json", str(tmp_path / "scores.json")] if failing.endswith("film") else []
    assert main(["evaluate", str(tmp_path / "pong"), "--episodes", "1", *json_file]) == 1
    shown = capsys.readouterr()
    assert "pong: 1 full episodes" in shown.out
    assert shown.err == "rfwp evaluate: left out: place: No space left on device (in pong)\n"
    if json_file:
        assert json.loads((tmp_path / "scores.json").read_text())["episodes"] == 1


def test_scores_so_far_are_shown_after_ctrl_c(runs, capsys, monkeypatch):
    scored = []

    def interrupted(*arguments, **options):
        if scored:
            raise KeyboardInterrupt
        scored.append(run_evaluation(*arguments, **options))
        return scored[0]

    monkeypatch.setattr("rfwp.runners.commands.evaluate.run_evaluation", interrupted)
    assert (
        main(["evaluate", str(runs / "pong"), str(runs / "breakout"), "--episodes", "1", "--json", os.devnull]) == 130
    )
    assert "pong: 1 full episodes" in capsys.readouterr().out
