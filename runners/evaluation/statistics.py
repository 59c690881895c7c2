"""Statistics of scores over environments and runs, as pure functions on arrays.

Scores of one agent are `strata`: for each environment an array [..., runs], one score a run. Leading axes are those of
bootstrap samples, so that the same function serves an estimate and its samples. Definitions, and the advice to report
them with intervals: Agarwal et al. 2021, Deep Reinforcement Learning at the Edge of the Statistical Precipice.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Strata = Sequence[Array]

SAMPLES = 2000  # of a bootstrap
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A number and its confidence interval; both ends are NaN if there are too few runs."""

    value: float
    low: float
    high: float


def iqm(strata: Strata) -> Array:
    """Return the interquartile mean [...]: the mean of the middle half of all runs of all environments."""
    from scipy.stats import (
        trim_mean,
    )  # here: it takes half a second, and every run imports this module

    return np.asarray(trim_mean(np.concatenate(strata, axis=-1), 0.25, axis=-1))


def mean(strata: Strata) -> Array:
    """Return the mean [...] over environments of each one's mean over runs."""
    return np.asarray(_env_means(strata).mean(axis=-1))


def median(strata: Strata) -> Array:
    """Return the median [...] over environments of each one's mean over runs."""
    return np.asarray(np.median(_env_means(strata), axis=-1))


def optimality_gap(strata: Strata, target: float = 1.0) -> Array:
    """Return how far runs fall short of `target` on average [...]; scores above it count as `target`."""
    return np.asarray(target - np.minimum(np.concatenate(strata, axis=-1), target).mean(axis=-1))


def probability_of_improvement(ours: Strata, theirs: Strata) -> Array:
    """Return the probability that one of our runs beats one of theirs [...], mean over environments; a tie is 1/2."""
    chances = []
    for our, their in zip(ours, theirs, strict=True):
        difference = our[..., :, None] - their[..., None, :]  # [..., our runs, their runs]
        chances.append(((np.sign(difference) + 1) / 2).mean(axis=(-2, -1)))
    return np.asarray(np.mean(chances, axis=0))


def performance_profile(strata: Strata, thresholds: ArrayLike) -> Array:
    """Return the share of all runs that score above each threshold [..., thresholds]."""
    runs = np.concatenate(strata, axis=-1)
    return np.stack([(runs > threshold).mean(axis=-1) for threshold in np.asarray(thresholds)], axis=-1)


def relative_improvement(ours: ArrayLike, baseline: ArrayLike, low: ArrayLike, high: ArrayLike) -> Array:
    """Return the gain over a baseline as a share of what the better of baseline and `high` gains over `low`.

    Wang et al. 2016, Dueling Network Architectures, equation 10, where `high` is a human and `low` random play. Unlike
    a plain quotient, it makes sense for negative raw scores.
    """
    ours, baseline, low, high = (np.asarray(each, np.float64) for each in (ours, baseline, low, high))
    return np.asarray((ours - baseline) / (np.maximum(baseline, high) - low))


def bootstrap(
    statistic: Callable[..., Array], *agents: Strata, samples: int = SAMPLES, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Return a statistic of one or more agents and both ends of its percentile interval; resample by environment.

    Both ends are NaN if an agent has a single run of an environment: its interval would have no width.
    """
    generator = np.random.default_rng(seed)
    value = statistic(*agents)
    if not all(repeated(strata) for strata in agents):
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    drawn = statistic(*([_draw(runs, samples, generator) for runs in strata] for strata in agents))
    low, high = percentile_interval(drawn)
    return value, low, high


def repeated(strata: Strata) -> bool:
    """Return True if every environment has several runs."""
    return all(len(runs) > 1 for runs in strata)


def estimate(statistic: Callable[..., Array], *agents: Strata, samples: int = SAMPLES, seed: int = 0) -> Estimate:
    """Bootstrap a statistic that is one number."""
    value, low, high = bootstrap(statistic, *agents, samples=samples, seed=seed)
    return Estimate(float(value), float(low), float(high))


def mean_curve(curves: Array, samples: int = SAMPLES, seed: int = 0) -> tuple[Array, Array, Array]:
    """Return the mean [points] over seeds of curves [seeds, points] and both ends of its interval; NaN for one seed."""
    average = curves.mean(axis=0)
    if len(curves) < 2:
        return average, np.full_like(average, np.nan), np.full_like(average, np.nan)
    chosen = np.random.default_rng(seed).integers(len(curves), size=(samples, len(curves)))
    counts = (chosen[..., None] == np.arange(len(curves))).sum(axis=1)  # [samples, seeds]
    low, high = percentile_interval(counts @ curves / len(curves))
    return average, low, high


def percentile_interval(samples: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
    """Return both ends [...] of the central interval of bootstrap samples [samples, ...]."""
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(samples, [tail, 100 - tail], axis=0)
    return low, high


def _draw(runs: Array, samples: int, generator: np.random.Generator) -> Array:
    """Draw as many runs as there are, with replacement [samples, runs]."""
    return runs[generator.integers(len(runs), size=(samples, len(runs)))]


def _env_means(strata: Strata) -> Array:
    return np.stack([runs.mean(axis=-1) for runs in strata], axis=-1)  # [..., environments]


# Aggregates of normalised scores: name and function.
AGGREGATES: dict[str, tuple[str, Callable[[Strata], Array]]] = {
    "iqm": ("interquartile mean", iqm),
    "median": ("median", median),
    "mean": ("mean", mean),
    "optimality_gap": ("optimality gap", optimality_gap),
}
