"""The two kinds of runs: one trains an agent in an environment, the other a sequence model on a supervised task."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_type_hints

from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings import components
from rfwp.runners.settings.presets import Presets, Values, agent_presets, sequence_presets

if TYPE_CHECKING:
    from rfwp.runners.settings.config import RunConfig


@dataclass(frozen=True)
class Kind:
    """A kind of run: the settings that it has.

    PyTorch is imported when these are asked for; a report, which builds only the subject, does without it.
    """

    config_name: str  # class of all settings
    subject: str  # section of what is learned
    presets: Callable[[Values], Presets]  # from the settings that name the components
    fixed: tuple[str, ...]
    """Settings and sections that cannot change when a run is resumed: the weights, what they learned or the state of
    the optimiser would not fit, or the setting only has an effect before the first step."""
    step: str  # what total_steps counts, in the singular

    @cached_property
    def config(self) -> "type[RunConfig]":
        """The class of all settings."""
        from rfwp.runners.settings import config

        found: type[RunConfig] = getattr(config, self.config_name)
        return found

    @cached_property
    def hints(self) -> dict[str, Any]:
        """Types of all fields."""
        hints = get_type_hints(self.config)
        return {field.name: hints[field.name] for field in dataclasses.fields(self.config)}

    @cached_property
    def sections(self) -> tuple[str, ...]:
        """Names of the fields that hold several settings."""
        return tuple(name for name, hint in self.hints.items() if dataclasses.is_dataclass(hint))

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the sections whose settings depend on a name."""
        return tuple(name for name in self.sections if name in components.PACKAGES)

    def preset(self, name: str | None, named: Values, device: str | None) -> Values:
        """Return a preset, by default the one for this machine, or for `device` if that is given.

        Raise UserError for an unknown preset.
        """
        settings = self.presets(named).settings
        name = name or self.default_preset(named, device)
        if name not in settings:
            raise UserError(f"preset: got {name!r}; allowed: {', '.join(settings)}")
        return settings[name]

    def default_preset(self, named: Values, device: str | None) -> str:
        """Return the name of the preset for this machine, or for `device` if that is given."""
        import torch

        _, on_gpu, on_cpu = self.presets(named)
        return on_gpu if torch.cuda.is_available() and device != "cpu" else on_cpu


AGENT = Kind(
    "AgentRunConfig",
    "env",
    agent_presets,
    ("env", "encoder", "core", "seed", "initialisation", "last_action", "normalise_values", "learner.optimiser"),
    "agent step",
)
SEQUENCES = Kind(
    "SequenceRunConfig",
    "task",
    sequence_presets,
    (
        *("task", "core", "model", "seed"),
        *(f"learner.{name}" for name in ("optimiser", "batch_size", "segment_length", "context")),
    ),
    "update",
)


# Settings in a fixed section that may change all the same: where files lie, and how scores are shown.
MOVABLE = ("env.path", "env.score_bounds")


def kind_of(values: Mapping[str, Any]) -> Kind:
    """Return the kind of run that settings belong to."""
    return SEQUENCES if SEQUENCES.subject in values else AGENT
