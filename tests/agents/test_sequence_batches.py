"""Batches for supervised training: packing changes nothing, rows are the text, and windows count each token once."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from every_core import NAMES, make_config
from torch import Tensor

from rfwp.agents.objectives import cross_entropy
from rfwp.agents.sequence_batches import NO_SEQUENCE, Drawn, Packed, Segments, SequenceBatch, Windows, pack
from rfwp.envs.sequence_task import NO_TARGET, Example, Sequences
from rfwp.envs.sequences import listops
from rfwp.envs.sequences.language_model import predict_next
from rfwp.models.sequence_model import SequenceModel, SequenceModelConfig

SMALL = {"hidden_size": 8, "num_layers": 2, "num_heads": 2, "feedforward_size": 8, "context": 30}
TOKENS, CLASSES = 7, 5


def make_model(name: str) -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModelConfig(embedding_size=8).build(make_config(name, SMALL), TOKENS, CLASSES).double()


def random_sequences(*lengths: int) -> Sequences:
    random = np.random.default_rng(0)
    return Sequences.join(
        Example(random.integers(TOKENS, size=n).tolist(), [*random.integers(-1, CLASSES, size=n - 1).tolist(), 1])
        for n in lengths
    )


def random_stream(length: int) -> Sequences:
    return predict_next(np.random.default_rng(0).integers(CLASSES, size=length + 1).astype(np.uint16))


def padded(sequences: Sequences, to: int) -> SequenceBatch:
    """One sequence a row."""
    batch = SequenceBatch(
        *(torch.full((to, len(sequences.start) - 1), fill) for fill in (0, NO_TARGET, 0, NO_SEQUENCE))
    )
    for row, (start, stop) in enumerate(pairwise(sequences.start)):
        batch.token[: stop - start, row] = torch.from_numpy(sequences.token[start:stop].astype(np.int64))
        batch.target[: stop - start, row] = torch.from_numpy(sequences.target[start:stop].astype(np.int64))
        batch.sequence[: stop - start, row] = row
    first = torch.zeros(batch.token.shape, dtype=torch.bool)
    first[0] = True
    return batch._replace(first=first)


def sum_and_gradients(model: SequenceModel, batch: SequenceBatch) -> list[Tensor]:
    """The summed loss of a batch and its gradients."""
    batch = batch._replace(state=model.initial_state(batch.token.shape[1]))
    loss = cross_entropy.Config().loss(model, batch, version=0).value * (batch.target >= 0).sum()
    return [loss, *torch.autograd.grad(loss, list(model.parameters()))]


@pytest.mark.parametrize("name", NAMES)
def test_packed_rows_padded_rows_and_single_sequences_teach_the_same(name: str) -> None:
    sequences, model = random_sequences(9, 3, 12, 5, 4), make_model(name)
    packed = pack(sequences, np.arange(5))
    assert packed.token.shape == (12, 3)
    expected = sum_and_gradients(model, padded(sequences, to=15))
    torch.testing.assert_close(sum_and_gradients(model, packed), expected, rtol=1e-10, atol=1e-12)
    alone = [sum_and_gradients(model, pack(sequences, np.array([n]))) for n in range(5)]
    summed = [torch.stack(each).sum(0) for each in zip(*alone, strict=True)]
    torch.testing.assert_close(summed, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_nan_in_a_sequence_leaves_its_neighbours_in_the_row_alone(name: str) -> None:
    model, batch = make_model(name), pack(random_sequences(6, 5, 4, 7), np.arange(4))
    batch.token[batch.sequence == 1] = TOKENS - 1
    batch.token[(batch.sequence != 1) & (batch.token == TOKENS - 1)] = 0
    state = model.initial_state(batch.token.shape[1])
    clean, _ = model(batch.token, batch.first, state)
    with torch.no_grad():
        model.embedding.weight[TOKENS - 1] = torch.nan
    hidden, _ = model(batch.token, batch.first, state)
    lost = hidden.isnan().any(2)
    assert lost[batch.sequence == 1].all()
    others = (batch.sequence >= 0) & (batch.sequence != 1)
    assert torch.equal(hidden[others], clean[others])


def test_an_epoch_has_every_sequence_once_in_an_order_that_depends_on_the_seed_and_the_epoch() -> None:
    sequences = random_sequences(*range(2, 25))
    batches = Packed(sequences, batch_size=5, seed=3)
    assert batches.per_epoch == 5
    epochs = [[batches[update].sequence for update in range(start, start + 5)] for start in (0, 5)]
    orders = [[sorted(set(batch.flatten().tolist()) - {NO_SEQUENCE}) for batch in epoch] for epoch in epochs]
    for order in orders:
        assert sorted(n for batch in order for n in batch) == list(range(23))
    assert [len(batch) for batch in orders[0]] == [5, 5, 5, 5, 3]
    assert orders[0] != orders[1]
    again, other = (Packed(sequences, batch_size=5, seed=seed)[0] for seed in (3, 4))
    assert torch.equal(again.token, batches[0].token)
    assert not torch.equal(again.sequence, other.sequence)


def test_drawn_sequences_are_new_in_every_update_and_depend_on_the_seed_alone() -> None:
    draw = listops.Config(depth=1).draw
    batches, again, other = (Drawn(draw, 8, seed) for seed in (1, 1, 2))
    assert torch.equal(batches[5].token, again[5].token)
    seen = [tuple(map(int, batch.token.flatten())) for batch in (batches[0], batches[1], other[0])]
    assert len(set(seen)) == 3
    assert int(batches[0].first.sum()) == 8


def test_packing_keeps_tokens_targets_and_starts() -> None:
    sequences = random_sequences(4, 7, 2, 2)
    batch = pack(sequences, np.array([3, 1, 0]))
    for n in (3, 1, 0):
        steps, rows = (batch.sequence == n).nonzero(as_tuple=True)
        start, stop = sequences.start[n], sequences.start[n + 1]
        assert len(set(rows.tolist())) == 1
        assert steps.diff().eq(1).all()
        assert batch.token[steps, rows].tolist() == sequences.token[start:stop].tolist()
        assert batch.target[steps, rows].tolist() == sequences.target[start:stop].tolist()
        assert batch.first[steps, rows].tolist() == [True] + [False] * (stop - start - 1)
    padding = batch.sequence == NO_SEQUENCE
    assert (batch.target[padding] == NO_TARGET).all()
    assert not batch.first[padding].any()


@pytest.mark.parametrize("carried", [True, False])
def test_the_segments_of_a_row_are_the_text_and_targets_are_the_next_tokens(carried: bool) -> None:
    stream = random_stream(50)
    batches = Segments(stream, rows=3, length=6, carried=carried)
    assert batches.per_epoch == 3  # of 6, 6 and 4 tokens: 3 x 16 of the 50
    parts = [batches[update] for update in range(3)]
    token, target = (
        torch.cat([getattr(part, name) for part in parts]).t().flatten().tolist() for name in ("token", "target")
    )
    assert token == stream.token[:48].tolist()
    assert target == stream.token[1:49].tolist()
    starts = torch.cat([part.first for part in parts])
    assert starts.all(1).nonzero().flatten().tolist() == ([0] if carried else [0, 6, 12])
    assert starts.sum() == 3 * (1 if carried else 3)
    assert batches[3].first.all(1).tolist() == [True] + [False] * 5
    with pytest.raises(ValueError, match="^batch_size: got 51; allowed: at most 50"):
        Segments(stream, rows=51, length=6, carried=carried)


@pytest.mark.parametrize(("length", "stride"), [(5, 1), (5, 5), (5, 2), (30, 1), (23, 23)])
def test_windows_count_every_target_once_with_the_context_that_they_promise(length: int, stride: int) -> None:
    stream = random_stream(23)
    stream = stream._replace(token=np.arange(23))  # tells the place of each token
    batches = Windows(stream, length, stride, batch_size=4)
    context = {}
    for update in range(batches.per_epoch):
        batch = batches[update]
        assert batch.first[0].all()
        assert not batch.first[1:].any()
        for step, column in (batch.target >= 0).nonzero().tolist():
            place = int(batch.token[step, column])
            assert int(batch.target[step, column]) == stream.target[place]
            assert place not in context
            context[place] = step + 1
    assert sorted(context) == list(range(23))
    for place, tokens in context.items():
        assert tokens == place + 1 if place < length else tokens > min(length - stride, length - 1)
