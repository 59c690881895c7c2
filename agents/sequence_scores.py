"""How well a sequence model predicts."""

import math
from typing import NamedTuple

import torch

from rfwp.agents.sequence_batches import Batches
from rfwp.models.core import State
from rfwp.models.sequence_model import SequenceModel


class Scores(NamedTuple):
    """Scores of a model on one split."""

    loss: float  # mean negative log-likelihood of the targets, nats
    targets: int  # how many there are
    answers: float | None  # share of answers that are predicted, 0 to 1; None without predictions
    sequences: float | None  # share of sequences in which every target is predicted, 0 to 1; None without predictions

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite if that is too large for a float."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf

    @property
    def bits(self) -> float:
        """The loss in bits per target."""
        return self.loss / math.log(2)


@torch.no_grad()
def score(model: SequenceModel, batches: Batches, device: torch.device, predictions: bool = True) -> Scores:
    """Score a model on one epoch of batches.

    Without `predictions`, only the likelihood of the targets is computed: with many classes that is much cheaper.
    """
    loss, targets, answers, right_answers, sequences, wrong_sequences = torch.zeros(
        6, dtype=torch.float64, device=device
    )
    state: State = ()
    model.eval()
    try:
        for update in range(batches.per_epoch):
            batch = batches[update].to(device)
            before = state if batches.carries_state else ()
            hidden, state = model(batch.token, batch.first, before or model.initial_state(batch.token.shape[1]))
            counted = batch.target >= 0
            hidden, target = hidden[counted], batch.target[counted]
            targets += len(target)
            if not predictions:
                loss -= model.head(hidden, target).double().sum()
                continue
            log_probabilities = model.head.log_probabilities(hidden)
            loss -= log_probabilities.gather(1, target.unsqueeze(1)).double().sum()
            right, answer = log_probabilities.argmax(1) == target, target != batch.blank
            answers += answer.sum()
            right_answers += (right & answer).sum()
            sequences += batch.first.sum()
            wrong_sequences += len(torch.unique(batch.sequence[counted][~right]))
    finally:
        model.train()
    shares = (right_answers / answers).item(), ((sequences - wrong_sequences) / sequences).item()
    return Scores((loss / targets).item(), int(targets), *(shares if predictions else (None, None)))
