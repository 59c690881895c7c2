"""A run that trains a sequence model on a supervised task."""

from collections.abc import Mapping
from typing import Any

import torch

from rfwp.agents.learner import Diverged
from rfwp.agents.phases import VALIDATE
from rfwp.agents.sequence_batches import SequenceBatch
from rfwp.agents.sequence_scores import Scores
from rfwp.agents.supervised import SequenceUpdate, Supervised
from rfwp.runners.evaluation.sequence_scoring import SequenceEvaluation, print_sequence_evaluation
from rfwp.runners.machine import resources
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder.evaluations import final_evaluation, final_name, write_evaluation
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.settings.components import name_of
from rfwp.runners.settings.config import SequenceRunConfig
from rfwp.runners.settings.kinds import SEQUENCES
from rfwp.runners.training.dashboard import number, percent
from rfwp.runners.training.memory_estimate import check_sequence_sizes
from rfwp.runners.training.meter import TokenMeter
from rfwp.runners.training.training import Line, Tell, Training


class SequenceTraining(Training[SequenceRunConfig, Supervised]):
    """Counts tokens, and scores the model on the validation split every `validation_interval` updates."""

    kind = SEQUENCES

    def __init__(self, config: SequenceRunConfig, system: Supervised) -> None:
        super().__init__(config, system)
        self._tokens: torch.Tensor | int = 0  # on the device, so that the host does not wait
        self._valid: Scores | None = None
        self._valid_steps = -1  # at which it was measured
        self._newest_batch: SequenceBatch | None = None

    def check_sizes(self) -> int:
        return check_sequence_sizes(self.config, self.system)

    def prepare(self, folder: RunFolder) -> None:
        folder.keep_interface("task", self.system.data.interface)

    def opening(self, expected_bytes: int) -> str:
        data, threads = self.system.data, torch.get_num_threads()
        sequences = f"{len(data.train.start) - 1:,} sequences, " if not self.config.task.is_text else ""
        training = "new sequences for every update" if data.draw else f"{sequences}{len(data.train.token):,} tokens"
        return (
            f"{self.config.task.title}, core {name_of(self.config.core)}, {self.num_parameters:,} parameters, on"
            f" {self.system.device} ({threads} thread{'s' if threads > 1 else ''}); {training},"
            f" {len(data.tokens):,} different tokens, {len(data.classes):,} classes; activations and weights take about"
            f" {resources.megabytes(expected_bytes)}"
        )

    def meter(self) -> TokenMeter:
        return TokenMeter(self.system, lambda: int(self._tokens))

    def note(self, update: SequenceUpdate, tell: Tell) -> bool:
        self._newest_batch = update.batch
        self._tokens = self._tokens + update.batch.num_tokens
        due = update.version % self.config.validation_interval == 0 or self.system.done
        if due:
            with self.system.learner.phases(VALIDATE):
                self._valid, self._valid_steps = self.system.score("valid"), update.version
        return due

    def metrics(self) -> dict[str, float | None]:
        version = self.system.learner.version
        scores = self._valid if self._valid_steps == version else None
        return {
            "epoch": None if self.system.data.draw else version / self.system.batches.per_epoch,
            "tokens": int(self._tokens),
            "valid_loss": scores and scores.loss,
            "valid_answers": scores and scores.answers,
            "valid_sequences": scores and scores.sequences,
        }

    @torch.no_grad()
    def check_model(self) -> None:
        """Try the first row of the newest batch."""
        if self._newest_batch is None:
            return
        model = self.system.model
        model.eval()  # dropout would draw from the generator
        try:
            batch = self._newest_batch.sample(len(self._newest_batch.token), 1, model.initial_state(1))
            hidden, _ = model(batch.token, batch.first, batch.state)
            finite = bool(model.head.log_probabilities(hidden[-1]).isfinite().all())
        finally:
            model.train()
        if not finite:
            raise Diverged("the probabilities are no longer finite")

    @property
    def score(self) -> float | None:
        if self._valid is None or self._valid_steps != self.system.learner.version:
            return None
        return self._valid.sequences if self._valid.sequences is not None else -self._valid.loss

    def state_dict(self) -> dict[str, Any]:
        valid = None if self._valid is None else tuple(self._valid)
        return {"tokens": int(self._tokens), "valid": valid, "valid_steps": self._valid_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._tokens = int(state["tokens"])
        self._valid = None if state["valid"] is None else Scores(*state["valid"])
        self._valid_steps = int(state["valid_steps"])

    def plain(self, line: Line) -> str:
        return (
            f"epoch {number(line['epoch'], 1)}  {number(line['tokens_per_second'])} tokens/s  loss"
            f" {number(line['loss'], 3)}  validation {self._validation(line)}"
        )

    def cells(self, line: Line) -> list[tuple[str, str]]:
        get = line.get
        return [
            ("validation", self._validation(line)),
            ("loss in training, nats", number(get("loss"), 3)),
            ("loss of answers, nats", number(get("answer_loss"), 3)),
            ("epoch", number(get("epoch"), 1)),
            ("tokens/s", number(get("tokens_per_second"))),
            ("tokens", number(get("tokens"))),
            ("updates/s", number(get("steps_per_second"), 1)),
            ("gradient norm", number(get("gradient_norm"), 2)),
        ]

    def evaluate(self, folder: RunFolder, console: Terminal) -> None:
        steps = self.system.learner.steps
        if (found := final_evaluation(folder)) is not None and found.get("trained") == steps:
            return
        best = folder.checkpoints.find("best")
        best.load_weights(self.system.model)
        with console.status("scoring the test split ..."):
            scores = self.system.score("test")
        result = SequenceEvaluation(self.config, "test", best.manifest.steps, scores)
        print_sequence_evaluation(result, console)
        facts = {**result.summary(), "checkpoint": "best", "trained": steps}
        write_evaluation(folder, final_name(steps), facts, best)

    @property
    def hints(self) -> Mapping[str, str]:
        return {"score it again": "evaluate {run}"}

    def _validation(self, line: Line) -> str:
        """Format the validation scores."""
        loss, measure = line.get("valid_loss"), self.config.task.measure
        if loss is None:
            return "–"
        scores = Scores(loss, 0, line.get("valid_answers"), line.get("valid_sequences"))
        if measure == "perplexity":
            return f"perplexity {number(scores.perplexity, 1)}"
        if measure == "bits":
            return f"{number(scores.bits, 3)} bits"
        answers = "" if scores.answers == scores.sequences else f", {percent(scores.answers)} of the answers"
        return f"{percent(scores.sequences)} of the sequences{answers}"
