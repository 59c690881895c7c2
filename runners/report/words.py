"""What a report says about each kind of run. {policy} is the policy of the evaluations."""

from typing import NamedTuple

from rfwp.agents.metrics import RECENT_EPISODES
from rfwp.runners.settings.kinds import AGENT, SEQUENCES, Kind


class Words(NamedTuple):
    """Phrases about runs of one kind."""

    score: str  # what scores are
    no_score: str  # why a run has none
    evaluation: str  # what a run is scored by
    in_training: str  # what takes the place of an evaluation
    curves: str  # what learning curves show
    throughput: str  # what the figure of throughput shows


WORDS: dict[Kind, Words] = {
    AGENT: Words(
        "mean raw returns of full episodes with {policy} actions",
        "no episode has ended",
        "evaluation with {policy} actions",
        f"the return of the last {RECENT_EPISODES} episodes in training",
        f"Mean raw return of the last {RECENT_EPISODES} full episodes of training",
        "Throughput, policy lag and clipped importance weights",
    ),
    SEQUENCES: Words(
        "test scores of the checkpoint that validates best",
        "the model has not been validated",
        "final evaluation",
        "the last score on the validation split",
        "Score on the validation split during training (where lower is better, the axis ends at twice the median of the"
        " last scores)",
        "Throughput, training loss and gradient norm",
    ),
}
