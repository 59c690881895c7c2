"""What the trainer and `rfwp train` need to know about the kind of run that they train."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from torch import nn

from rfwp.agents.system import System
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.settings.config import RunConfig
from rfwp.runners.settings.kinds import Kind
from rfwp.runners.training.meter import Meter

Line = Mapping[str, float | None]  # metrics by name, as in metrics.jsonl
Tell = Callable[[str], None]  # shows a message to the user

AnyConfig = TypeVar("AnyConfig", bound=RunConfig)
AnySystem = TypeVar("AnySystem", bound=System[Any])


class Training(ABC, Generic[AnyConfig, AnySystem]):
    """A run of one kind: its system, and what is recorded, shown and saved beside the weights."""

    kind: ClassVar[Kind]

    def __init__(self, config: AnyConfig, system: AnySystem) -> None:
        self.config = config
        self.system = system

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        model: nn.Module = self.system.learner.model
        return model

    @property
    def num_parameters(self) -> int:
        """Number of its weights."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    # Before training:

    @abstractmethod
    def check_sizes(self) -> int:
        """Return the bytes that the run needs on its device. Raise UserError if they do not fit this machine."""

    @abstractmethod
    def prepare(self, folder: RunFolder) -> None:
        """Write into a new run folder what the weights mean nothing without, beside the settings.

        Raise UserError if an existing run has something else there.
        """

    @abstractmethod
    def opening(self, expected_bytes: int) -> str:
        """Say what is trained, and on what."""

    # In training:

    @abstractmethod
    def meter(self) -> Meter:
        """Return a new meter of the system."""

    @abstractmethod
    def note(self, update: Any, tell: Tell) -> bool:
        """Take in an update. Return True if the run was scored after it, which deserves a line and a checkpoint."""

    @abstractmethod
    def metrics(self) -> dict[str, float | None]:
        """Return the kind's own metrics of the line that is due, except the averages over updates."""

    @abstractmethod
    def check_model(self) -> None:
        """Raise Diverged if the model's outputs are not finite, because it is not worth saving."""

    @property
    @abstractmethod
    def score(self) -> float | None:
        """Score of the present weights by which the best checkpoint is chosen; None if it is not known."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return what is counted and remembered beside the system, as tensors and plain values."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state written by `state_dict`."""

    @abstractmethod
    def plain(self, line: Line) -> str:
        """Format the kind's own part of a line of text."""

    @abstractmethod
    def cells(self, line: Line) -> list[tuple[str, str]]:
        """Return the names and values that a dashboard shows."""

    # After training:

    @abstractmethod
    def evaluate(self, folder: RunFolder, console: Terminal) -> None:
        """Write and print the final evaluation of a complete run, unless it was done before."""

    @property
    @abstractmethod
    def hints(self) -> Mapping[str, str]:
        """What a user may do next, by its purpose: words after `rfwp`, in which {run} stands for the folder."""


AnyTraining = Training[Any, Any]
