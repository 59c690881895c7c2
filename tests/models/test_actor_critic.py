"""The agent's network and its starting weights."""

import math

import pytest
import torch
from torch import Tensor

from rfwp.agents.weights import WeightBoard
from rfwp.models.actor_critic import ActorCritic, AgentInput
from rfwp.models.core import CoreConfig
from rfwp.models.cores import delta_net, feedforward, gru, lstm, rdn
from rfwp.models.encoder import EncoderConfig
from rfwp.models.encoders import flat, impala, shallow
from rfwp.models.initialisation import initialise
from rfwp.models.observation_encoder import ObservationEncoder

SHAPE, ACTIONS, LENGTH, BATCH = (1, 3, 3), (5,), 4, 2


def agent(core: CoreConfig | None = None, precision: torch.dtype = torch.float32) -> ActorCritic:
    torch.manual_seed(0)
    encoder = encoder_of(flat.Config(size=6), SHAPE, precision)
    return ActorCritic(encoder, core or lstm.Config(hidden_size=8), ACTIONS)


def encoder_of(
    config: EncoderConfig, shape: tuple[int, ...] = (4, 84, 84), precision: torch.dtype = torch.float32
) -> ObservationEncoder:
    return ObservationEncoder([config.build(shape)], config.size, precision)


def batch() -> AgentInput:
    generator = torch.Generator().manual_seed(1)
    observation = torch.randint(0, 256, (LENGTH, BATCH, *SHAPE), dtype=torch.uint8, generator=generator)
    first = torch.zeros(LENGTH, BATCH, dtype=torch.bool)
    first[2, 1] = True
    last_action = torch.randint(0, ACTIONS[0], (LENGTH, BATCH, 1), generator=generator)
    return AgentInput((observation,), last_action, torch.randn(LENGTH, BATCH, generator=generator), first)


def test_outputs_have_time_first_and_are_float32() -> None:
    network = agent()
    output, _ = network(batch(), network.initial_state(BATCH))
    assert output.logits.shape == (LENGTH, BATCH, 5)
    assert output.value.shape == (LENGTH, BATCH)
    assert {output.logits.dtype, output.value.dtype} == {torch.float32}


def test_the_core_reads_features_of_each_frame_the_clamped_reward_and_the_resets() -> None:
    network = agent(feedforward.Config())
    inputs = batch()._replace(reward=torch.tensor([[-7.0, -0.5], [0.0, 0.25], [1.0, 30.0], [2.0, -1.0]]))
    read: list[Tensor] = []
    network.core.register_forward_pre_hook(lambda _, arguments: read.extend((arguments[0], arguments[2])))
    network(inputs, ())
    core_input, core_reset = read
    assert torch.equal(core_reset, inputs.first)
    assert core_input.shape == (LENGTH, BATCH, 7)
    assert core_input[..., 6].tolist() == [[-1.0, -0.5], [0.0, 0.25], [1.0, 1.0], [1.0, -1.0]]
    for t in range(LENGTH):
        torch.testing.assert_close(core_input[t, :, :6], network.encoder((inputs.observation[0][t],)))


def test_an_agent_that_is_shown_its_last_action_reads_it_one_hot_and_scaled_rewards() -> None:
    encoder = encoder_of(flat.Config(size=6), SHAPE)
    network = ActorCritic(encoder, feedforward.Config(), (2, 3), reads_last_action=True, reward_scale=4.0)
    read: list[Tensor] = []
    network.core.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
    inputs = batch()._replace(
        last_action=torch.tensor([[[0, 0], [1, 2]], [[1, 1], [0, 2]], [[0, 1], [1, 2]], [[1, 0], [1, 1]]]),
        reward=torch.tensor([[0.125, -0.2], [0.0, 0.25], [1.0, 30.0], [0.05, -1.0]]),
    )
    network(inputs, ())
    (core_input,) = read
    torch.testing.assert_close(core_input[..., 6], torch.tensor([[0.5, -0.8], [0.0, 1.0], [1.0, 1.0], [0.2, -1.0]]))
    assert core_input[:, 0, 7:].tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 1, 0], [0, 1, 1, 0, 0]]
    assert core_input[:, 1, 7:].tolist() == [[0, 1, 0, 0, 1], [1, 0, 0, 0, 1], [0] * 5, [0, 1, 0, 1, 0]]  # 2: first


def test_the_heads_are_linear_on_the_cores_output() -> None:
    network = agent(feedforward.Config())
    inputs = batch()
    output, _ = network(inputs, ())
    features = torch.cat([network.encoder((inputs.observation[0][1],)), inputs.reward[1].clamp(-1, 1).unsqueeze(1)], 1)
    torch.testing.assert_close(output.logits[1], features @ network.policy.weight.T + network.policy.bias)
    torch.testing.assert_close(output.value[1], features @ network.value.weight[0] + network.value.bias)


def test_acting_step_by_step_is_the_unroll() -> None:
    network = agent()
    inputs = batch()
    state = network.initial_state(BATCH)
    whole, after = network(inputs, state)
    for t in range(LENGTH):
        output, state = network(inputs.map(lambda field, t=t: field[t : t + 1]), state)
        torch.testing.assert_close((output.logits[0], output.value[0]), (whole.logits[t], whole.value[t]))
    torch.testing.assert_close(state, after)


def test_bfloat16_reaches_the_encoder_only() -> None:
    network, exact = agent(precision=torch.bfloat16), agent()
    inside: dict[str, torch.dtype] = {}
    network.encoder.parts[0].register_forward_hook(lambda _, __, features: inside.update(encoder=features.dtype))
    network.core.register_forward_hook(lambda _, __, outputs: inside.update(core=outputs[0].dtype))
    output, state = network(batch(), network.initial_state(BATCH))
    assert inside == {"encoder": torch.bfloat16, "core": torch.float32}
    assert {leaf.dtype for leaf in (*output, *state)} == {torch.float32}
    expected, _ = exact(batch(), exact.initial_state(BATCH))
    torch.testing.assert_close(output, expected, rtol=0.02, atol=0.01)


@pytest.mark.parametrize(
    ("core", "core_weights"),
    [
        (feedforward.Config(), 0),
        (lstm.Config(), 4 * 256 * (257 + 256 + 2)),
        (delta_net.Config(), 429_568),
        (rdn.Config(), 454_400),
    ],
)
def test_the_paper_agent_for_pong_has_the_weights_of_its_parts(core: CoreConfig, core_weights: int) -> None:
    network = ActorCritic(encoder_of(impala.Config()), core, (6,))
    heads = 7 * (network.core.output_size + 1)
    assert sum(weight.numel() for weight in network.parameters()) == 1_089_232 + core_weights + heads


def test_a_copy_that_acts_is_the_agent_to_the_bit_with_its_newest_weights() -> None:
    network = ActorCritic(encoder_of(impala.Config(), precision=torch.bfloat16), rdn.Config(), ACTIONS)
    acting, board = network.acting_copy(), WeightBoard()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
        board.publish(network, version=1)
        assert board.update(acting, version=0) == 1
        frames = torch.randint(256, (1, 3, 4, 84, 84), dtype=torch.uint8)
        inputs = AgentInput(
            (frames,), torch.zeros(1, 3, 1, dtype=torch.int64), torch.randn(1, 3), torch.rand(1, 3) < 0.5
        )
        (logits, value), state = network.eval()(inputs, network.initial_state(3))
        (acting_logits, acting_value), acting_state = acting(inputs, acting.initial_state(3))
    for ours, theirs in zip((logits, value, *state), (acting_logits, acting_value, *acting_state), strict=True):
        assert torch.equal(ours, theirs)


def test_default_initialisation_leaves_the_weights_as_built() -> None:
    network = agent()
    before = [weight.clone() for weight in network.parameters()]
    initialise(network, "default")
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))


def test_orthogonal_initialisation_sets_encoder_cells_and_heads() -> None:
    torch.manual_seed(0)
    network = ActorCritic(encoder_of(shallow.Config()), lstm.Config(hidden_size=8), ACTIONS)
    initialise(network, "orthogonal")
    layers = [layer for layer in network.encoder.modules() if hasattr(layer, "weight")]
    assert len(layers) == 3
    for layer, gain in [*((layer, 2**0.5) for layer in layers), (network.policy, 0.01), (network.value, 1.0)]:
        rows = layer.weight.flatten(1)
        torch.testing.assert_close(rows @ rows.T, gain**2 * torch.eye(len(rows)), rtol=0, atol=1e-4 * gain**2)
        assert layer.bias.count_nonzero() == 0
    cell = network.core.layers[0]
    for matrix in (cell.weight_ih, cell.weight_hh):  # tall and wide ones
        small = min((matrix @ matrix.T, matrix.T @ matrix), key=len)
        torch.testing.assert_close(small, torch.eye(len(small)), rtol=0, atol=1e-4)
    gates = torch.tensor([0.0, 1.0, 0.0, 0.0]).repeat_interleave(8)  # input, forget, update, output
    assert torch.equal(cell.bias_hh, gates)
    assert cell.bias_ih.count_nonzero() == 0


@pytest.mark.parametrize("core", [lstm.Config(hidden_size=8), gru.Config(hidden_size=8)])
@torch.no_grad()
def test_orthogonal_initialisation_makes_a_cell_keep_its_memory(core) -> None:
    network = agent(core)
    initialise(network, "orthogonal")
    cell = network.core.layers[0]
    for matrix in (cell.weight_ih, cell.weight_hh):
        matrix.zero_()
    memory = torch.rand(3, 8)
    x = torch.zeros(3, cell.input_size)
    after = cell(x, (memory, memory))[1] if isinstance(cell, torch.nn.LSTMCell) else cell(x, memory)
    torch.testing.assert_close(after, memory / (1 + math.exp(-1)))


def test_orthogonal_initialisation_leaves_fast_weight_cores_as_built() -> None:
    network = agent(rdn.Config())
    core = [weight.clone() for weight in network.core.parameters()]
    initialise(network, "orthogonal")
    assert all(torch.equal(*pair) for pair in zip(core, network.core.parameters(), strict=True))


def test_an_unknown_initialisation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^initialisation: got xavier; allowed: default, orthogonal$"):
        initialise(agent(), "xavier")
