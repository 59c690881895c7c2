"""The learner: one batch of unrolls in, one optimiser step on the agent."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rfwp.agents.metrics import Metric
from rfwp.agents.phases import Phases
from rfwp.agents.trajectory import Trajectory
from rfwp.checks import check
from rfwp.models.actor_critic import ActorCritic


class Objective(ABC):
    """A loss for the learner to minimise, with its settings; see `agents/objectives`."""

    METRICS: ClassVar[Mapping[str, Metric]]
    """The metrics that `loss` returns, by name."""

    @abstractmethod
    def loss(self, agent: ActorCritic, batch: Trajectory, version: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, summed over the T x B agent steps of a batch, and the values of METRICS.

        The metrics are float32 scalars on the agent's device, so the host does not wait for them. `version` is the
        number of learner updates so far.
        """


@dataclass(frozen=True)
class LearnerConfig:
    """Batches and RMSProp. The defaults are the published hyperparameters."""

    unroll_length: int = 50
    """T: agent steps per unroll; the learner back-propagates through all of them."""
    batch_size: int = 32
    """B: unrolls per update, so T x B agent steps."""
    learning_rate: float = 6e-4
    """Initial learning rate; falls linearly to 0 over total_steps."""
    rmsprop_decay: float = 0.99
    """Decay of RMSProp's mean square (alpha in PyTorch)."""
    rmsprop_epsilon: float = 0.01
    """Added to the square root of RMSProp's mean square."""
    gradient_clip: float = 40.0
    """Maximum global norm of the gradient."""
    queue_size: int = 2
    """Unrolls, each of a group of environments, that may wait for the learner; acting pauses when the queue is full."""

    def __post_init__(self) -> None:
        for field in ("unroll_length", "batch_size", "queue_size"):
            check(getattr(self, field) >= 1, field, getattr(self, field), "a whole number of at least 1")
        for field in ("learning_rate", "rmsprop_epsilon", "gradient_clip"):
            check(0 < getattr(self, field) < math.inf, field, getattr(self, field), "a number above 0")
        check(0 <= self.rmsprop_decay <= 1, "rmsprop_decay", self.rmsprop_decay, "a number from 0 to 1")


class Stuck(Exception):
    """Too many updates in a row were skipped because the gradient was not finite; `batch` is the latest one."""

    def __init__(self, message: str, batch: Trajectory) -> None:
        super().__init__(message)
        self.batch = batch


class Learner:
    """Trains the agent. Holds its weights, the optimiser, and the counters of updates and agent steps."""

    PATIENCE = 10  # skipped updates in a row before `learn` gives up
    METRICS: ClassVar[Mapping[str, Metric]] = {
        "gradient_norm": Metric("optimiser", "global gradient norm of the summed loss, before the clip"),
        "update_skipped": Metric("optimiser", "share of updates skipped because the gradient was not finite"),
    }

    def __init__(self, agent: ActorCritic, objective: Objective, config: LearnerConfig, total_steps: int) -> None:
        self.agent = agent
        self.objective = objective
        self.config = config
        self.total_steps = total_steps
        self.agent_steps = 0  # learned from so far
        self.version = 0  # updates so far
        self.phases = Phases()
        self._skipped_in_a_row = torch.zeros((), dtype=torch.int64, device=next(agent.parameters()).device)
        self.optimiser = torch.optim.RMSprop(
            agent.parameters(), lr=config.learning_rate, alpha=config.rmsprop_decay, eps=config.rmsprop_epsilon
        )

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next update: linear in agent steps, 0 from total_steps on."""
        return self.config.learning_rate * max(0.0, 1.0 - self.agent_steps / self.total_steps)

    def learn(self, batch: Trajectory) -> dict[str, Tensor]:
        """Take one gradient step on a batch; return the metrics of the objective and METRICS, as scalar tensors.

        Raises Stuck after PATIENCE skipped updates in a row. On a GPU it can take up to twice as many, because it reads
        the count only now and then, to keep the host from waiting.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate
        with self.phases("forward"):
            loss, metrics = self.objective.loss(self.agent, batch, self.version)
        with self.phases("backward"):
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        with self.phases("optimise"):
            norm = nn.utils.clip_grad_norm_(self.agent.parameters(), self.config.gradient_clip)
            self._step_if(norm.isfinite())
        self._skipped_in_a_row = torch.where(norm.isfinite(), 0, self._skipped_in_a_row + 1)
        self.version += 1
        self.agent_steps += batch.unroll_length * batch.batch_size
        self._check_progress(batch)
        return metrics | {"gradient_norm": norm.detach(), "update_skipped": 1.0 - norm.isfinite().float()}

    def _step_if(self, finite: Tensor) -> None:
        """Step the optimiser if the gradient is finite. An infinity would make all weights and mean squares NaN."""
        if finite.device.type == "cpu":  # reading the flag costs nothing
            if finite:
                self.optimiser.step()
        else:
            self._step_and_undo_unless(finite)

    def _step_and_undo_unless(self, finite: Tensor) -> None:
        """Do the same on the device, so that the host does not wait. The optimiser's step count advances anyway.

        A zero gradient changes no weights, but it makes RMSProp's mean squares decay, so those are restored.
        """
        for parameter in self.agent.parameters():
            if parameter.grad is not None:
                parameter.grad = torch.where(finite, parameter.grad, 0.0)
        squares = [state["square_avg"] for state in self.optimiser.state.values()]
        if not squares:  # the first step: mean squares start at 0
            self.optimiser.step()
            return
        kept = torch._foreach_mul(squares, 1.0 - finite.float())
        self.optimiser.step()
        torch._foreach_mul_(squares, finite.float())
        torch._foreach_add_(squares, kept)

    def _check_progress(self, batch: Trajectory) -> None:
        on_cpu = self._skipped_in_a_row.device.type == "cpu"
        if on_cpu or self.version % self.PATIENCE == 0:  # reading from a GPU makes the host wait
            skipped = int(self._skipped_in_a_row)
            if skipped >= self.PATIENCE:
                raise Stuck(f"the gradients of {skipped} updates in a row were not finite", batch)

    def state_dict(self) -> dict[str, Any]:
        """Return all state of an update except the agent's weights, as tensors and plain values."""
        return {
            "optimiser": self.optimiser.state_dict(),
            "agent_steps": self.agent_steps,
            "version": self.version,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state written by `state_dict`; the agent's weights are loaded separately."""
        self.optimiser.load_state_dict(state["optimiser"])
        for group in self.optimiser.param_groups:  # use the current settings, not the saved ones
            group |= {"alpha": self.config.rmsprop_decay, "eps": self.config.rmsprop_epsilon}
        self.agent_steps = int(state["agent_steps"])
        self.version = int(state["version"])
