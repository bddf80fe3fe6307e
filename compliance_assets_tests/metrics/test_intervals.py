"""Intervals agree with the published examples, with scipy, and with brute force; what has no answer is None."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance_assets.metrics.intervals import (
    bootstrap_multinomial,
    delong,
    delong_paired,
    log_ratio,
    newcombe_difference,
    normal_mean,
    wilson,
)


@pytest.mark.parametrize(("k", "n", "lower", "upper"), [
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
])
def test_wilson_gives_the_published_limits(k, n, lower, upper):
    assert wilson(k, n) == pytest.approx((lower, upper), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy_and_holds_the_share(case):
    from scipy.stats import binomtest

    k, n = case
    theirs = binomtest(k, n).proportion_ci(method="wilson")
    lower, upper = wilson(k, n)
    assert (lower, upper) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= lower <= k / n <= upper <= 1


@pytest.mark.parametrize(("counts", "lower", "upper"), [
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10
    ((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090), ((6, 7, 2, 7), 0.0582, 0.8062),
    ((10, 10, 0, 20), 0.6791, 1.0), ((10, 10, 0, 10), 0.6075, 1.0),
])
def test_newcombe_gives_the_published_limits(counts, lower, upper):
    assert newcombe_difference(*counts) == pytest.approx((lower, upper), abs=5e-5)


@given(st.tuples(st.integers(1, 50), st.integers(50, 90), st.integers(1, 50), st.integers(50, 90)))
def test_log_ratio_agrees_with_scipy_relative_risk(counts):
    from scipy.stats.contingency import relative_risk

    theirs = relative_risk(*counts).confidence_interval()
    assert log_ratio(*counts) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_no_rows_and_no_selections_have_no_interval():
    assert wilson(0, 0) is None
    assert newcombe_difference(0, 0, 1, 2) is None
    assert log_ratio(0, 10, 5, 10) is None
    assert log_ratio(5, 10, 0, 10) is None


def test_one_row_has_a_mean_and_no_interval():
    assert normal_mean(np.array([3.0])) == (3.0, None)


def test_values_without_spread_have_a_mean_and_no_interval():
    assert normal_mean(np.array([3.0, 3.0, 3.0])) == (3.0, None)
    assert normal_mean(np.array([3.0, 3.0]), np.array([1.0, 2.0])) == (3.0, None)


def test_equal_weights_give_the_unweighted_mean_and_nearly_its_interval():
    values = np.random.default_rng(1).normal(size=500)
    mean, (lower, upper) = normal_mean(values)
    weighted, (weighted_lower, weighted_upper) = normal_mean(values, np.full(500, 2.0))
    assert weighted == pytest.approx(mean, abs=1e-15)
    assert (weighted_upper - weighted_lower) == pytest.approx((upper - lower) * math.sqrt(499 / 500), rel=1e-12)


def _brute_force(y, score):
    positive, negative = score[y == 1], score[y == 0]
    wins = (positive[:, None] > negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
    v10, v01 = wins.mean(axis=1), wins.mean(axis=0)
    return wins.mean(), v10, v01


@given(st.integers(0, 10_000), st.integers(2, 9))
def test_delong_agrees_with_the_definition_also_in_ties(seed, levels):
    generator = np.random.default_rng(seed)
    y = np.concatenate(([0, 0, 1, 1], generator.integers(0, 2, 40)))
    score = generator.integers(0, levels, len(y)) / levels
    auc, v10, v01 = _brute_force(y, score)
    ours = delong(y, score)
    assert ours.value == pytest.approx(auc, abs=1e-14)
    assert ours.variance == pytest.approx(v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01), abs=1e-14)


def test_paired_delong_agrees_with_the_definition():
    generator = np.random.default_rng(3)
    y = generator.integers(0, 2, 300)
    first = generator.integers(0, 20, 300) / 20
    second = (first + generator.random(300)) / 2
    a, b = _brute_force(y, first), _brute_force(y, second)
    difference, variance = delong_paired(y, first, second)
    assert difference == pytest.approx(a[0] - b[0], abs=1e-14)
    parts = [(a[i] - b[i]) for i in (1, 2)]
    assert variance == pytest.approx(sum(part.var(ddof=1) / len(part) for part in parts), abs=1e-14)


def test_delong_agrees_with_a_bootstrap_of_rows():
    generator = np.random.default_rng(5)
    score = generator.random(800)
    y = (generator.random(800) < score).astype(np.int64)
    draws = []
    for _ in range(600):
        rows = generator.integers(0, 800, 800)
        draws.append(delong(y[rows], score[rows]).value)
    assert math.sqrt(delong(y, score).variance) == pytest.approx(np.std(draws), rel=0.1)


def test_an_absent_class_has_no_auc():
    assert delong(np.zeros(5, dtype=np.int64), np.linspace(0, 1, 5)) is None
    assert delong_paired(np.ones(5, dtype=np.int64), np.linspace(0, 1, 5), np.linspace(0, 1, 5)) is None


def test_three_rows_sorted_by_luck_are_not_certain():
    auc = delong(np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]))
    assert auc.value == 1.0 and auc.variance == 0.0
    assert auc.interval() == pytest.approx((0.4385, 1.0), abs=1e-4)


def test_one_positive_leaves_the_auc_without_an_interval():
    assert delong(np.array([0, 0, 0, 1]), np.array([0.1, 0.9, 0.3, 0.7])).interval() is None


def test_multinomial_draws_are_the_row_bootstrap():
    counts = np.array([[40, 60], [30, 20]])

    def accuracy(cells):
        return (cells[..., 0, 0] + cells[..., 1, 1]) / cells.sum((-1, -2))

    (lower, upper), method = bootstrap_multinomial(counts, accuracy, draws=4000, seed=1)
    generator = np.random.default_rng(2)
    rows = np.repeat([1.0, 0.0, 0.0, 1.0], counts.reshape(-1))
    by_rows = np.quantile([generator.choice(rows, 150).mean() for _ in range(4000)], [0.025, 0.975])
    assert (lower, upper) == pytest.approx(tuple(by_rows), abs=0.01)
    assert method == "percentile bootstrap (4000 multinomial draws, seed 1)"


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    counts = np.array([[400, 611], [312, 20]])

    def share(cells):
        return cells[..., 0, 0] / cells.sum((-1, -2))

    assert bootstrap_multinomial(counts, share, seed=3) == bootstrap_multinomial(counts, share, seed=3)
    assert bootstrap_multinomial(counts, share, seed=3)[0] != bootstrap_multinomial(counts, share, seed=4)[0]


def test_draws_that_all_agree_are_not_taken_for_certainty():
    interval, method = bootstrap_multinomial(np.array([[5, 0], [0, 5]]),
                                             lambda c: (c[..., 0, 0] + c[..., 1, 1]) / c.sum((-1, -2)), seed=7)
    assert interval[0] < 0.9
    assert "Dirichlet" in method


def test_a_statistic_that_is_often_undefined_has_no_interval():
    def share_of_second(cells):
        rows = cells[..., 1, :].sum(-1)
        return np.divide(cells[..., 1, 1], rows, out=np.full(rows.shape, np.nan), where=rows > 0)

    interval, method = bootstrap_multinomial(np.array([[50, 50], [0, 1]]), share_of_second, seed=7)
    assert interval is None
    assert "undefined" in method
