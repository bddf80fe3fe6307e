"""Groups of a regression: errors and scores agree with fairlearn and scipy, intervals cover, absence is never equality."""

from __future__ import annotations

import numpy as np
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.regression_calibration import interval_coverage, prediction_slope
from compliance_assets.metrics.regression_fairness import NAMES, measure_regression_fairness


def wages(n=2000, seed=0, noise=1.3):
    """Observed and predicted wages; women's are predicted with more noise and a little too low."""
    generator = np.random.default_rng(seed)
    sex = generator.choice(["female", "male"], n)
    y = generator.gamma(9, 300, n)
    spread = np.where(sex == "female", noise, 1.0) * 200
    return y, y - np.where(sex == "female", 40, 0) + generator.normal(0, spread), {"sex": sex}


def one(name, y, predicted, attributes, **more):
    return measure_regression_fairness((name,), y, predicted, attributes, ("sex",), **more)[0]


def test_every_value_is_fairlearns_scikit_learns_and_scipys():
    from fairlearn.metrics import MetricFrame
    from scipy.stats import ks_2samp
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error

    y, predicted, attributes = wages()
    sex, error = attributes["sex"], predicted - y
    women, men = sex == "female", sex == "male"

    def frame(metric):
        return MetricFrame(metrics=metric, y_true=y, y_pred=predicted, sensitive_features=sex)

    mae, rmse = frame(mean_absolute_error), frame(root_mean_squared_error)
    mean, rate = frame(lambda t, p: p.mean()), frame(lambda t, p: (p > np.median(predicted)).mean())
    theirs = {
        "mae_difference": mae.difference(), "mae_ratio": 1 / mae.ratio(), "rmse_difference": rmse.difference(),
        "rmse_ratio": 1 / rmse.ratio(), "bias_difference": frame(lambda t, p: (p - t).mean()).difference(),
        "average_score_ratio": mean.ratio(), "scoring_rate_ratio": rate.ratio(),
        "error_distribution_distance": ks_2samp(error[women], error[men]).statistic,
        "maximum_statistical_parity": ks_2samp(predicted[women], predicted[men]).statistic,
    }
    assert set(theirs) == set(NAMES)
    for name in NAMES:
        found = one(name, y, predicted, attributes)
        assert found.value == pytest.approx(theirs[name], abs=1e-12), name
        assert found.lower <= found.value <= found.upper
        assert {group.name: group.n for group in found.groups} == {"female": int(women.sum()), "male": int(men.sum())}


def test_the_permutation_test_tells_equal_errors_from_unequal_ones():
    def p(*data):
        return dict(one("error_distribution_distance", *data).detail)["permutation_p"]

    y, _, attributes = wages(600, seed=3)
    assert p(*wages(600, noise=2.5)) == pytest.approx(1 / 201)
    assert p(y, y + np.random.default_rng(4).normal(0, 200, 600), attributes) > 0.05


@pytest.mark.parametrize("name", ["mae_ratio", "mae_difference", "average_score_ratio"])
def test_intervals_cover_the_truth_about_as_often_as_they_say(name):
    truth = one(name, *wages(400_000, seed=99)).value
    held = sum(found.lower <= truth <= found.upper for seed in range(200) for found in [one(name, *wages(300, seed=seed))])
    assert held >= 180


def test_an_absent_group_one_group_and_a_ratio_of_nothing_are_not_measured():
    y, predicted, attributes = wages(200)
    for name in NAMES:
        absent = one(name, y, predicted, attributes, expected_groups={"sex": ("female", "male", "divers")})
        assert absent.value is None and "divers" in absent.note
        assert one(name, y, predicted, {"sex": np.full(200, "female")}).value is None
    perfect = one("mae_ratio", y, y, attributes)
    assert perfect.value is None and "not above 0" in perfect.note
    constant = one("scoring_rate_ratio", y, np.full(200, 5.0), attributes)
    assert constant.value is None and "nobody is above" in constant.note


def test_a_group_of_one_is_shown_and_gives_no_certainty():
    y, predicted, attributes = wages(200)
    attributes["sex"][0] = "divers"
    found = one("mae_difference", y, predicted, attributes)
    assert next(group for group in found.groups if group.name == "divers").n == found.n == 1
    assert (found.lower, found.upper) == (None, None)


def test_numbers_that_are_none_and_unknown_names_are_refused():
    y, predicted, attributes = wages(50)
    with pytest.raises(ComplianceError, match="not finite"):
        one("mae_ratio", y, np.full(50, np.nan), attributes)
    with pytest.raises(ComplianceError, match="not a fairness metric of a regression"):
        one("selection_rate_ratio", y, predicted, attributes)


def test_intervals_that_promise_nine_in_ten_are_held_to_it_in_every_group():
    generator = np.random.default_rng(0)
    sex = generator.choice(["female", "male"], 4000)
    y = generator.normal(0, np.where(sex == "female", 1.5, 1.0))
    overall, by_sex = interval_coverage(y, np.full(4000, -1.645), np.full(4000, 1.645), 0.9, {"sex": sex}, ("sex",))
    assert overall.value == np.mean(np.abs(y) <= 1.645)
    assert by_sex.note == "worst female" and by_sex.upper < 0.85
    assert next(group for group in by_sex.groups if group.name == "male").lower > 0.87
    absent = interval_coverage(y, y, y, 0.9, {"sex": sex}, ("sex",), expected_groups={"sex": ("female", "male", "divers")})[1]
    assert absent.value is None and "divers" in absent.note
    with pytest.raises(ComplianceError, match="ends in order"):
        interval_coverage(y, y + 1, y, 0.9)


def test_the_slope_is_scipys_and_a_constant_has_none():
    from scipy.stats import linregress

    y, predicted, _ = wages()
    found, theirs = prediction_slope(y, predicted), linregress(predicted, y)
    assert found.value == pytest.approx(theirs.slope, abs=1e-12)
    assert dict(found.detail)["intercept"] == pytest.approx(theirs.intercept, abs=1e-8)
    assert (found.upper - found.lower) / 2 == pytest.approx(1.96 * theirs.stderr, rel=0.1)
    assert prediction_slope(y, np.ones(2000)).value is None


def test_the_permutation_test_gives_the_p_value_of_shuffled_rows_and_no_false_alarm():
    from scipy.stats import ks_2samp

    generator = np.random.default_rng(11)
    error, sex = generator.standard_normal(120).round(1), np.repeat(["f", "m"], 60)
    error[:60] += 0.25
    one = measure_regression_fairness(("error_distribution_distance",), np.zeros(120), error, {"sex": sex}, ("sex",))[0]
    shuffled = [ks_2samp(*np.split(generator.permutation(error), 2)).statistic for _ in range(400)]
    expected = np.mean(np.array(shuffled) >= one.value - 1e-12)
    assert dict(one.detail)["permutation_p"] == pytest.approx(expected, abs=0.1)
    many = generator.standard_normal(60_000)
    same = measure_regression_fairness(("error_distribution_distance",), np.zeros(60_000), many, {"sex": np.resize(["f", "m", "x"], 60_000)}, ("sex",))
    assert dict(same[0].detail)["permutation_p"] > 0.02
    many[::3] += 0.1
    other = measure_regression_fairness(("error_distribution_distance",), np.zeros(60_000), many, {"sex": np.resize(["f", "m", "x"], 60_000)}, ("sex",))
    assert dict(other[0].detail)["permutation_p"] < 0.01
