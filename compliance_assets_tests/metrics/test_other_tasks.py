"""Regression and multiclass values are scikit-learn's; what is undefined is None with a reason."""

from __future__ import annotations

import numpy as np
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.calibration import measure_calibration
from compliance_assets.metrics.multiclass import measure_multiclass
from compliance_assets.metrics.regression import measure_regression

ERRORS = ("mae", "rmse", "r2", "median_absolute_error", "mape", "bias")
CLASSES = ("low", "middle", "high")


def predicted(n=2000, seed=0):
    generator = np.random.default_rng(seed)
    y = generator.normal(10, 3, n)
    return y, y + generator.normal(0.2, 1.5, n)


def classified(n=1500, seed=0):
    generator = np.random.default_rng(seed)
    table = generator.dirichlet([1, 1, 1], n)
    return np.array([CLASSES[generator.choice(3, p=row)] for row in table]), table


def test_errors_are_scikit_learns():
    from sklearn import metrics as sk

    y, given = predicted()
    theirs = {"mae": sk.mean_absolute_error(y, given), "rmse": sk.root_mean_squared_error(y, given),
              "r2": sk.r2_score(y, given), "bias": float(np.mean(given - y)),
              "median_absolute_error": sk.median_absolute_error(y, given), "mape": sk.mean_absolute_percentage_error(y, given)}
    for measured in measure_regression(ERRORS, y, given):
        assert measured.value == pytest.approx(theirs[measured.metric], abs=1e-12), measured.metric
        assert measured.lower < measured.value < measured.upper


@pytest.mark.parametrize("name", ERRORS)
def test_closed_forms_agree_with_a_bootstrap_of_rows(name):
    y, given = predicted(400)
    measured = measure_regression((name,), y, given)[0]
    generator, draws = np.random.default_rng(1), []
    for _ in range(500):
        rows = generator.integers(0, 400, 400)
        draws.append(measure_regression((name,), y[rows], given[rows])[0].value)
    lower, upper = np.quantile(draws, [0.025, 0.975])
    assert measured.upper - measured.lower == pytest.approx(upper - lower, rel=0.25)


def test_a_constant_outcome_has_no_r2_and_no_rows_have_nothing():
    assert measure_regression(("r2",), [3.0] * 9, list(range(9)))[0].value is None
    assert [m.note for m in measure_regression(ERRORS, [], [])] == ["no rows"] * len(ERRORS)
    with pytest.raises(ComplianceError, match="not finite"):
        measure_regression(("mae",), [1.0], [float("nan")])
    with pytest.raises(ComplianceError, match="not a metric of a regression"):
        measure_regression(("roc_auc",), [1.0], [1.0])


def test_classes_are_measured_as_scikit_learn_does():
    from sklearn import metrics as sk

    y, table = classified()
    decided = np.array(CLASSES)[table.argmax(axis=1)]
    in_order = table[:, [CLASSES.index(c) for c in sorted(CLASSES)]]
    theirs = {"accuracy": sk.accuracy_score(y, decided), "macro_f1": sk.f1_score(y, decided, average="macro"),
              "balanced_accuracy": sk.balanced_accuracy_score(y, decided),
              "macro_precision": sk.precision_score(y, decided, average="macro"), "mcc": sk.matthews_corrcoef(y, decided),
              "brier_score": sk.brier_score_loss(y, in_order, labels=sorted(CLASSES), scale_by_half=False),
              "macro_roc_auc": sk.roc_auc_score(y, in_order, multi_class="ovr", labels=sorted(CLASSES)),
              "log_loss": sk.log_loss(y, in_order, labels=sorted(CLASSES))}
    for measured in measure_multiclass(tuple(theirs), y, table, CLASSES):
        assert measured.value == pytest.approx(theirs[measured.metric], abs=1e-12), measured.metric
        assert measured.lower < measured.value < measured.upper


def test_the_calibration_of_the_named_class_is_that_of_its_own_probability():
    y, table = classified()
    named = np.array(CLASSES)[table.argmax(axis=1)] == y
    (found,) = measure_multiclass(("top_label_calibration_error",), y, table, CLASSES)
    assert found.value == measure_calibration(("expected_calibration_error",), named.astype(int), table.max(axis=1))[0].value
    sharpened = table**4 / (table**4).sum(axis=1, keepdims=True)
    assert measure_multiclass(("top_label_calibration_error",), y, sharpened, CLASSES)[0].lower > found.value


def test_relative_errors_leave_out_what_is_zero_and_the_95th_percentile_is_numpys():
    y, predicted = np.array([0.0, *range(1, 200)]), np.arange(200) + 1.0
    relative, tail = measure_regression(("mape", "p95_absolute_error"), y, predicted * 1.1)
    assert (relative.n, relative.note) == (200, "1 rows with an observed 0 are left out")
    assert relative.value == pytest.approx(np.mean(np.abs(predicted * 1.1 - y)[1:] / y[1:]), abs=1e-12)
    assert tail.value == np.quantile(np.abs(predicted * 1.1 - y), 0.95) and tail.lower <= tail.value <= tail.upper
    assert measure_regression(("mape",), [0.0, 0.0], [1.0, 2.0])[0].value is None


def test_a_class_that_never_occurs_leaves_balanced_accuracy_unmeasured():
    y, table = classified(200)
    measured = measure_multiclass(("balanced_accuracy",), np.where(y == "high", "low", y), table, CLASSES)[0]
    assert measured.value is None and "does not occur" in measured.note


@pytest.mark.parametrize(("y", "table", "says"), [
    (["low", "other"], [[0.2, 0.3, 0.5]] * 2, "Labels outside"), (["low"], [[0.5, 0.5]], "shape"),
    (["low"], [[0.5, 0.6, 0.5]], "add up"), (["low"], [[0.5, np.nan, 0.5]], "not finite"),
])
def test_what_is_broken_is_refused(y, table, says):
    with pytest.raises(ComplianceError, match=says):
        measure_multiclass(("accuracy",), y, table, CLASSES)
