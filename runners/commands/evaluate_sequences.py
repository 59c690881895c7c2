"""`rfwp evaluate` for runs on supervised tasks: scores checkpoints on the test or validation split."""

import dataclasses
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.table import Table

from rfwp.agents.supervised import Context, Split
from rfwp.envs.sequence_task import SequenceTask
from rfwp.runners.evaluation.saved_agents import SavedModel, find_models, say_left_out
from rfwp.runners.evaluation.sequence_scoring import SequenceEvaluation, print_sequence_evaluation, score_cells
from rfwp.runners.evaluation.variants import split_words, variants
from rfwp.runners.machine.errors import UserError, reason
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder.evaluations import write_evaluation
from rfwp.runners.runfolder.files import check_writable, write_json
from rfwp.runners.runfolder.folder import short_names
from rfwp.runners.settings.components import name_of
from rfwp.runners.settings.kinds import SEQUENCES
from rfwp.runners.settings.parsing import Parser, parse
from rfwp.runners.settings.playing_options import add_loading_options, add_scoring_options


class Line(NamedTuple):
    """The scores of one model."""

    run: str
    result: SequenceEvaluation


def run(argv: Sequence[str]) -> int:
    """Run `rfwp evaluate` with these words; return the exit code: 1 if one of several runs was left out."""
    words, settings = split_words(SEQUENCES, argv)
    values = parse(_parser(), words)
    check_writable(values.json)
    models, left_out = find_models([Path(name) for name in values.runs], values.checkpoint)
    wanted = [[(saved, task) for task in variants(SEQUENCES, saved.config, settings)] for saved in models]
    for saved, task in (each for one in wanted for each in one):
        _check(values, saved, task)
    console = Terminal(stderr=values.json == "-")
    lines: list[Line] = []
    names = short_names([saved.folder.path for saved in models])
    try:
        for name, opened, task in ((name, *each) for name, one in zip(names, wanted, strict=True) for each in one):
            try:
                saved = opened.as_it_is_now()
                with console.status(f"scoring {name} on {task.title} ..."):
                    lines.append(Line(name, _score(saved, task, values)))
                _keep(lines[-1].result, saved, values)
            except (UserError, OSError) as error:  # keep the scores that there are, and go on
                left_out.append(f"{reason(error)} (in {name})")
    finally:  # also after Ctrl-C
        if lines:
            _show(lines, values.json, console)
    if not lines:
        raise UserError(left_out[0])
    return say_left_out(left_out)


def _check(values: Namespace, saved: SavedModel, task: SequenceTask) -> None:
    """Raise UserError if the options do not fit the task."""
    if not task.is_text:
        for option in ("context", "stride"):
            if getattr(values, option) is not None:
                raise UserError(f"{option}: got {getattr(values, option)}; allowed only with a text")
        return
    length = saved.config.learner.segment_length
    if values.stride is None:
        return
    if not 1 <= values.stride <= length:
        raise UserError(f"stride: got {values.stride}; allowed: 1 to {length}, the segment_length of the run")
    if (values.context or saved.config.learner.context) == "carried":
        raise UserError(f"stride: got {values.stride}; allowed only with --context segment")


def _score(saved: SavedModel, task: SequenceTask, values: Namespace) -> SequenceEvaluation:
    """Score a model on a split."""
    system = saved.load(values.device, task)
    scores = system.score(values.split, values.context, values.stride)
    config = dataclasses.replace(saved.config, task=task)
    return SequenceEvaluation(config, values.split, saved.steps, scores, values.context, values.stride)


def _keep(result: SequenceEvaluation, saved: SavedModel, values: Namespace) -> None:
    """Write the scores of a model into its run folder unless --json is given. Raise OSError if that fails."""
    if values.json is None:
        other = f"-{result.config.task.title}" if result.config.task != saved.config.task else ""
        reading = "".join(f"-{each}" for each in (values.context, values.stride) if each is not None)
        name = f"step-{saved.steps:012d}-{values.split}{other}{reading}"
        write_evaluation(saved.folder, name, result.summary(), saved.checkpoint)


def _show(lines: Sequence[Line], json_file: str | None, console: Terminal) -> None:
    """Print one result as its own table, several in one table; write JSON as one object or a list."""
    if len(lines) > 1 and json_file != "-":
        _print_all(lines, console)
    elif json_file != "-":
        print_sequence_evaluation(lines[0].result, console)
    facts = [line.result.summary() for line in lines]
    write_json(json_file, facts[0] if len(facts) == 1 else facts)


def _print_all(lines: Sequence[Line], console: Terminal) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("run", overflow="fold")
    for heading in ("task", "core"):
        table.add_column(heading)
    headings = list(dict.fromkeys(name for line in lines for name in score_cells(line.result.scores)))
    for heading in ("updates", *headings):
        table.add_column(heading, justify="right", no_wrap=True)
    for run_name, result in lines:
        cells, config = score_cells(result.scores), result.config
        values = (cells.get(heading, "–") for heading in headings)
        table.add_row(run_name, config.task.title, name_of(config.core), f"{result.steps:,}", *values)
    console.print(table)
    for note in dict.fromkeys(f"{result.split} split, read as {result.reading}." for _, result in lines):
        console.say(note[0].upper() + note[1:])


def _parser() -> Parser:
    parser = Parser(
        "rfwp evaluate",
        "Score saved sequence models on a split of their task. A setting of the task, such as --task.depth 5, scores"
        " them on that variant, which must have the same vocabulary; --task.depth 1,2,3 gives a row for each value.",
    )
    add_scoring_options(parser)
    add_loading_options(parser, checkpoint="best")
    parser.add_argument("--split", type=Split, default="test", help="what to score on")
    parser.add_argument(
        "--context",
        type=Context | None,
        help="how a text is read: segment, each from a cleared state; carried, in one pass; default: as in training",
    )
    parser.add_argument(
        "--stride",
        type=int | None,
        metavar="TOKENS",
        help="read a text in overlapping segments that start this many tokens apart; 1: the published sliding window",
    )
    return parser
