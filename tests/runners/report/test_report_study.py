"""What runs show together: nothing mixed, nothing counted twice, no more than the evidence says."""

import json
import shutil

import numpy as np
import pytest
from reports import report, said, scores, study

from rfwp.runners.machine.errors import UserError
from rfwp.runners.report import tables
from rfwp.runners.report.palette import CORES, marks
from rfwp.runners.report.study import common_grid
from rfwp.runners.report.writer import write_report
from rfwp.runners.runfolder.folder import RunFolder


def test_games_and_protocols_are_never_mixed(make_run, tmp_path):
    make_run(tmp_path, "breakout", "lstm", 1, score=10.0)
    make_run(tmp_path, "pong", "lstm", 1, score=-20.0)
    make_run(tmp_path, "pong", "lstm", 2, score=0.0, words="--env.protocol machado")
    rows, warned = report(tmp_path, tmp_path / "report")
    assert [(row["task"], row["score"]) for row in rows] == [
        ("breakout (protocol dqn)", "10.0"),
        ("pong (protocol dqn)", "-20.0"),
        ("pong (protocol machado)", "0.0"),
    ]
    assert "Runs on Atari differ in env.protocol (dqn, machado)" in warned
    assert not (tmp_path / "report" / "figures" / "aggregates.svg").exists()


@pytest.mark.parametrize(
    ("game", "setting", "names"),
    [
        ("delayed_cue", "delay", {2: "delay 2", 50: "delay 50"}),
        ("breakout", "max_frames", {1000: "max_frames 1,000", 108_000: "max_frames 108,000"}),
    ],
)
def test_a_game_in_worlds_of_other_settings_is_several_tasks(make_run, tmp_path, game, setting, names):
    for score, (value, name) in enumerate(names.items(), start=1):
        make_run(tmp_path / name, game, "lstm", 1, score=score, words=f"--env.{setting} {value}")
    found = {row["task"]: (row["seeds"], row["score"]) for row in scores(tmp_path)}
    assert found == {f"{game} ({name})": (1, score) for score, name in enumerate(names.values(), start=1)}
    assert "seed 1 more than once" not in said(tmp_path)
    assert ("Runs on Atari differ in env.max_frames (1,000, 108,000)" in said(tmp_path)) == (game == "breakout")


def test_an_agent_whose_memory_is_another_on_another_task_is_named(make_run, tmp_path):
    make_run(tmp_path, "breakout", "lstm", 1, score=1.0, words="--core.hidden_size 16")
    make_run(tmp_path, "pong", "lstm", 1, score=1.0, words="--core.hidden_size 512")
    assert "lstm does not have the same memory on all tasks: core.hidden_size is 16, 512." in said(tmp_path)


def test_runs_of_one_core_with_other_settings_are_another_agent(make_run, tmp_path):
    make_run(tmp_path / "a", "breakout", "lstm", 1, score=1.0, words="--learner.learning_rate 0.0006")
    make_run(tmp_path / "b", "breakout", "lstm", 1, score=2.0, words="--learner.learning_rate 0.001")
    agents = study(tmp_path).agents
    assert list(agents) == ["lstm (learning_rate 0.0006)", "lstm (learning_rate 0.001)"]
    first, second = marks(agents).values()
    assert first.light == second.light
    assert first.dashes != second.dashes
    assert "Agents on breakout differ in more than the core: learner.learning_rate is 0.0006, 0.001." in said(tmp_path)


def test_every_core_has_a_colour_and_a_marker_of_its_own_whatever_the_others_are():
    from rfwp.runners.settings import components

    assert set(CORES) == set(components.names("core"))
    assert all(len(set(column)) == len(CORES) for column in zip(*CORES.values(), strict=True))
    assert marks({"rdn": "rdn"})["rdn"] == marks({"lstm": "lstm", "rdn": "rdn", "mine": "mine"})["rdn"]


def test_comparisons_over_games_use_those_that_all_agents_have(make_run, tmp_path):
    for game in ("breakout", "pong"):
        make_run(tmp_path, game, "lstm", 1, score=1.0)
    make_run(tmp_path, "pong", "rdn", 1, score=2.0)
    made = study(tmp_path)
    assert made.shared_tasks(made.agents, normalised=True) == ["pong"]
    assert "Not every agent has scores on breakout" in said(tmp_path)


def test_aggregates_are_over_one_suite_and_what_they_leave_out_is_said(make_run, tmp_path):
    for game in ("recall", "breakout", "pong"):
        make_run(tmp_path, game, "lstm", 1, score=2.0)
    made = study(tmp_path)
    assert made.shared_tasks(made.agents, normalised=True) == ["breakout", "pong", "recall"]
    assert made.aggregated_tasks == ["breakout", "pong"]
    assert made.result("recall", "lstm").normalised == 0.5
    assert "Aggregates cover one suite of environments and leave out recall." in said(tmp_path)


def test_unequal_training_is_said(make_run, tmp_path):
    make_run(tmp_path, "breakout", "lstm", 1, score=1.0)
    make_run(tmp_path, "breakout", "rdn", 1, score=1.0, returns=(1.0, 1.0), total_steps=2000)
    assert "trained for 2,000 to 3,000 agent steps" in said(tmp_path)


def test_a_copy_of_a_run_is_no_second_seed(make_run, add_evaluation, tmp_path):
    run = make_run(tmp_path / "a", "breakout", "lstm", 1, score=1.0)
    shutil.copytree(run.path, tmp_path / "b" / run.path.name)
    add_evaluation(RunFolder(tmp_path / "b" / run.path.name), 2.0, steps=3000, episodes=100)
    (row,), warned = report(tmp_path, tmp_path / "report")
    assert (row["seeds"], row["score"], row["95 % low"]) == ("1", "2.0", "")
    assert f"{run.path} was left out: it is a copy of {tmp_path / 'b' / run.path.name}." in warned


def test_a_seed_that_was_run_again_is_said_to_be(make_run, tmp_path):
    make_run(tmp_path / "a", "breakout", "lstm", 1, score=1.0)
    make_run(tmp_path / "b", "breakout", "lstm", 1, score=1.0, returns=(None, 1.0, 3.0))
    assert [row["seeds"] for row in scores(tmp_path)] == [2]
    assert "has seed 1 more than once" in said(tmp_path)


def test_environments_without_a_score_range_have_curves_and_chances_only(make_run, tmp_path):
    for core, score in (("lstm", 1.0), ("rdn", 2.0)):
        for seed in (1, 2):
            make_run(tmp_path, "CartPole-v1", core, seed, score)
    rows, _ = report(tmp_path, tmp_path / "report")
    assert all(not {"normalised, %", "MMER"} & row.keys() for row in rows)
    assert (tmp_path / "report" / "figures" / "improvement-chances.svg").exists()
    assert not (tmp_path / "report" / "figures" / "aggregates.svg").exists()


def test_ids_of_a_benchmark_are_averaged_by_their_lowest_and_highest_return_only(make_run, tmp_path):
    for env, score in (("popgym-RepeatFirstEasy-v0", 0.0), ("popgym-AutoencodeEasy-v0", -1.0), ("Acrobot-v1", -500.0)):
        make_run(tmp_path, env, "gru", 1, score)
    made = study(tmp_path)
    assert made.aggregated_tasks == ["popgym-AutoencodeEasy-v0", "popgym-RepeatFirstEasy-v0"]
    (row,) = tables.aggregates(made, made.aggregated_tasks).rows
    assert row == ["gru", 2, 2, *["25 %"] * 3, "75 %"]  # of -1 to 1, 0 is one half
    make_run(tmp_path, "breakout", "gru", 1, 1.0)
    made = study(tmp_path)
    assert made.normalisation(made.aggregated_tasks) == "the lowest return at 0 and the highest at 100 %"
    assert made.normalisation(made.tasks).startswith("random play at 0 and a professional tester at 100 %; the lowest")


def test_mmer_is_the_best_mean_of_an_iteration(make_run, tmp_path):
    """Lines of metrics lie 32,768 agent steps apart here: half an iteration of POPGym."""
    run = make_run(tmp_path, "popgym-RepeatFirstEasy-v0", "gru", 1, total_steps=229_376)
    episodes, totals = (100, 200, 200, 300, 400, 400, 500), (-50.0, -60.0, -60.0, 10.0, 85.0, 85.0, 185.0)
    with run.metrics_file.open("w") as file:
        for line, (count, total) in enumerate(zip(episodes, totals, strict=True), start=1):
            facts = {"steps": 32_768 * line, "episodes": count, "return_total": total, "return_mean": 0.5}
            file.write(json.dumps(facts) + "\n")
    # -60 of 200 episodes, 70 of 100, 75 of 100; the last 100 do not fill an iteration.
    assert [row["MMER"] for row in scores(tmp_path)] == [pytest.approx(0.75)]


def test_single_runs_have_aggregates_but_are_not_made_into_chances(make_run, tmp_path):
    for game in ("breakout", "pong"):
        for core, score in (("lstm", 1.0), ("rdn", 2.0)):
            make_run(tmp_path / "runs", game, core, 1, score)
    made = write_report([tmp_path / "runs"], tmp_path / "report")
    drawn = {path.stem for path in (tmp_path / "report" / "figures").iterdir()}
    assert drawn == {"curves", "aggregates", "profiles", "relative-improvements", "throughput"}
    assert "Probabilities of improvement leave out lstm, rdn" in "\n".join(made.warnings)
    table = tables.aggregates(made.study, ["breakout", "pong"])
    assert all("[" not in str(cell) for row in table.rows for cell in row)


def test_chances_leave_out_an_agent_with_a_single_run(make_run, tmp_path):
    for core, seeds in (("lstm", 2), ("gru", 1), ("rdn", 2)):
        for seed in range(1, seeds + 1):
            make_run(tmp_path / "runs", "recall", core, seed, score=1.0 * seed)
    made = write_report([tmp_path / "runs"], tmp_path / "report")
    assert tables.chances(made.study, ["recall"]).columns == ["", "over lstm", "over rdn"]
    assert "Probabilities of improvement leave out gru:" in "\n".join(made.warnings)
    drawn = tmp_path / "report" / "figures" / "improvement-chances.svg"
    assert "rdn" in drawn.read_text()
    assert "gru" not in drawn.read_text()
    write_report([tmp_path / "runs"], tmp_path / "against-gru", baseline="gru")
    assert not (tmp_path / "against-gru" / "figures" / drawn.name).exists()


def test_curves_are_averaged_only_where_all_runs_have_come():
    curves = [(np.array([0.0, 10.0]), np.array([0.0, 10.0])), (np.array([2.0, 6.0]), np.array([0.0, 4.0]))]
    grid = common_grid(curves, points=5)
    assert grid is not None
    assert grid[0].tolist() == [2, 3, 4, 5, 6]
    assert grid[1].tolist() == [[2, 3, 4, 5, 6], [0, 1, 2, 3, 4]]
    assert common_grid([(np.array([1.0]), np.array([1.0]))]) is None


def test_an_unknown_baseline_is_refused_and_a_usual_one_is_found(make_run, tmp_path):
    for core in ("delta_net", "gru", "lstm"):
        make_run(tmp_path, "breakout", core, 1, score=1.0)
    assert study(tmp_path).baseline(None) == "lstm"
    assert study(tmp_path).baseline("gru") == "gru"
    with pytest.raises(UserError, match="baseline: got 'rdn'; allowed: lstm, gru, delta_net"):
        study(tmp_path).baseline("rdn")
