"""Against the model in use: who loses is named, pairing is kept, and what cannot be compared is not compared."""

from __future__ import annotations

import numpy as np
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.fairness import measure_fairness
from compliance_assets.metrics.incumbent import NAMES, accuracy_change, brier_score_change, measure_against_incumbent
from compliance_assets_tests.metrics.test_fairness import lender


def compared(name, y, now, before, attributes, over="sex", **more):
    return measure_against_incumbent((name,), y, now, before, attributes, (over,), **more)[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_decisions_change_nothing_for_anybody(name):
    y, decision, _, attributes = lender()
    found = compared(name, y, decision, decision, attributes)
    assert (found.value, found.lower <= 0 <= found.upper) == (0.0, True)
    assert all(group.value == 0 for group in found.groups) and sum(group.n for group in found.groups) == 3000


@pytest.mark.parametrize("over", ["sex", "sex*age"])
def test_a_gaps_change_is_the_difference_of_the_two_gaps(over):
    y, before, score, attributes = lender()
    now = (score >= 0.55).astype(int)
    for name in ("selection_rate_ratio", "equalized_odds_difference", "predictive_parity_difference", "accuracy_difference"):
        old, new = (measure_fairness((name,), y, decision, attributes, (over,))[0].value for decision in (before, now))
        found = compared(f"{name}_change", y, now, before, attributes, over)
        assert found.value == pytest.approx(new - old, abs=1e-12)
        assert found.lower <= found.value <= found.upper
        assert dict(found.detail) == pytest.approx({"incumbent": old, "candidate": new})


def test_a_group_that_loses_is_named_though_the_average_gains():
    y, before, score, attributes = lender()
    women = attributes["sex"] == "female"
    now = np.where(women, score >= 0.6, score >= 0.4).astype(int)
    found = compared("worst_selection_rate_change", y, now, before, attributes)
    assert now.mean() > before.mean()
    assert found.value == pytest.approx(now[women].mean() - before[women].mean())
    assert found.upper < 0 and found.note.endswith("for female")
    assert {group.name: group.value > 0 for group in found.groups} == {"female": False, "male": True}


def test_pairing_makes_it_surer_than_two_separate_samples():
    y, before, score, attributes = lender()
    found = compared("worst_selection_rate_change", y, (score >= 0.52).astype(int), before, attributes)
    female = next(group for group in found.groups if group.name == "female")
    alone = next(group for group in measure_fairness(("selection_rate_ratio",), y, before, attributes, ("sex",))[0].groups
                 if group.name == "female")
    assert female.upper - female.lower < 0.5 * (alone.upper - alone.lower)


def test_an_absent_group_and_a_missing_rate_leave_it_unmeasured():
    y, before, _, attributes = lender(400)
    absent = compared("worst_accuracy_change", y, before, before, attributes,
                      expected_groups={"sex": ("female", "male", "divers")})
    assert absent.value is None and "divers" in absent.note
    nobody = compared("worst_positive_predictive_value_change", y, np.zeros(400, int), before, attributes)
    assert nobody.value is None and "female under the candidate" in nobody.note
    ratio = compared("selection_rate_ratio_change", y, np.zeros(400, int), before, attributes)
    assert ratio.value is None and ratio.note.startswith("under the candidate: nobody was selected")


def test_a_missing_attribute_is_a_group_of_its_own_here_too():
    y, before, _, attributes = lender(300)
    sex = attributes["sex"].astype(object)
    sex[:40] = None
    found = compared("worst_selection_rate_change", y, before, before, {"sex": sex})
    assert {group.name: group.n for group in found.groups}["unknown"] == 40


def test_accuracy_and_brier_changes_are_the_differences_of_scikit_learns_scores():
    from sklearn.metrics import accuracy_score, brier_score_loss

    y, before, score, _ = lender()
    other = np.clip(score * 0.9 + 0.02, 0, 1)
    now = (other >= 0.5).astype(int)
    assert accuracy_change(y, now, before).value == pytest.approx(accuracy_score(y, now) - accuracy_score(y, before), abs=1e-12)
    brier = brier_score_change(y, other, score)
    assert brier.value == pytest.approx(brier_score_loss(y, other) - brier_score_loss(y, score), abs=1e-12)
    assert brier.lower < brier.value < brier.upper
    assert (brier_score_change(y, score, score).lower, accuracy_change([], [], []).value) == (0.0, None)


def test_a_metric_of_one_model_is_refused():
    y, decision, _, attributes = lender(50)
    with pytest.raises(ComplianceError, match="compares no two models"):
        compared("selection_rate_ratio", y, decision, decision, attributes)
