"""Builds the training of a config of either kind."""

from rfwp.runners.build import build_sequence_system, build_system
from rfwp.runners.settings.config import AgentRunConfig, RunConfig, SequenceRunConfig
from rfwp.runners.training.agent_training import AgentTraining
from rfwp.runners.training.sequence_training import SequenceTraining
from rfwp.runners.training.training import AnyTraining


def build_training(config: RunConfig) -> AnyTraining:
    """Build the training of a config. Raise UserError if its device, data or sizes do not fit."""
    match config:
        case AgentRunConfig():
            return AgentTraining(config, build_system(config))
        case SequenceRunConfig():
            return SequenceTraining(config, build_sequence_system(config))
        case _:
            raise TypeError(f"no training for {type(config)}")
