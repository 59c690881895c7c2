"""Observations of several fields: each is encoded by its own part, in the precision that suits it."""

import numpy as np
import torch
from torch.nn.functional import linear, one_hot, relu

from rfwp.models.actor_critic import ActorCritic, AgentInput
from rfwp.models.cores import rdn
from rfwp.models.encoders import flat
from rfwp.models.initialisation import initialise
from rfwp.models.observation_encoder import Categories, Observation, ObservationEncoder, Vector

SIZES = (3, 2, 5)


def encoder(precision: torch.dtype = torch.float32) -> ObservationEncoder:
    torch.manual_seed(0)
    return ObservationEncoder([flat.Config(6).build((1, 2, 2)), Vector(3, 4), Categories(SIZES, 5)], 7, precision)


def observation(*lead: int) -> Observation:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(256, (*lead, 1, 2, 2), dtype=torch.uint8, generator=generator)
    choices = [torch.randint(size, lead, generator=generator) for size in SIZES]
    return image, torch.randn(*lead, 3, generator=generator), torch.stack(choices, -1)


def test_categories_are_a_linear_layer_on_their_one_hot_vectors() -> None:
    part, (_, _, choices) = encoder().parts[2], observation(9)
    hot = torch.cat([one_hot(choices[:, k], size) for k, size in enumerate(SIZES)], -1).float()
    torch.testing.assert_close(part(choices), relu(linear(hot, part.table.weight.T)))


def test_the_features_of_all_parts_are_joined_by_a_linear_layer() -> None:
    network, fields = encoder(), observation(9)
    image, vector, _ = fields
    parts = [network.parts[0](image), relu(linear(vector, *network.parts[1].parameters())), network.parts[2](fields[2])]
    expected = relu(linear(torch.cat(parts, -1), *network.join.parameters()))
    torch.testing.assert_close(network(fields), expected)
    assert network(fields).shape == (9, network.output_size) == (9, 7)


def test_vectors_are_normalised_by_all_the_numbers_that_were_measured() -> None:
    """The scales differ by nine orders of magnitude, and one number never changes."""
    part, generator = Vector(4, 5), torch.Generator().manual_seed(2)
    scale, offset = torch.tensor([1e-4, 1.0, 1e5, 0.0]), torch.tensor([3.0, 0.0, -2e6, 7.0])
    batches = [scale * torch.randn(length, 3, 4, generator=generator) + offset for length in (1, 8, 3, 20)]
    for batch in batches:
        part.measure(batch)
    everything = np.concatenate([batch.reshape(-1, 4).double().numpy() for batch in batches])
    np.testing.assert_allclose(part.mean, everything.mean(0), rtol=1e-12)
    np.testing.assert_allclose(part.variance, everything.var(0), rtol=1e-9)
    saved = {name: value.clone() for name, value in part.state_dict().items()}
    normal = (everything - everything.mean(0)) / np.sqrt(everything.var(0) + 1e-8)
    expected = relu(part.linear(torch.from_numpy(normal).float()))
    torch.testing.assert_close(part(torch.from_numpy(everything).float()), expected, rtol=1e-3, atol=1e-3)
    assert all(torch.equal(saved[name], value) for name, value in part.state_dict().items())
    far = torch.tensor([[1e9, -1e9, 1e9, 7.0]])
    torch.testing.assert_close(part(far), relu(part.linear(torch.tensor([[10.0, -10.0, 10.0, 0.0]]))))


def test_the_features_of_a_single_field_are_used_as_they_are() -> None:
    part, (_, vector, _) = encoder().parts[1], observation(9)
    alone = ObservationEncoder([part], 7)
    assert torch.equal(alone((vector,)), part(vector))
    assert alone.output_size == 4


def test_only_images_are_rounded_to_bfloat16() -> None:
    network, seen = encoder(torch.bfloat16), []
    for part in network.parts:
        part.register_forward_hook(lambda _, __, features: seen.append(features.dtype))
    assert network(observation(9)).dtype == torch.float32
    assert seen == [torch.bfloat16, torch.float32, torch.float32]
    torch.testing.assert_close(network(observation(9)), encoder()(observation(9)), rtol=0.02, atol=0.01)


@torch.no_grad()
def test_a_copy_that_acts_is_the_agent_to_the_bit() -> None:
    agent = ActorCritic(encoder(torch.bfloat16), rdn.Config(), (3, 2)).eval()
    rest = torch.zeros(1, 4, 2, dtype=torch.int64), torch.randn(1, 4), torch.zeros(1, 4, dtype=torch.bool)
    inputs, start = AgentInput(observation(1, 4), *rest), agent.initial_state(4)
    (ours, state), (theirs, other_state) = (each(inputs, start) for each in (agent, agent.acting_copy()))
    assert all(torch.equal(*pair) for pair in zip((*ours, *state), (*theirs, *other_state), strict=True))


def test_orthogonal_initialisation_sets_tables_as_it_sets_linear_layers() -> None:
    agent = ActorCritic(encoder(), rdn.Config(), (3, 2))
    initialise(agent, "orthogonal")
    table = agent.encoder.parts[2].table.weight  # [10, 5]
    torch.testing.assert_close(table.T @ table, 2 * torch.eye(5))
