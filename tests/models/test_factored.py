"""Policies of several choices, against the policy over all their combinations, worked out one by one."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from rfwp.models import factored

SIZES = [(4,), (3, 3), (2, 1, 5)]
every_size = pytest.mark.parametrize("sizes", SIZES)


def random_logits(sizes: tuple[int, ...], *lead: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(*lead, sum(sizes), dtype=torch.float64, generator=generator)


def joint(logits: Tensor, sizes: tuple[int, ...]) -> tuple[list[tuple[int, ...]], Tensor]:
    """Every action, and log π of each: [..., ΣA] -> [..., A_1 x ... x A_K]."""
    actions = list(itertools.product(*map(range, sizes)))
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    totals = [
        sum(logits[..., start + value] for start, value in zip(starts, action, strict=True)) for action in actions
    ]
    return actions, torch.stack(totals, -1).log_softmax(-1)


@every_size
def test_likelihood_entropy_and_gradients_are_those_of_the_joint_policy(sizes) -> None:
    logits = random_logits(sizes, 3, 2).requires_grad_()
    actions, log_policy = joint(logits, sizes)
    index = torch.randint(len(actions), (3, 2), generator=torch.Generator().manual_seed(2))
    expected = -log_policy.gather(-1, index[..., None]).squeeze(-1)
    found = factored.negative_log_likelihood(logits, torch.tensor(actions)[index], sizes)
    torch.testing.assert_close(found, expected)
    negative_entropy, joint_entropy = factored.negative_entropy(logits, sizes), (log_policy.exp() * log_policy).sum(-1)
    torch.testing.assert_close(negative_entropy, joint_entropy)
    weights = torch.linspace(-1, 2, 6, dtype=torch.float64).view(3, 2)
    (ours,) = torch.autograd.grad((found * weights + negative_entropy).sum(), logits, retain_graph=True)
    (theirs,) = torch.autograd.grad((expected * weights + joint_entropy).sum(), logits)
    torch.testing.assert_close(ours, theirs)


@every_size
def test_the_gradient_of_the_likelihood_is_probability_minus_choice(sizes) -> None:
    logits = random_logits(sizes, 3, 2).requires_grad_()
    action = torch.stack(
        [torch.randint(size, (3, 2), generator=torch.Generator().manual_seed(2)) for size in sizes], -1
    )
    advantages = torch.linspace(-1, 2, 6, dtype=torch.float64).view(3, 2)
    (factored.negative_log_likelihood(logits, action, sizes) * advantages).sum().backward()
    chosen = torch.cat([torch.nn.functional.one_hot(action[..., k], size) for k, size in enumerate(sizes)], -1)
    policy = torch.cat([part.softmax(-1) for part in logits.detach().split(sizes, -1)], -1)
    torch.testing.assert_close(logits.grad, (policy - chosen) * advantages[..., None])


def test_an_action_of_a_uniform_policy_is_as_likely_as_any_other() -> None:
    found = factored.negative_log_likelihood(torch.zeros(1, 2, 7), torch.tensor([[[0, 2], [3, 1]]]), (4, 3))
    torch.testing.assert_close(found, torch.tensor([[math.log(12), math.log(12)]]))


def test_a_uniform_policy_has_the_entropy_of_its_choices_and_a_certain_one_has_none() -> None:
    uniform, certain = torch.zeros(1, 2, 7), torch.tensor([[[0.0, -1e4]]])
    expected = torch.tensor([[-math.log(12), -math.log(12)]])
    torch.testing.assert_close(factored.negative_entropy(uniform, (4, 3)), expected)
    torch.testing.assert_close(factored.negative_entropy(certain, (2,)), torch.tensor([[0.0]]))


@every_size
def test_samples_are_as_frequent_as_the_joint_policy_says(sizes) -> None:
    count, logits = 20_000, random_logits(sizes)
    drawn = factored.sample(logits.expand(count, -1), sizes, torch.Generator().manual_seed(3))
    actions, log_policy = joint(logits, sizes)
    for action, probability in zip(actions, log_policy.exp().tolist(), strict=True):
        share = (drawn == torch.tensor(action)).all(-1).double().mean().item()
        assert abs(share - probability) < 5 * math.sqrt(probability / count)


@every_size
def test_the_greedy_action_is_the_most_likely_one_and_probabilities_are_those_of_each_choice(sizes) -> None:
    logits = random_logits(sizes, 10)
    actions, log_policy = joint(logits, sizes)
    assert factored.greedy(logits, sizes).tolist() == [list(actions[i]) for i in log_policy.argmax(-1)]
    found = factored.probabilities(logits, sizes)
    for k, size in enumerate(sizes):
        for value in range(size):
            of_value = [i for i, action in enumerate(actions) if action[k] == value]
            torch.testing.assert_close(found[:, sum(sizes[:k]) + value], log_policy[:, of_value].exp().sum(-1))


def test_one_hot_marks_each_choice() -> None:
    assert factored.one_hot(torch.tensor([[0, 2], [1, 0]]), (2, 3)).tolist() == [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]]


def test_a_single_choice_is_drawn_as_torch_multinomial_draws_it() -> None:
    logits = 3 * torch.randn(500, 6, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.Generator().manual_seed(2) for _ in range(2))
    for _ in range(3):
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=theirs)
        assert torch.equal(factored.sample(logits, (6,), ours), drawn)


def test_logits_that_are_not_finite_still_give_valid_actions() -> None:
    logits = torch.tensor([[float("nan")] * 5, [float("inf"), 0.0, 0.0, float("nan"), 0.0]])
    action = factored.sample(logits, (3, 2), torch.Generator().manual_seed(0))
    assert ((action >= 0) & (action < torch.tensor([3, 2]))).all()
