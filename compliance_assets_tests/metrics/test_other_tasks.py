"""Regression and multiclass values are scikit-learn's; what is undefined is None with a reason."""

from __future__ import annotations

import numpy as np
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.multiclass import measure_multiclass
from compliance_assets.metrics.regression import measure_regression

ERRORS = ("mae", "rmse", "r2", "median_absolute_error", "bias")
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
              "median_absolute_error": sk.median_absolute_error(y, given)}
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
    assert [m.note for m in measure_regression(ERRORS, [], [])] == ["no rows"] * 5
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
              "log_loss": sk.log_loss(y, in_order, labels=sorted(CLASSES))}
    for measured in measure_multiclass(tuple(theirs), y, table, CLASSES):
        assert measured.value == pytest.approx(theirs[measured.metric], abs=1e-12), measured.metric
        assert measured.lower < measured.value < measured.upper


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
