"""Small agents with random unrolls, for tests of losses and of the learner."""

import torch
from torch import Tensor

from rfwp.agents.trajectory import Trajectory
from rfwp.envs.spaces import Field
from rfwp.models.actor_critic import ActorCritic
from rfwp.models.core import CoreConfig
from rfwp.models.cores import lstm
from rfwp.models.encoder import EncoderConfig
from rfwp.models.encoders import flat
from rfwp.models.observation_encoder import Categories, ObservationEncoder, Vector

LENGTH, GAMES, ACTIONS = 6, 4, (3, 2)
FIELDS = (
    Field("pixels", "image", (1, 1, 5)),
    Field("numbers", "vector", (2,)),
    Field("cards", "categories", (2,), sizes=(3, 4)),
)
SCREENS = (Field("screens", "image", (4, 84, 84)),)


def agent_of(encoder: EncoderConfig, core: CoreConfig, fields: tuple[Field, ...]) -> ActorCritic:
    size = encoder.size
    parts = {
        "image": lambda field: encoder.build(field.shape),
        "vector": lambda field: Vector(field.shape[0], size),
        "categories": lambda field: Categories(field.sizes, size),
    }
    encoder = ObservationEncoder([parts[field.kind](field) for field in fields], size)
    return ActorCritic(encoder, core, ACTIONS, reads_last_action=True)


def make_agent(seed=0) -> ActorCritic:
    torch.manual_seed(seed)
    return agent_of(flat.Config(8), lstm.Config(hidden_size=8), FIELDS)


def random_choices(sizes: tuple[int, ...], lead: tuple[int, int], random: torch.Generator) -> Tensor:
    return torch.stack([torch.randint(size, lead, generator=random) for size in sizes], -1)


def random_field(field: Field, lead: tuple[int, int], random: torch.Generator) -> Tensor:
    if field.kind == "image":
        return torch.randint(256, (*lead, *field.shape), dtype=torch.uint8, generator=random)
    if field.kind == "vector":
        return torch.randn(*lead, *field.shape, generator=random)
    return random_choices(field.sizes, lead, random)


def random_batch(agent: ActorCritic, seed=0, length=LENGTH, fields=FIELDS) -> Trajectory:
    random = torch.Generator().manual_seed(seed)
    return Trajectory(
        observation=tuple(random_field(field, (length + 1, GAMES), random) for field in fields),
        last_action=random_choices(ACTIONS, (length + 1, GAMES), random),
        reward=5 * torch.randn(length + 1, GAMES, generator=random),
        first=torch.rand(length + 1, GAMES, generator=random) < 0.2,
        action=random_choices(ACTIONS, (length, GAMES), random),
        truncated=torch.zeros(length, GAMES, dtype=torch.bool),
        behaviour=torch.randn(length, GAMES, sum(ACTIONS), generator=random),
        version=torch.zeros(length, GAMES, dtype=torch.int64),
        state=tuple(torch.randn(leaf.shape, generator=random) for leaf in agent.initial_state(GAMES)),
    )
