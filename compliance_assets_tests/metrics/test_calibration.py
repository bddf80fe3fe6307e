"""Calibration: errors by hand and by scikit-learn, slope by logistic regression, groups, ties, and the undefined."""

from __future__ import annotations

import numpy as np
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.calibration import measure_calibration
from compliance_assets.metrics.reliability import reliability_curve

SINGLE = ("expected_calibration_error", "expected_calibration_error_debiased", "maximum_calibration_error",
          "calibration_in_the_large", "calibration_slope", "brier_reliability")


def calibrated(n=6000, seed=0):
    generator = np.random.default_rng(seed)
    score = generator.beta(2, 3, n)
    return (generator.random(n) < score).astype(np.int64), score


def one(name, y, score, **more):
    return measure_calibration((name,), y, score, **more)[0]


def test_the_curve_agrees_with_scikit_learns_quantile_bins():
    from sklearn.calibration import calibration_curve

    y, score = calibrated()
    observed, mean = calibration_curve(y, score, n_bins=15, strategy="quantile")
    curve = reliability_curve(y, score)
    assert [one.n for one in curve.bins] == [400] * 15
    assert [one.observed for one in curve.bins] == pytest.approx(observed, abs=1e-12)
    assert [one.mean_score for one in curve.bins] == pytest.approx(mean, abs=1e-12)
    expected = float(np.abs(observed - mean).mean())
    assert one("expected_calibration_error", y, score).value == pytest.approx(expected, abs=1e-12)
    worst = np.abs(observed - mean).max()
    assert one("maximum_calibration_error", y, score).value == pytest.approx(worst, abs=1e-12)


def test_a_calibrated_score_is_near_its_ideals_and_a_squared_one_is_not():
    y, score = calibrated()
    assert one("expected_calibration_error", y, score).value < 0.03
    assert one(SINGLE[1], y, score).value < one(SINGLE[0], y, score).value
    slope, large = one("calibration_slope", y, score), one("calibration_in_the_large", y, score)
    assert slope.lower < 1 < slope.upper
    assert large.lower < 0 < large.upper
    off = score ** 2
    assert one("expected_calibration_error", y, off).lower > 0.1
    assert one("calibration_in_the_large", y, off).lower > 0.1
    assert one("calibration_slope", y, off).upper < 1


def test_debiasing_takes_away_a_part_of_what_noise_adds():
    plain, debiased = (np.mean([one(name, *calibrated(600, seed), draws=20).value for seed in range(60)])
                       for name in SINGLE[:2])
    assert plain > 0.05
    assert debiased < 0.7 * plain


def test_the_slope_is_that_of_an_unpenalised_logistic_regression():
    from scipy.optimize import minimize

    y, score = calibrated(1500)
    x = np.log(score / (1 - score))

    def loss(b):
        return np.logaddexp(0, b[0] + b[1] * x).sum() - (y * (b[0] + b[1] * x)).sum()

    best = minimize(loss, [0.0, 1.0], tol=1e-12)
    measured = one("calibration_slope", y, score)
    assert measured.value == pytest.approx(best.x[1], abs=1e-5)
    assert dict(measured.detail)["intercept"] == pytest.approx(best.x[0], abs=1e-5)


def test_murphys_parts_add_up_to_the_brier_score():
    from sklearn.metrics import brier_score_loss

    y, score = calibrated()
    measured = one("brier_reliability", y, score)
    parts = dict(measured.detail)
    assert parts["brier_score"] == pytest.approx(brier_score_loss(y, score), abs=1e-12)
    assert measured.value - parts["resolution"] + parts["uncertainty"] + parts["within_bins"] == pytest.approx(
        parts["brier_score"], abs=1e-15)
    few = np.where(score < 0.3, 0.2, np.where(score < 0.5, 0.4, 0.7))
    assert dict(one("brier_reliability", y, few).detail)["within_bins"] == pytest.approx(0, abs=1e-15)


def test_equal_scores_are_never_parted():
    y, score = calibrated()
    tied = np.round(score, 1)
    curve = reliability_curve(y, tied)
    assert len(curve.bins) < 15 and curve.n == 6000
    assert all(first.highest < second.lowest for first, second in zip(curve.bins, curve.bins[1:], strict=False))
    assert "after ties" in one("expected_calibration_error", y, tied).method
    assert len(reliability_curve(y, np.full(6000, 0.4)).bins) == 1


def test_row_order_does_not_change_a_bit():
    y, score = calibrated(2001)
    score = np.round(score, 2)
    order = np.random.default_rng(2).permutation(2001)
    assert measure_calibration(SINGLE, y, score) == measure_calibration(SINGLE, y[order], score[order])


def test_a_group_that_is_miscalibrated_is_found_though_all_together_look_fine():
    y, score = calibrated()
    sex = np.where(np.arange(6000) % 2 == 0, "female", "male")
    shifted = np.clip(np.where(sex == "female", score - 0.15, score + 0.15), 0, 1)
    measured = measure_calibration(("calibration_in_the_large", "calibration_error_difference",
                                    "worst_group_calibration_error"), y, shifted, {"sex": sex}, ("sex",))
    overall, large, gap, worst = measured
    assert overall.over == "all" and abs(overall.value) < 0.03
    assert large.over == "sex" and abs(large.value) > 0.1
    assert worst.value > 0.1 and worst.value == max(group.value for group in worst.groups)
    assert gap.value == pytest.approx(max(g.value for g in gap.groups) - min(g.value for g in gap.groups))
    assert [(group.name, group.n) for group in gap.groups] == [("female", 3000), ("male", 3000)]


def test_an_absent_group_and_a_lonely_group_compare_to_nothing():
    y, score = calibrated(500)
    sex = {"sex": ["female"] * 500}
    absent = one("calibration_error_difference", y, score, attributes=sex, over=("sex",),
                 expected_groups={"sex": ["female", "male"]})
    assert absent.value is None and "male (no rows)" in absent.note
    assert one("calibration_error_difference", y, score, attributes=sex, over=("sex",)).value is None


def test_one_class_and_constant_scores_have_no_slope():
    y, score = calibrated(100)
    assert one("calibration_slope", np.ones(100), score).note == "only one class is present"
    assert "all scores are equal" in one("calibration_slope", y, np.full(100, 0.4)).note


def test_labels_that_the_score_separates_have_no_slope():
    measured = one("calibration_slope", [0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.7, 0.8])
    assert measured.value is None and "did not converge" in measured.note


@pytest.mark.parametrize("name", SINGLE)
def test_no_rows_measure_nothing(name):
    assert one(name, [], []).note == "no rows"


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ComplianceError, match="not finite"):
        one("expected_calibration_error", [0, 1], [0.1, float("nan")])
