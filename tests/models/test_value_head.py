"""The value head that learns in units of its targets' deviation."""

import numpy as np
import torch

from rfwp.models.value_head import SLOWEST, NormalisedValue


def test_values_are_scaled_by_mean_and_deviation_of_all_targets_at_first_and_of_recent_ones_later() -> None:
    torch.manual_seed(0)
    head, random, x = NormalisedValue(3), np.random.default_rng(1), torch.randn(5, 3)
    means, squares = [], []
    for update in range(250):
        targets = random.normal(loc=7 + update, scale=1e-2, size=64)
        head.adapt(torch.tensor(targets.mean()), torch.tensor(targets.std()))
        means.append(targets.mean())
        squares.append((targets**2).mean())
        if update < 1 / SLOWEST:
            expected = np.mean(means), np.mean(squares)
        else:
            expected = tuple(
                0.99 * old + 0.01 * new for old, new in zip(expected, (means[-1], squares[-1]), strict=True)
            )
        np.testing.assert_allclose(head.mean, expected[0], rtol=1e-12)
        np.testing.assert_allclose(head.deviation, np.sqrt(expected[1] - expected[0] ** 2), rtol=1e-6)
        if update == 0:
            np.testing.assert_allclose(head.deviation, targets.std(), rtol=1e-6)
    value = x @ head.weight.T + head.bias
    torch.testing.assert_close(head(x), value * float(head.deviation) + float(head.mean))


def test_targets_that_are_not_finite_are_ignored() -> None:
    head = NormalisedValue(3)
    head.adapt(torch.tensor(torch.nan), torch.tensor(1.0))
    head.adapt(torch.tensor(4.0), torch.tensor(2.0))
    head.adapt(torch.tensor(1.0), torch.tensor(torch.inf))
    assert (float(head.mean), float(head.deviation), float(head.updates)) == (4.0, 2.0, 1.0)
