"""Supervised training of a sequence model: the counterpart of `agents/actor_learner.py`."""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from rfwp.agents import host
from rfwp.agents.learner import Learner
from rfwp.agents.objectives import cross_entropy
from rfwp.agents.optimiser import Optimiser, OptimiserConfig, Schedule
from rfwp.agents.sequence_batches import Batches, Drawn, Packed, Segments, SequenceBatch, Windows
from rfwp.agents.sequence_scores import Scores, score
from rfwp.agents.system import System, SystemConfig
from rfwp.checks import check, check_choice
from rfwp.envs.sequence_task import Dataset, Sequences, SequenceTask
from rfwp.models.core import CoreConfig, State, cleared
from rfwp.models.sequence_model import SequenceModelConfig

Context = Literal["segment", "carried"]
Split = Literal["valid", "test"]


@dataclass(frozen=True)
class SequenceLearnerConfig(OptimiserConfig):
    """Batches and optimiser. The defaults are those of the published algorithmic tasks."""

    optimiser: Optimiser = "adam"
    learning_rate: float = 3e-4
    schedule: Schedule = "constant"
    adam_beta2: float = 0.995
    adam_epsilon: float = 1e-9
    gradient_clip: float | None = None
    batch_size: int = 64
    """Sequences per update; with a text, rows that it is cut into."""
    segment_length: int = 256
    """Tokens of each row per update, with a text."""
    context: Context = "segment"
    """With a text. segment: the core's state is cleared before each segment; carried: it goes on from the segment
    before, without gradient, and is cleared where an epoch starts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "segment_length"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "a whole number of at least 1")
        check_choice("context", self.context, Context)


@dataclass(frozen=True)
class SupervisedConfig(SystemConfig):
    """Settings of supervised training. Steps are updates."""

    task: SequenceTask
    core: CoreConfig
    model: SequenceModelConfig = field(default_factory=SequenceModelConfig)
    objective: cross_entropy.Config = field(default_factory=cross_entropy.Config)
    learner: SequenceLearnerConfig = field(default_factory=SequenceLearnerConfig)
    _: KW_ONLY
    total_steps: int = 31_400
    """Length of the run in updates."""
    seed: int = 1
    """Seed of the weights, dropout and the order of the sequences."""


class SequenceUpdate(NamedTuple):
    """One learner update."""

    version: int  # updates so far
    metrics: dict[str, Tensor]  # scalars on the learner's device; see METRICS of the objective and of Learner
    batch: SequenceBatch


class Supervised(System[SequenceUpdate]):
    """Supervised training. Iterate over it to train:

    ```
    for update in Supervised(config):
        ...
    ```

    Iteration ends after total_steps updates. It raises Stuck if the gradients stay non-finite.

    The constructor changes settings of the whole process: see `System`.
    """

    def __init__(self, config: SupervisedConfig, data: Dataset | None = None) -> None:
        """Load the data, unless it is given, and build the model.

        Raises ValueError for settings that do not fit each other or the data.
        """
        super().__init__(config, host.cores())
        self.config = config
        self.data = config.task.load() if data is None else data
        model = config.model.build(config.core, len(self.data.tokens), len(self.data.classes))
        self.model = model.to(self.device)
        self.batches = self._training_batches()
        self.learner = Learner(self.model, config.objective, config.learner, config.total_steps)
        torch.manual_seed(config.seed)  # dropout draws the same numbers, whatever the weights drew

    def __iter__(self) -> Iterator[SequenceUpdate]:
        while not self.done and not self.stopped:
            with self.learner.phases("batch"):
                batch = self.batches[self.learner.version].to(self.device)
                carried = _without_broken_rows(self.learner.final_state) if self.batches.carries_state else ()
                batch = batch._replace(state=carried or self.model.initial_state(batch.token.shape[1]))
            metrics = self.learner.learn(batch)
            yield SequenceUpdate(self.learner.version, metrics, batch)

    def score(self, split: Split, context: Context | None = None, stride: int | None = None) -> Scores:
        """Score the model on all of a split.

        A text is read in segments as in training, or with another `context`. With `stride`, segments start every so
        many tokens and each counts only the targets that the one before it lacks: 1 predicts every target from
        segment_length tokens. Only the context `segment` has a stride.
        """
        sequences: Sequences = getattr(self.data, split)
        learner = self.config.learner
        context, length = context or learner.context, learner.segment_length
        if not self.config.task.is_text:
            batches: Batches = Packed(sequences, learner.batch_size, seed=None, blank=self.data.blank)
        elif context == "carried":
            batches = Segments(sequences, 1, length, carried=True)
        else:
            batches = Windows(sequences, length, stride or length, learner.batch_size)
        return score(self.model, batches, self.device, predictions=not self.config.task.is_text)

    def state_dict(self) -> dict[str, Any]:
        carried = self.learner.final_state if self.batches.carries_state else ()
        return {**super().state_dict(), "carried": carried}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.learner.final_state = tuple(leaf.to(self.device) for leaf in state["carried"])

    def _training_batches(self) -> Batches:
        learner = self.config.learner
        if self.config.task.is_text:
            return Segments(self.data.train, learner.batch_size, learner.segment_length, learner.context == "carried")
        if self.data.draw is not None:
            return Drawn(self.data.draw, learner.batch_size, self.config.seed, self.data.blank)
        return Packed(self.data.train, learner.batch_size, self.config.seed, self.data.blank)


def _without_broken_rows(state: State) -> State:
    """Clear the rows that are not finite, so that one skipped update does not spoil the rest of the epoch."""
    if not state:
        return state
    broken = torch.stack([~leaf.reshape(len(leaf), -1).isfinite().all(1) for leaf in state]).any(0)  # [B]
    return cleared(state, broken)
