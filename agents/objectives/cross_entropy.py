"""Cross-entropy of supervised sequence tasks: the mean over all tokens that have a class to predict."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rfwp.agents.learner import Loss, Objective
from rfwp.agents.metrics import Metric
from rfwp.agents.sequence_batches import SequenceBatch
from rfwp.checks import check
from rfwp.models.sequence_model import SequenceModel


@dataclass(frozen=True)
class Config(Objective[SequenceModel, SequenceBatch]):
    """Mean negative log-likelihood of the targets, in nats."""

    answer_weight: float = 1.0
    """Weight of a target that is an answer, where most are not: in code_execution all classes but `_`. 1: as
    published."""

    METRICS: ClassVar[Mapping[str, Metric]] = {
        "loss": Metric("loss", "mean negative log-likelihood of the targets, each with weight 1, nats"),
        "answer_loss": Metric("loss", "the same of the answers alone"),
    }

    def __post_init__(self) -> None:
        check(0 < self.answer_weight < math.inf, "answer_weight", self.answer_weight, "a number above 0")

    def loss(self, model: SequenceModel, batch: SequenceBatch, version: int) -> Loss:
        hidden, state = model(batch.token, batch.first, batch.state)
        counted = batch.target >= 0
        target = batch.target[counted]
        negative_log_likelihood = -model.head(hidden[counted], target)  # [targets]
        answer = (target != batch.blank).float()
        weight = 1 + (self.answer_weight - 1) * answer
        metrics = {
            "loss": negative_log_likelihood.detach().mean(),
            "answer_loss": (answer * negative_log_likelihood.detach()).sum() / answer.sum().clamp(min=1),
        }
        return Loss((weight * negative_log_likelihood).sum() / weight.sum(), metrics, state)
