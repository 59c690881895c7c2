"""Settings of an actor-learner system, and the agent they describe."""

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

import torch

from rfwp.agents.actor_pool import ActorsConfig
from rfwp.agents.device import pick_precision
from rfwp.agents.learner import LearnerConfig
from rfwp.agents.objectives import vtrace
from rfwp.agents.system import SystemConfig
from rfwp.checks import check
from rfwp.envs.spaces import Field
from rfwp.envs.vector_env import EnvConfig
from rfwp.models.actor_critic import ActorCritic
from rfwp.models.core import CoreConfig
from rfwp.models.encoder import Encoder, EncoderConfig
from rfwp.models.observation_encoder import Categories, ObservationEncoder, Vector


@dataclass(frozen=True)
class ActorLearnerConfig(SystemConfig):
    """Settings of an actor-learner system. Steps are agent steps; on Atari one agent step is four frames."""

    env: EnvConfig
    encoder: EncoderConfig
    core: CoreConfig
    objective: vtrace.Config = field(default_factory=vtrace.Config)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    actors: ActorsConfig = field(default_factory=ActorsConfig)
    _: KW_ONLY
    total_steps: int = 200_000_000
    """Length of the run in agent steps; the learning rate reaches 0 at the end."""
    seed: int = 1
    """Seed of the weights, the environments and the action sampling."""
    initialisation: Literal["default", "orthogonal"] = "default"
    """Initial weights: PyTorch's default, or orthogonal (learns sooner on Atari)."""
    last_action: bool = False
    """Show the core its last action, one-hot, beside features and reward."""
    reward_scale: float = 1.0
    """Factor of rewards in the loss and in what the core reads; reported returns are raw. Rewards far below 1 are lost
    beside the entropy term, rewards above 1 are clipped."""
    normalise_values: bool = False
    """Learn values and advantages in units of the deviation of the value targets, so that the scale of rewards does not
    matter."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the encoder of images; everything else is float32. auto: bfloat16 where the hardware is faster with
    it. On a GPU, float32 convolutions round their inputs to TF32 if PyTorch allows it, as it does by default."""
    sync: bool = False
    """Act and learn in turn, in one thread: on the CPU the same seed gives the same run, bit for bit, however many
    cores there are. `actors.processes` is then by default the number of groups."""
    graphs: bool = True
    """Replay acting as CUDA graphs on a GPU; false: operator by operator."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.reward_scale < math.inf, "reward_scale", self.reward_scale, "a number above 0")

    def build_agent(self, device: torch.device | str) -> ActorCritic:
        """Build the agent on a device, with PyTorch's weights. Raises ValueError if encoder and env do not fit."""
        spec, device = self.env.spec(), torch.device(device)
        parts = [self._build_encoder(field) for field in spec.observation]
        encoder = ObservationEncoder(parts, self.encoder.size, pick_precision(self.precision, device))
        reads = self.last_action, self.reward_scale
        return ActorCritic(encoder, self.core, spec.action_sizes, *reads, self.normalise_values).to(device)

    def _build_encoder(self, field: Field) -> Encoder:
        match field.kind:
            case "image":
                return self.encoder.build(field.shape)
            case "vector":
                return Vector(field.shape[0], self.encoder.size)
            case "categories":
                return Categories(field.sizes, self.encoder.size)
