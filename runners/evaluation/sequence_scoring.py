"""Scores of a sequence model on a split of its task."""

import math
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from rfwp.agents.sequence_scores import Scores
from rfwp.agents.supervised import Context, Split
from rfwp.runners.evaluation.scoreboard import reference_line
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.settings.config import SequenceRunConfig


@dataclass(frozen=True)
class SequenceEvaluation:
    """Scores of a model, and how they were made."""

    config: SequenceRunConfig  # of the training, with the task that was scored
    split: Split
    steps: int  # updates of training
    scores: Scores
    context: Context | None = None  # of a text, if it differs from the training's
    stride: int | None = None  # of a text, in tokens, if its windows overlap

    @property
    def reading(self) -> str:
        """How the split was read."""
        learner = self.config.learner
        if not self.config.task.is_text:
            return "whole sequences"
        if (self.context or learner.context) == "carried":
            return "one pass, state carried"
        segments = f"segments of {learner.segment_length} tokens"
        return f"{segments} that start {self.stride} apart" if self.stride else segments

    @property
    def value(self) -> float:
        """The measure that papers report: accuracy from 0 to 1, perplexity or bits."""
        return float(getattr(self.scores, self.config.task.measure))

    def summary(self) -> dict[str, Any]:
        """Return everything as plain values; None for a number that is not finite."""
        facts = {
            "task": self.config.task.title,
            "split": self.split,
            "steps": self.steps,
            "measure": self.config.task.measure,
            "value": self.value,
            "reading": self.reading,
            **self.scores._asdict(),
            "perplexity": self.scores.perplexity,
            "bits": self.scores.bits,
        }
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in facts.items()
        }


def score_cells(scores: Scores) -> dict[str, str]:
    """Return the scores as text, by their names in tables."""
    if scores.sequences is None or scores.answers is None:
        cells = {"perplexity": f"{scores.perplexity:,.2f}", "bits per target": f"{scores.bits:.4f}"}
    else:
        cells = {"sequences right": f"{scores.sequences:.1%}"}
        if scores.answers != scores.sequences:  # of several answers each
            cells["answers right"] = f"{scores.answers:.1%}"
    return {**cells, "loss, nats": f"{scores.loss:.4f}"}


def print_sequence_evaluation(result: SequenceEvaluation, console: Terminal) -> None:
    """Print the scores as a table."""
    table = Table(title=f"{result.config.task.title}: {result.split} split", title_justify="left", show_header=False)
    for name, text in score_cells(result.scores).items():
        table.add_row(name, text)
    table.add_row("targets", f"{result.scores.targets:,}")
    table.add_row("read as", result.reading)
    table.add_row("trained for", f"{result.steps:,} updates")
    if references := result.config.task.reference_scores:
        table.add_row("for comparison", f"{reference_line(references)} ({result.config.task.score_name})")
    console.print(table)
