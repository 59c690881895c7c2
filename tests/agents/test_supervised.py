"""Supervised training: what is learned, that a resumed run is the same run, and what the scores mean."""

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rfwp.agents.sequence_batches import Packed, Segments, Windows
from rfwp.agents.sequence_scores import score
from rfwp.agents.supervised import SequenceLearnerConfig, Supervised, SupervisedConfig
from rfwp.envs.sequence_task import NO_TARGET, Example, Sequences
from rfwp.envs.sequences import code_execution, language_model, listops
from rfwp.models.core import State
from rfwp.models.cores import delta_net, lstm, rdn, transformer
from rfwp.models.sequence_model import SequenceModel, SequenceModelConfig

CPU = torch.device("cpu")
SMALL = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "feedforward_size": 32}
LISTS = SupervisedConfig(
    listops.Config(depth=2, train=50, valid=10, test=10),
    rdn.Config(**SMALL, dropout=0.1),
    SequenceModelConfig(embedding_size=16, dropout=0.1),
    learner=SequenceLearnerConfig(batch_size=8, warmup=10, schedule="cosine"),
    total_steps=40,
    device="cpu",
)


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def text(tmp_path) -> SupervisedConfig:
    """Training on a little text, with the state carried."""
    words = np.random.default_rng(0).choice(list("abcdefgh"), size=(3, 500))
    for split, letters in zip(("train", "valid", "test"), words, strict=True):
        (tmp_path / f"{split}.txt").write_text("".join(letters))
    learner = SequenceLearnerConfig(batch_size=4, segment_length=10, context="carried")
    task = language_model.Config(str(tmp_path), level="byte")
    return replace(LISTS, task=task, learner=learner)


def weights(system: Supervised) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in system.model.parameters()])


def test_denormal_numbers_are_zero_in_every_operator_thread():
    """They make an LSTM on long sequences take twice as long."""

    def multiply() -> Tensor:
        Supervised(LISTS)
        return torch.full((1 << 20,), 1e-30) * torch.full((1 << 20,), 1e-10)  # on all threads

    with ThreadPoolExecutor(1) as new_thread:  # whose operator threads do not exist yet
        assert not new_thread.submit(multiply).result().any()


@pytest.mark.parametrize("kind", ["lists", "text"])
def test_twenty_updates_a_stop_and_twenty_more_are_forty_updates(kind, text):
    config = LISTS if kind == "lists" else text
    whole = Supervised(config)
    losses = [float(update.metrics["loss"]) for update in whole]
    assert len(losses) == 40

    before = Supervised(config)
    for update in before:
        if update.version == 20:
            break
    weights_then, state_then = before.model.state_dict(), before.state_dict()
    torch.randn(3)  # time passes
    after = Supervised(config)
    after.model.load_state_dict(weights_then)
    after.load_state_dict(state_then)
    assert [float(update.metrics["loss"]) for update in after] == losses[20:]
    assert torch.equal(weights(after), weights(whole))


def test_every_core_of_a_seed_sees_the_same_batches():
    runs = [Supervised(replace(LISTS, core=core)) for core in (LISTS.core, lstm.Config(8), delta_net.Config(**SMALL))]
    for updates in zip(*runs, strict=True):
        assert all(torch.equal(update.batch.token, updates[0].batch.token) for update in updates)


@pytest.mark.parametrize(
    ("task", "core"),
    [
        pytest.param(
            listops.Config(depth=3, train=32, valid=1, test=1), lstm.Config(hidden_size=64), id="listops-lstm"
        ),
        pytest.param(
            code_execution.Config(statements=5, train=32, valid=1, test=1),
            rdn.Config(**SMALL),
            id="code-rdn",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_thirty_two_sequences_are_learned_by_heart(task, core):
    config = SupervisedConfig(
        task,
        core,
        SequenceModelConfig(embedding_size=32),
        learner=SequenceLearnerConfig(batch_size=32, learning_rate=5e-3, gradient_clip=1.0, schedule="cosine"),
        total_steps=500,
        device="cpu",
    )
    system = Supervised(config)
    for _ in system:
        pass
    scores = score(system.model, Packed(system.data.train, 32, seed=None, blank=task.blank), CPU)
    assert (scores.sequences, scores.answers) == (1.0, 1.0)
    assert scores.loss < 0.1


def test_answers_weigh_in_the_loss_as_configured():
    config = replace(LISTS, task=code_execution.Config(statements=5, train=8, valid=2, test=2))
    system = Supervised(config)
    batch = system.batches[0]._replace(state=system.model.initial_state(8))
    system.model.eval()
    loss, metrics, _ = replace(config.objective, answer_weight=15.0).loss(system.model, batch, version=0)
    hidden, _ = system.model(batch.token, batch.first, batch.state)
    surprise = -system.model.head.log_probabilities(hidden.flatten(0, 1)).gather(
        1, batch.target.flatten().clamp(min=0)[:, None]
    )[:, 0]
    counted, answer = batch.target.flatten() >= 0, batch.target.flatten() > 0
    blank = counted & ~answer
    expected = (15 * surprise[answer].sum() + surprise[blank].sum()) / (15 * answer.sum() + blank.sum())
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(metrics["loss"], surprise[counted].mean())
    torch.testing.assert_close(metrics["answer_loss"], surprise[answer].mean())


@pytest.mark.parametrize("core", [rdn, transformer], ids=["rdn", "transformer"])  # the latter counts steps: a leaf [B]
def test_a_broken_row_of_the_carried_state_is_cleared_and_the_others_go_on(text, core):
    system = Supervised(replace(text, core=core.Config(**SMALL)))
    updates = iter(system)
    next(updates)
    kept = [leaf.clone() for leaf in system.learner.final_state]
    system.learner.final_state[0][2] = torch.nan
    update = next(updates)
    for leaf, before in zip(update.batch.state, kept, strict=True):
        assert leaf[2].count_nonzero() == 0
        assert torch.equal(leaf[[0, 1, 3]], before[[0, 1, 3]])
    assert update.metrics["update_skipped"] == 0


class Table(nn.Module):
    """A model that predicts the next token from the last one, by a table of log-probabilities."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table

    @property
    def head(self) -> "Table":
        return self

    def initial_state(self, batch_size: int) -> State:
        return ()

    def forward(self, token: Tensor, *rest: object) -> object:
        if token.dtype.is_floating_point:  # as the head: hidden [N, classes], target [N]
            return token.gather(1, rest[0].unsqueeze(1)).squeeze(1)
        return self.table[token], ()

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        return hidden


def stream(text: str, words: str) -> Sequences:
    return language_model.predict_next(np.array([words.index(letter) for letter in text]))


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary():
    uniform = Table(torch.full((4, 4), -math.log(4)))
    scores = score(uniform, Segments(stream("abcdabdcba" * 3, "abcd"), 1, 7, carried=True), CPU, predictions=False)
    assert scores.perplexity == pytest.approx(4)
    assert scores.bits == pytest.approx(2)
    assert (scores.targets, scores.answers, scores.sequences) == (29, None, None)


@pytest.mark.parametrize("batches", [lambda text: Segments(text, 1, 4, True), lambda text: Windows(text, 5, 1, 3)])
def test_a_bigram_table_has_the_perplexity_that_is_counted_by_hand(batches):
    text = "abacabadabacab"
    pairs, singles = Counter(pairwise(text)), Counter(text[:-1])
    table = torch.tensor([[math.log(max(pairs[a, b] / max(singles[a], 1), 1e-9)) for b in "abcd"] for a in "abcd"])
    by_hand = -sum(count * math.log(count / singles[pair[0]]) for pair, count in pairs.items()) / (len(text) - 1)
    scores = score(Table(table.double()), batches(stream(text, "abcd")), CPU, predictions=False)
    assert scores.loss == pytest.approx(by_hand)


def test_shares_of_right_answers_and_whole_sequences_are_counted_by_hand():
    examples = [Example([0, 1, 2], [0, 2, NO_TARGET]), Example([0, 2], [0, 1]), Example([1, 1], [2, 2])]
    guesses = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.1, 0.7], [0.6, 0.2, 0.2]]).log()  # 0 after 0, 2 after 1, 0 after 2
    scores = score(Table(guesses), Packed(Sequences.join(examples), 2, seed=None, blank=0), CPU)
    assert scores.sequences == pytest.approx(2 / 3)  # the second has 1 after 2
    assert scores.answers == pytest.approx(3 / 4)
    assert scores.targets == 6


def make_model(core: object) -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModelConfig(embedding_size=6).build(core, 5, 5).double().eval()


@pytest.mark.parametrize("core", [lstm.Config(8), delta_net.Config(**SMALL), rdn.Config(**SMALL)])
def test_carried_segments_are_one_long_pass_and_windows_a_loop_over_places(core):
    model, text = make_model(core), stream("abcdeedcbaabdce" * 4, "abcde")
    whole, cut = (score(model, Segments(text, 1, length, carried=True), CPU) for length in (59, 7))
    assert cut.loss == pytest.approx(whole.loss)
    assert cut.targets == whole.targets == 59

    def surprise(place: int, context: int) -> float:
        start = max(0, place + 1 - context)
        token = torch.from_numpy(text.token[start : place + 1])[:, None]
        hidden, _ = model(token, torch.zeros(token.shape, dtype=torch.bool), model.initial_state(1))
        return -model.head.log_probabilities(hidden[-1])[0, text.target[place]].item()

    for context in (4, 9):
        expected = sum(surprise(place, context) for place in range(59)) / 59
        assert score(model, Windows(text, context, 1, 8), CPU).loss == pytest.approx(expected)
    alone = sum(surprise(place, place % 9 + 1) for place in range(59)) / 59
    assert score(model, Windows(text, 9, 9, 2), CPU).loss == pytest.approx(alone)


def test_settings_that_make_no_sense_are_refused_by_name():
    for settings, message in (
        ({"context": "all"}, "^context: got 'all'"),
        ({"segment_length": 0}, "^segment_length: got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            SequenceLearnerConfig(**settings)
    with pytest.raises(ValueError, match="^total_steps: got 0; allowed: a whole number of at least 1"):
        replace(LISTS, total_steps=0)
