"""Statistics against rliable's, and against numbers that were worked out by hand."""

import numpy as np
import pytest

from rfwp.runners.evaluation import statistics

# Six games of five runs each. What rliable 1.2.0 (Agarwal et al. 2021; arch 7.2.0) makes of them is below: estimates as
# they are, intervals from 20,000 or 50,000 samples.
OURS = [
    [0.834, 0.903, 0.802, 0.763, 0.274],
    [0.669, 0.815, 0.184, 0.875, 1.264],
    [0.573, 0.232, 0.932, 0.883, 1.356],
    [0.873, 0.12, 0.413, 0.18, 1.343],
    [0.554, 0.254, 0.413, 0.913, 0.469],
    [1.191, 0.939, 1.544, 2.906, 0.569],
]
THEIRS = [
    [0.222, 1.09, 0.463, 0.071, 0.973],
    [0.57, 0.494, 1.064, 0.302, 0.627],
    [1.45, 1.803, 1.075, 2.628, 0.257],
    [0.335, 0.522, 1.371, 0.394, 0.315],
    [0.076, 0.606, 1.016, 0.955, 0.771],
    [0.618, 0.241, 0.862, 0.566, 0.406],
]
RLIABLE = {
    "iqm": (0.74, 0.5911875, 0.884375),
    "mean": (0.8013333333333333, 0.6473333333333334, 0.9695341666666666),
    "median": (0.7383000000000001, 0.5716, 0.8828),
    "optimality_gap": (0.3188, 0.2262325, 0.4147333333333333),
}
THRESHOLDS = [0.25, 0.5, 1.0, 1.5, 2.0]
RLIABLE_PROFILE = [
    [0.86666667, 0.7, 0.2, 0.06666667, 0.03333333],
    [0.76666667, 0.56666667, 0.06666667, 0.0, 0.0],
    [0.96666667, 0.83333333, 0.33333333, 0.13333333, 0.1],
]


def strata(scores):
    return [np.array(runs, np.float64) for runs in scores]


@pytest.mark.parametrize("name", RLIABLE)
def test_aggregates_and_their_intervals_are_those_of_rliable(name):
    _, statistic = statistics.AGGREGATES[name]
    value, low, high = statistics.estimate(statistic, strata(OURS), samples=20_000)
    assert value == pytest.approx(RLIABLE[name][0])
    assert (low, high) == pytest.approx(RLIABLE[name][1:], abs=0.012)


def test_the_probability_of_improvement_is_that_of_rliable():
    chance = statistics.estimate(statistics.probability_of_improvement, strata(OURS), strata(THEIRS), samples=20_000)
    assert chance.value == pytest.approx(0.51333333)
    assert (chance.low, chance.high) == pytest.approx((0.37333333, 0.65333333), abs=0.015)


def test_performance_profiles_are_those_of_rliable():
    profile = statistics.bootstrap(lambda s: statistics.performance_profile(s, THRESHOLDS), strata(OURS), samples=5000)
    np.testing.assert_allclose(profile[0], RLIABLE_PROFILE[0], atol=1e-8)
    np.testing.assert_allclose(profile[1:], RLIABLE_PROFILE[1:], atol=0.034)  # one run of thirty


def test_aggregates_worked_out_by_hand():
    scores = strata([[0.0, 0.2], [0.5, 0.7, 0.9], [3.0, 5.0, 7.0]])
    # Sorted: 0 0.2 | 0.5 0.7 0.9 3 | 5 7. Means of the games: 0.1, 0.7, 5. Short of 1: 1, 0.8, 0.5, 0.3, 0.1.
    assert statistics.iqm(scores) == pytest.approx((0.5 + 0.7 + 0.9 + 3.0) / 4)
    assert statistics.median(scores) == pytest.approx(0.7)
    assert statistics.mean(scores) == pytest.approx(5.8 / 3)
    assert statistics.optimality_gap(scores) == pytest.approx(2.7 / 8)


def test_a_tie_is_half_an_improvement():
    # First game: 2 beats 1 and ties with 2, 3 beats both: 3.5 of 4. Second game: never.
    chance = statistics.probability_of_improvement(strata([[2, 3], [0]]), strata([[1, 2], [5]]))
    assert chance == pytest.approx((3.5 / 4 + 0) / 2)


def test_samples_on_a_leading_axis_are_each_treated_as_a_set_of_scores():
    samples = [np.random.default_rng(game).normal(size=(7, 4)) for game in range(3)]
    for _, statistic in statistics.AGGREGATES.values():
        alone = [statistic([game[sample] for game in samples]) for sample in range(7)]
        np.testing.assert_allclose(statistic(samples), alone)


def test_relative_improvement_has_a_sign_where_scores_are_negative():
    # Pong: random -20.7, human 14.6. From -10 to 10 is 20 of the 35.3 points that the human gains.
    assert statistics.relative_improvement(10, -10, -20.7, 14.6) == pytest.approx(20 / 35.3)
    # A baseline above the human is the measure itself: from 200 to 100 of 200 points.
    assert statistics.relative_improvement(100, 200, 0, 50) == pytest.approx(-0.5)


def test_single_runs_have_no_interval():
    alone = statistics.estimate(statistics.mean, strata([[1.0], [2.0]]))
    assert alone.value == 1.5
    assert np.isnan([alone.low, alone.high]).all()
    assert np.isnan(statistics.mean_curve(np.ones((1, 5)))[1:]).all()


def test_a_single_run_of_one_game_passes_for_exact_in_no_interval():
    several, one = [1.0, 2.0, 3.0], [2.0]
    assert np.isfinite(statistics.estimate(statistics.mean, strata([several, several]))).all()
    assert np.isnan(statistics.estimate(statistics.mean, strata([several, one]))[1:]).all()
    chance = statistics.probability_of_improvement
    assert np.isnan(statistics.estimate(chance, strata([several]), strata([one]))[1:]).all()


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        scores = [generator.normal(game, 1, size=20) for game in range(3)]
        _, low, high = statistics.estimate(statistics.mean, scores, samples=400)
        hits += low <= 1.0 <= high
    assert 0.9 <= hits / 200 <= 0.99


def test_the_interval_of_a_curve_is_that_of_its_points():
    curves = np.array([[0.0, 4.0], [1.0, 4.0], [2.0, 4.0]])
    average, low, high = statistics.mean_curve(curves)
    assert average.tolist() == [1.0, 4.0]
    # The mean of three draws from 0, 1 and 2 is 0 or 2 with 1/27 each, more than 2.5 %.
    assert (low.tolist(), high.tolist()) == ([0.0, 4.0], [2.0, 4.0])
