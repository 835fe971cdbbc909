"""The statistics of studies, against independent computations."""

import itertools
import math

import pytest
import torch

from nasframe.study.statistic import estimate, expected_best, improvement, kendall

VALUES = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]


def t_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t, by bisection of the integral of its density."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    grid = torch.linspace(0, 1, 2_001, dtype=torch.float64)

    def above_zero(end: float) -> float:
        density = scale * (1 + (end * grid) ** 2 / freedom) ** (-(freedom + 1) / 2)
        return float(torch.trapezoid(density, end * grid))

    low, high = 0.0, 50.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if above_zero(middle) < 0.475 else (low, middle)
    return low


def test_the_interval_of_a_mean_is_students():
    values = [0.90, 0.93, 0.91]
    found = estimate(values)
    deviation = math.sqrt(
        ((0.90 - 0.91333333333) ** 2 + (0.93 - 0.91333333333) ** 2 + (0.91 - 0.91333333333) ** 2) / 2
    )
    assert found.mean == pytest.approx(2.74 / 3)
    assert found.high - found.mean == pytest.approx(t_quantile(2) * deviation / math.sqrt(3), rel=1e-4)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_one_value_has_no_interval():
    assert (estimate([0.5]).low, estimate([0.5]).high) == (None, None)
    assert improvement([0.5], 0.4).low is None
    assert improvement([0.5, 0.6], [0.4]).low is None


def test_the_improvement_over_a_known_mean_is_that_of_the_paper():
    found = improvement([0.92, 0.94], 0.90)
    assert found.mean == pytest.approx(100 * (0.93 - 0.90) / 0.90)
    half = t_quantile(1) * math.sqrt(0.0002 / 2) / 0.90 * 100
    assert found.high - found.mean == pytest.approx(half, rel=1e-4)


def test_the_improvement_over_other_trials_has_the_interval_of_welch():
    one, other = [0.92, 0.94, 0.93], [0.90, 0.80, 0.88, 0.86]
    found = improvement(one, other)
    variances = [0.0001 / 3, sum((each - 0.86) ** 2 for each in other) / 3 / 4]
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 3)
    assert found.mean == pytest.approx(100 * 0.07 / 0.86)
    half = 100 * t_quantile(freedom) * math.sqrt(sum(variances)) / 0.86
    assert found.high - found.mean == pytest.approx(half, rel=1e-4)
    assert found.count == 3


def test_trials_that_all_agree_leave_no_width():
    found = improvement([0.95, 0.95], 0.9)
    assert found.low == found.mean == found.high


def test_the_rank_correlation_counts_pairs_and_leaves_ties_out():
    other = [2.0, 2.0, 4.0, 0.0, 5.0, 4.0, 1.0]
    pairs = list(itertools.combinations(zip(VALUES, other, strict=True), 2))
    orders = [(a - c) * (b - d) for (a, b), (c, d) in pairs]
    agreement = sum(order > 0 for order in orders) - sum(order < 0 for order in orders)
    untied = [sum(one[axis] != two[axis] for one, two in pairs) for axis in (0, 1)]
    assert kendall(VALUES, other) == pytest.approx(agreement / (untied[0] * untied[1]) ** 0.5, rel=1e-12)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
def test_what_has_no_order_has_no_rank_correlation(values):
    assert kendall(values, list(range(len(values)))) is None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_best_of_n_is_the_mean_over_all_draws(count):
    draws = list(itertools.product(VALUES, repeat=count))
    assert expected_best(VALUES, count) == pytest.approx(sum(map(max, draws)) / len(draws), rel=1e-12)
