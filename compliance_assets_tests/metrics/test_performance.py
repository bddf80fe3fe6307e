"""Performance values are scikit-learn's; what is undefined is None with a reason; what is broken is refused."""

from __future__ import annotations

import numpy as np
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.performance import measure_performance, roc_auc_change

ALL = ("roc_auc", "average_precision", "accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1",
       "mcc", "brier_score", "log_loss")


def scored(n=4000, seed=0, levels=None):
    generator = np.random.default_rng(seed)
    score = generator.random(n) if levels is None else generator.integers(0, levels + 1, n) / levels
    return (generator.random(n) < score).astype(np.int64), score


def one(name, y, score, threshold=0.5, **more):
    return measure_performance((name,), y, score, threshold, **more)[0]


def by_sklearn(y, score, threshold, weights=None):
    from sklearn import metrics as sk

    decided = (score >= threshold).astype(int)
    w = {"sample_weight": weights}
    return {
        "roc_auc": sk.roc_auc_score(y, score), "average_precision": sk.average_precision_score(y, score),
        "accuracy": sk.accuracy_score(y, decided, **w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, decided, **w),
        "precision": sk.precision_score(y, decided, **w), "recall": sk.recall_score(y, decided, **w),
        "specificity": sk.recall_score(y, decided, pos_label=0, **w), "f1": sk.f1_score(y, decided, **w),
        "mcc": sk.matthews_corrcoef(y, decided, **w), "brier_score": sk.brier_score_loss(y, score, **w),
        "log_loss": sk.log_loss(y, score, **w),
    }


@pytest.mark.parametrize("levels", [None, 10])
@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_every_value_is_scikit_learns(levels, threshold):
    y, score = scored(levels=levels)
    theirs = by_sklearn(y, score, threshold)
    for measured in measure_performance(ALL, y, score, threshold):
        assert measured.value == pytest.approx(theirs[measured.metric], abs=1e-12), measured.metric
        assert measured.lower < measured.value < measured.upper, measured.metric
        assert measured.n == 4000


def test_weighted_values_are_scikit_learns():
    y, score = scored()
    weights = np.random.default_rng(9).random(len(y))
    theirs = by_sklearn(y, score, 0.5, weights)
    for measured in measure_performance(ALL[2:], y, score, 0.5, weights):
        assert measured.value == pytest.approx(theirs[measured.metric], abs=1e-12), measured.metric
    with pytest.raises(ComplianceError, match="not measured with weights"):
        one("roc_auc", y, score, weights=weights)


def test_unequal_weights_widen_the_interval_of_a_rate():
    y, score = scored()
    plain, weighted = one("accuracy", y, score), one("accuracy", y, score, weights=np.arange(1.0, len(y) + 1))
    assert weighted.upper - weighted.lower > plain.upper - plain.lower


def test_row_order_does_not_change_a_bit():
    y, score = scored(n=3001)
    order = np.random.default_rng(4).permutation(len(y))
    assert measure_performance(ALL, y, score, 0.5) == measure_performance(ALL, y[order], score[order], 0.5)


def test_a_row_is_decided_favourably_exactly_at_the_threshold():
    assert one("recall", [1, 1], [0.5, 0.4999], 0.5).value == 0.5


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_leaves_the_auc_unmeasured_with_a_reason(label):
    for name in ("roc_auc", "balanced_accuracy"):
        measured = one(name, np.full(10, label), np.linspace(0, 1, 10))
        assert measured.value is None and measured.lower is None
        assert measured.note == "only one class is present"


def test_constant_scores_rank_nothing_and_mcc_is_undefined():
    y, _ = scored(100)
    assert one("roc_auc", y, np.full(100, 0.3)).value == 0.5
    assert one("mcc", y, np.full(100, 0.3)).value is None
    assert one("precision", y, np.full(100, 0.3)).note == "nothing was decided favourably"


@pytest.mark.parametrize("name", ALL)
def test_no_rows_measure_nothing(name):
    measured = one(name, [], [])
    assert measured.value is None and measured.note == "no rows" and measured.n == 0


@pytest.mark.parametrize(("y", "score", "says"), [
    ([0, 1], [0.2, np.nan], "not finite"), ([0, 1], [0.2, np.inf], "not finite"), ([0, 1], [0.2, 1.2], "outside"),
    ([0, 2], [0.2, 0.3], "labels are 0 or 1"), ([0, np.nan], [0.2, 0.3], "not finite"),
    ([0, 1, 1], [0.2, 0.3], "same rows"),
    ([0, 1], [[0.2, 0.8], [0.3, 0.7]], "shape"), (["no", "yes"], [0.2, 0.3], "not a column of numbers"),
])
def test_what_is_broken_is_refused(y, score, says):
    with pytest.raises(ComplianceError, match=says) as refused:
        one("roc_auc", y, score)
    assert refused.value.rule and refused.value.remedy


def test_an_unknown_metric_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ComplianceError, match="roc_auc"):
        one("auroc", [0, 1], [0.1, 0.9])
    with pytest.raises(ComplianceError, match="performance"):
        one("selection_rate_ratio", [0, 1], [0.1, 0.9])
    with pytest.raises(ComplianceError, match="not a metric of a binary"):
        one("mae", [0, 1], [0.1, 0.9])


def test_a_score_that_calls_the_outcome_impossible_is_capped_and_counted():
    measured = one("log_loss", [1, 0, 1], [0.0, 0.2, 0.9])
    assert "1 rows" in measured.note
    assert measured.value > 10


def test_a_perfect_score_on_five_rows_is_not_certain():
    y, score = np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9, 0.95])
    for name in ALL[:9]:
        measured = one(name, y, score)
        assert measured.value == 1.0, name
        assert measured.lower is None or (measured.lower < 0.8 and measured.upper == 1.0), name


def test_a_loss_of_zero_on_two_rows_is_not_certain():
    brier, loss = measure_performance(("brier_score", "log_loss"), [0, 1], [0.0, 1.0], 0.5)
    assert brier.value == 0.0 and brier.upper > 0.5
    assert loss.value == 0.0 and loss.upper is None and loss.note


def test_intervals_of_cells_cover_the_truth_about_as_often_as_they_say():
    truth = one("f1", *scored(400_000, seed=99)).value
    held = sum(m.lower <= truth <= m.upper for m in (one("f1", *scored(300, seed=s)) for s in range(200)))
    assert 180 <= held <= 198


def test_a_worse_model_has_a_negative_change_and_the_same_model_none():
    y, score = scored()
    noisy = (score + np.random.default_rng(1).random(len(y))) / 2
    assert roc_auc_change(y, noisy, score).upper < 0
    same = roc_auc_change(y, score, score)
    assert (same.value, same.lower, same.upper) == (0.0, 0.0, 0.0)
    assert roc_auc_change(np.ones(4), score[:4], score[:4]).value is None


def test_wrong_decisions_cost_what_is_declared_and_nothing_is_assumed():
    from sklearn.metrics import confusion_matrix

    y, score = np.tile([0, 1, 1, 0, 1], 40), np.tile([0.9, 0.2, 0.8, 0.1, 0.6], 40)
    (_, fp), (fn, _) = confusion_matrix(y, score >= 0.5)
    found = measure_performance(("cost_per_row",), y, score, 0.5, costs=(5.0, 1.0))[0]
    assert found.value == (5 * fp + fn) / len(y) and found.lower < found.value < found.upper
    assert measure_performance(("cost_per_row",), y, y.astype(float), 0.5, costs=(5.0, 1.0))[0].upper > 0
    with pytest.raises(ComplianceError, match="what each kind of error costs"):
        measure_performance(("cost_per_row",), y, score, 0.5)
