"""Every edge that a verdict can fall over, from rows to verdict: none of them passes, and none is rounded into passing."""

from __future__ import annotations

import numpy as np
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.calibration import measure_calibration
from compliance_assets.metrics.fairness import measure_fairness
from compliance_assets.metrics.incumbent import measure_against_incumbent
from compliance_assets.metrics.multiclass import NAMES as MULTICLASS
from compliance_assets.metrics.multiclass import measure_multiclass
from compliance_assets.metrics.performance import measure_performance
from compliance_assets.metrics.regression import measure_regression
from compliance_assets.metrics.regression_calibration import prediction_slope
from compliance_assets.metrics.regression_fairness import measure_regression_fairness
from compliance_assets.policy.gates import Verdict, judge
from compliance_assets.policy.system import Bound, MinimumGroup

MINIMUM = MinimumGroup(rows=30, positives=10, negatives=10)


def four_fifths(judged_on="point"):
    return Bound(metric="selection_rate_ratio", at_least=0.80, judged_on=judged_on, because="the four-fifths convention")


def verdict(measured, bound=None, minimum=None):
    return judge("fairness", measured, bound or four_fifths(), three_valued=True, minimum=minimum)


def selected(first, second, n=20_000):
    """Two groups of n rows of which so many are selected; labels alternate."""
    decision = np.concatenate([np.arange(n) < first, np.arange(n) < second]).astype(int)
    return np.tile([0, 1], n), decision, {"sex": np.repeat(["female", "male"], n)}


@pytest.mark.parametrize(("share", "passes"), [(0.7900, False), (0.7948, False), (0.8052, True), (0.8213, True), (0.7999, False), (0.80, True)])
def test_four_fifths_are_held_without_rounding(share, passes):
    y, decision, attributes = selected(round(share * 10_000), 10_000)
    measured = measure_fairness(("selection_rate_ratio",), y, decision, attributes, ("sex",))[0]
    assert measured.value == share
    assert (verdict(measured).verdict is Verdict.PASS) is passes
    if not passes:
        assert verdict(measured, four_fifths("lower")).verdict is Verdict.FAIL


def test_a_true_ratio_above_four_fifths_that_the_rows_cannot_show_is_inconclusive():
    y, decision, attributes = selected(164, 200, 400)
    found = verdict(measure_fairness(("selection_rate_ratio",), y, decision, attributes, ("sex",))[0], four_fifths("lower"))
    assert found.verdict is Verdict.INCONCLUSIVE and not found


def healthy(n=400):
    generator = np.random.default_rng(3)
    score = generator.random(n)
    return (generator.random(n) < score).astype(int), score, {"sex": np.resize(["female", "male"], n)}


def _absent(y, score, attributes):
    return y, score, attributes, {"sex": ("female", "male", "divers")}


def _nobody(y, score, attributes):
    return y, score * 0.1, attributes, None


def _one_of_a_kind(y, score, attributes):
    return y, score, {"sex": np.concatenate([["divers"], attributes["sex"][1:]])}, None


def _unknown(y, score, attributes):
    return y, score, {"sex": np.array([None, *attributes["sex"][1:]], dtype=object)}, None


@pytest.mark.parametrize(("broken", "expected"), [
    (_absent, Verdict.INSUFFICIENT_DATA), (_nobody, Verdict.ERROR), (_one_of_a_kind, Verdict.INSUFFICIENT_DATA),
    (_unknown, Verdict.INSUFFICIENT_DATA)])
def test_no_edge_of_a_group_passes_the_fairness_gate(broken, expected):
    y, score, attributes, expected_groups = broken(*healthy())
    decision = (score >= 0.5).astype(int)
    measured = measure_fairness(("selection_rate_ratio",), y, decision, attributes, ("sex",), expected_groups=expected_groups)[0]
    assert verdict(measured, minimum=MINIMUM).verdict is expected
    change = measure_against_incumbent(("selection_rate_ratio_change",), y, decision, decision, attributes, ("sex",),
                                       expected_groups=expected_groups)[0]
    bound = Bound(metric="selection_rate_ratio_change", at_least=-0.02, judged_on="point", because="not worse than in use")
    assert verdict(change, bound, MINIMUM).verdict is expected


def test_one_class_constant_scores_and_ties_are_measured_for_what_they_are():
    y, score, _ = healthy()
    bound = Bound(metric="roc_auc", at_least=0.5, judged_on="lower", because="better than a coin")
    one_class = measure_performance(("roc_auc",), np.ones(400, int), score, 0.5)[0]
    constant, tied = (measure_performance(("roc_auc",), y, given, 0.5)[0] for given in (np.full(400, 0.4), np.round(score)))
    assert judge("p", one_class, bound).verdict is Verdict.ERROR
    assert (constant.value, judge("p", constant, bound).verdict) == (0.5, Verdict.FAIL)
    from sklearn.metrics import roc_auc_score

    assert tied.value == pytest.approx(roc_auc_score(y, np.round(score)), abs=1e-12)
    assert measure_calibration(("calibration_slope",), y, np.full(400, 0.4))[0].value is None


def test_scores_that_are_no_numbers_are_refused_everywhere():
    y, score, attributes = healthy()
    score[7] = np.nan
    for measure in (lambda: measure_performance(("roc_auc",), y, score, 0.5), lambda: measure_calibration(("brier_reliability",), y, score),
                    lambda: measure_fairness(("roc_auc_difference",), y, y, attributes, ("sex",), score=score)):
        with pytest.raises(ComplianceError, match="not finite"):
            measure()


def several(n=300):
    generator = np.random.default_rng(4)
    table = generator.dirichlet([2, 1, 1], n)
    return np.array(["a", "b", "c"])[[generator.choice(3, p=row) for row in table]], table


@pytest.mark.parametrize(("breaks", "undefined"), [
    (lambda y, p: (np.full(len(y), "a"), p), {"balanced_accuracy", "macro_roc_auc", "mcc"}),  # one class only
    (lambda y, p: (y, np.tile([0.6, 0.2, 0.2], (len(y), 1))), {"macro_precision", "mcc"}),  # constant: everybody is named the same
    (lambda y, p: (y[:0], p[:0]), set(MULTICLASS))])
def test_of_several_classes_what_is_undefined_is_an_error_and_never_a_pass(breaks, undefined):
    y, table = breaks(*several())
    for one in measure_multiclass(MULTICLASS, y, table, ("a", "b", "c")):
        if one.metric in undefined:
            way = {"at_least": 0.0} if one.direction == "higher" else {"at_most": 9.0}
            assert one.value is None and one.note, one
            assert judge("p", one, Bound(metric=one.metric, judged_on="point", because="any value would do", **way)).verdict is Verdict.ERROR
        elif one.metric != "top_label_calibration_error":
            assert one.value is not None, one


def test_ties_among_classes_go_to_the_first_one_and_are_not_counted_twice():
    one = measure_multiclass(("accuracy",), ["a", "b", "c"], np.full((3, 3), 1 / 3), ("a", "b", "c"))[0]
    assert one.value == pytest.approx(1 / 3)


def numbers(n=300):
    generator = np.random.default_rng(5)
    observed = generator.normal(50, 10, n)
    return observed, observed + generator.normal(0, 3, n), {"sex": np.resize(["female", "male"], n)}


@pytest.mark.parametrize(("name", "way"), [("mae_ratio", {"at_most": 9.0}), ("average_score_ratio", {"at_least": 0.0}),
                                           ("scoring_rate_ratio", {"at_least": 0.0}), ("error_distribution_distance", {"at_most": 1.0})])
def test_of_a_number_no_edge_of_a_group_passes_the_fairness_gate(name, way):
    y, predicted, attributes = numbers()
    bound = Bound(metric=name, judged_on="point", because="any value would do", **way)
    edges = {"absent": (attributes, {"sex": ("female", "male", "divers")}),
             "one of a kind": ({"sex": np.concatenate([["divers"], attributes["sex"][1:]])}, None),
             "unknown": ({"sex": np.array([None, *attributes["sex"][1:]], dtype=object)}, None)}
    for edge, (groups, expected) in edges.items():
        one = measure_regression_fairness((name,), y, predicted, groups, ("sex",), expected_groups=expected)[0]
        assert verdict(one, bound, MINIMUM).verdict is Verdict.INSUFFICIENT_DATA, edge
    alone = measure_regression_fairness((name,), y, predicted, {"sex": np.full(300, "female")}, ("sex",))[0]
    assert verdict(alone, bound, MINIMUM).verdict is Verdict.ERROR


def test_a_constant_prediction_and_one_that_is_no_number_are_no_good_prediction():
    y, predicted, _ = numbers()
    constant = {one.metric: one for one in measure_regression(("mae", "r2", "bias"), y, np.full(300, y.mean()))}
    assert constant["r2"].value == pytest.approx(0.0, abs=1e-12) and constant["bias"].value == pytest.approx(0.0, abs=1e-9)
    assert prediction_slope(y, np.full(300, 50.0)).value is None
    predicted[3] = np.nan
    for measure in (lambda: measure_regression(("mae",), y, predicted), lambda: prediction_slope(y, predicted)):
        with pytest.raises(ComplianceError, match="not finite"):
            measure()


def test_weights_count_a_row_as_often_as_they_say():
    y, score, _ = healthy(60)
    weights = np.resize([1, 2, 3], 60)
    repeated = np.repeat(np.arange(60), weights)
    for name in ("accuracy", "recall", "f1", "brier_score"):
        weighted = measure_performance((name,), y, score, 0.5, weights)[0].value
        assert weighted == pytest.approx(measure_performance((name,), y[repeated], score[repeated], 0.5)[0].value, abs=1e-12)
