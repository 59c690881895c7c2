"""The learner: one batch in, one optimiser step on the model."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from rfwp.agents.metrics import Metric
from rfwp.agents.optimiser import OptimiserConfig
from rfwp.agents.phases import Phases
from rfwp.checks import check
from rfwp.models.core import State


class Batch(Protocol):
    """What a learner learns from in one update."""

    @property
    def steps(self) -> int:
        """Progress of an update on this batch, in the unit of total_steps."""


AnyModel = TypeVar("AnyModel", bound=nn.Module)
AnyBatch = TypeVar("AnyBatch", bound=Batch)


class Loss(NamedTuple):
    """Result of an objective."""

    value: Tensor  # to minimise
    metrics: dict[str, Tensor]  # float32 scalars on the model's device, so that the host does not wait for them
    state: State  # of the core after the batch


class Objective(ABC, Generic[AnyModel, AnyBatch]):
    """A loss for the learner to minimise, with its settings; see `agents/objectives`."""

    METRICS: ClassVar[Mapping[str, Metric]]
    """The metrics that `loss` returns, by name."""

    @abstractmethod
    def loss(self, model: AnyModel, batch: AnyBatch, version: int) -> Loss:
        """Return the loss of a batch, with the values of METRICS. `version`: learner updates so far."""


@dataclass(frozen=True)
class LearnerConfig(OptimiserConfig):
    """Batches and optimiser. The defaults are the published hyperparameters."""

    unroll_length: int = 50
    """T: agent steps per unroll; the learner back-propagates through all of them."""
    batch_size: int = 32
    """B: unrolls per update, so T x B agent steps."""
    queue_size: int = 2
    """Unrolls, each of a group of environments, that may wait for the learner; acting pauses when the queue is full."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("unroll_length", "batch_size", "queue_size"):
            check(getattr(self, field) >= 1, field, getattr(self, field), "a whole number of at least 1")


class Diverged(Exception):
    """The model's outputs are not finite: the weights are useless."""


class Stuck(Exception):
    """Too many updates in a row were skipped because the gradient was not finite; `batch` is the latest one."""

    def __init__(self, message: str, batch: Any) -> None:
        super().__init__(message)
        self.batch = batch


class Learner(Generic[AnyModel, AnyBatch]):
    """Trains a model. Holds its weights, the optimiser, and the counters of updates and steps."""

    PATIENCE = 10  # skipped updates in a row before `learn` gives up
    METRICS: ClassVar[Mapping[str, Metric]] = {
        "gradient_norm": Metric("optimiser", "global gradient norm of the summed loss, before the clip"),
        "update_skipped": Metric("optimiser", "share of updates skipped because the gradient was not finite"),
    }

    def __init__(
        self,
        model: AnyModel,
        objective: Objective[AnyModel, AnyBatch],
        config: OptimiserConfig,
        total_steps: int,
    ) -> None:
        self.model = model
        self.objective = objective
        self.config = config
        self.total_steps = total_steps
        self.steps = 0  # learned from so far, in the unit of total_steps
        self.version = 0  # updates so far
        self.final_state: State = ()  # of the core after the newest batch, without gradient
        self.phases = Phases()
        self._skipped_in_a_row = torch.zeros((), dtype=torch.int64, device=next(model.parameters()).device)
        self.optimiser = config.build(model.parameters())

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next update."""
        return self.config.rate(self.version, self.steps / self.total_steps)

    def learn(self, batch: AnyBatch) -> dict[str, Tensor]:
        """Take one gradient step on a batch; return the metrics of the objective and METRICS, as scalar tensors.

        Raises Stuck after PATIENCE skipped updates in a row. On a GPU it can take up to twice as many, because it reads
        the count only now and then, to keep the host from waiting.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate
        with self.phases("forward"):
            loss, metrics, state = self.objective.loss(self.model, batch, self.version)
        with self.phases("backward"):
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        with self.phases("optimise"):
            gradient = flat_gradient(self.model)
            norm = gradient.norm()
            if self.config.gradient_clip is not None:
                gradient.mul_((self.config.gradient_clip / norm).clamp(max=1))
            self._step_if(norm.isfinite(), gradient)
        self._skipped_in_a_row = torch.where(norm.isfinite(), 0, self._skipped_in_a_row + 1)
        self.version += 1
        self.steps += batch.steps
        self.final_state = tuple(leaf.detach() for leaf in state)
        self._check_progress(batch)
        return metrics | {"gradient_norm": norm.detach(), "update_skipped": 1.0 - norm.isfinite().float()}

    def _step_if(self, finite: Tensor, gradient: Tensor) -> None:
        """Step the optimiser if the gradient is finite. An infinity would make all weights and mean squares NaN."""
        if finite.device.type == "cpu":  # reading the flag costs nothing
            if finite:
                self.optimiser.step()
        else:
            self._step_and_undo_unless(finite, gradient)

    def _step_and_undo_unless(self, finite: Tensor, gradient: Tensor) -> None:
        """Do the same on the device, so that the host does not wait. The optimiser's step count advances anyway.

        A gradient of zero makes the optimiser's means decay, and Adam's moves the weights, so all of them are restored.
        """
        gradient.masked_fill_(~finite, 0.0)
        means = [
            leaf for state in self.optimiser.state.values() for leaf in state.values() if leaf.device == finite.device
        ]
        if not means:  # the first step: all means start at 0, so a gradient of zero changes nothing
            self.optimiser.step()
            return
        changed = means if self.config.optimiser == "rmsprop" else [*means, *self.model.parameters()]
        with torch.no_grad():
            kept = torch._foreach_mul(changed, 1.0 - finite.float())
            self.optimiser.step()
            torch._foreach_mul_(changed, finite.float())
            torch._foreach_add_(changed, kept)

    def _check_progress(self, batch: AnyBatch) -> None:
        on_cpu = self._skipped_in_a_row.device.type == "cpu"
        if on_cpu or self.version % self.PATIENCE == 0:  # reading from a GPU makes the host wait
            skipped = int(self._skipped_in_a_row)
            if skipped >= self.PATIENCE:
                raise Stuck(f"the gradients of {skipped} updates in a row were not finite", batch)

    def state_dict(self) -> dict[str, Any]:
        """Return all state of an update except the model's weights, as tensors and plain values."""
        return {
            "optimiser": self.optimiser.state_dict()["state"],  # its settings are in the config
            "optimiser_name": self.config.optimiser,
            "steps": self.steps,
            "version": self.version,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state written by `state_dict`; the model's weights are loaded separately.

        Raises ValueError if another optimiser, or one of another model, wrote it, or if a count is impossible.
        """
        name = state["optimiser_name"]
        check(self.config.optimiser == name, "learner.optimiser", self.config.optimiser, f"{name}, as before")
        self.steps, self.version = int(state["steps"]), int(state["version"])
        check(0 <= self.version <= self.steps, "version", self.version, f"0 to the number of steps, {self.steps}")
        parameters, means = list(self.model.parameters()), state["optimiser"]
        for index, leaves in means.items():
            shape = tuple(parameters[index].shape)
            for leaf, value in leaves.items():
                fits = tuple(value.shape) in (shape, ())  # (): Adam's count of steps
                check(fits, leaf, tuple(value.shape), f"{shape}, the shape of its weights")
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": means})


def flat_gradient(model: nn.Module) -> Tensor:
    """Join the gradients of a model into one tensor, of which they become views, and return it.

    What is done to all of them is then one operator on a GPU instead of one per parameter.
    """
    learned = [(parameter, parameter.grad) for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for _, gradient in learned])
    parts = torch.split(flat, [gradient.numel() for _, gradient in learned])
    for (parameter, gradient), part in zip(learned, parts, strict=True):
        parameter.grad = part.view_as(gradient)
    return flat
