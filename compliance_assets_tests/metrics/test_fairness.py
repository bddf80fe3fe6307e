"""Group fairness is fairlearn's, down to the last digits; what cannot be compared is None, never a ratio of 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.fairness import measure_fairness
from compliance_assets.metrics.groups import Cells

ALL = ("selection_rate_ratio", "selection_rate_difference", "equal_opportunity_difference",
       "equalized_odds_difference", "false_positive_rate_difference", "average_odds_difference",
       "predictive_parity_difference", "negative_predictive_value_difference", "accuracy_difference", "equal_opportunity_ratio",
       "equalized_odds_ratio", "false_positive_rate_ratio", "false_negative_rate_ratio", "roc_auc_difference")


def lender(n=3000, seed=0):
    """Applicants with a score, a decision, sex and age band; healthy: everybody is measured and selected sometimes."""
    generator = np.random.default_rng(seed)
    sex = generator.choice(["female", "male"], n, p=[0.4, 0.6])
    age = generator.choice(["25-60", "over_60", "under_25"], n)
    score = np.clip(generator.beta(3, 3, n) + np.where(sex == "male", 0.08, 0.0), 0, 1)
    y = (generator.random(n) < score).astype(np.int64)
    return y, (score >= 0.5).astype(np.int64), score, {"sex": sex, "age": age}


def one(name, y, decision, attributes, over="sex", **more):
    return measure_fairness((name,), y, decision, attributes, (over,), **more)[0]


def by_fairlearn(y, decision, groups):
    from fairlearn import metrics as fl
    from sklearn.metrics import accuracy_score, precision_score

    def gap(metric):
        return fl.MetricFrame(metrics=metric, y_true=y, y_pred=decision, sensitive_features=groups).difference()

    def ratio(metric):
        return fl.MetricFrame(metrics=metric, y_true=y, y_pred=decision, sensitive_features=groups).ratio()

    tpr, fpr = gap(fl.true_positive_rate), gap(fl.false_positive_rate)
    sensitive = {"sensitive_features": groups}
    return {
        "selection_rate_ratio": fl.demographic_parity_ratio(y, decision, **sensitive),
        "selection_rate_difference": fl.demographic_parity_difference(y, decision, **sensitive),
        "equalized_odds_difference": fl.equalized_odds_difference(y, decision, **sensitive),
        "equal_opportunity_difference": tpr, "false_positive_rate_difference": fpr,
        "average_odds_difference": (tpr + fpr) / 2, "predictive_parity_difference": gap(precision_score),
        "accuracy_difference": gap(accuracy_score),
        "negative_predictive_value_difference": gap(lambda t, p: precision_score(t, p, pos_label=0)),
        "equal_opportunity_ratio": fl.equal_opportunity_ratio(y, decision, **sensitive),
        "equalized_odds_ratio": fl.equalized_odds_ratio(y, decision, **sensitive),
        "false_positive_rate_ratio": ratio(fl.false_positive_rate), "false_negative_rate_ratio": ratio(fl.false_negative_rate),
    }


@pytest.mark.parametrize("over", ["sex", "age", "sex*age"])
def test_every_value_is_fairlearns_on_the_rows(over):
    y, decision, _, attributes = lender()
    groups = attributes[over] if "*" not in over else np.char.add(attributes["sex"], attributes["age"])
    theirs = by_fairlearn(y, decision, groups)
    for measured in measure_fairness(ALL[:-1], y, decision, attributes, (over,)):
        assert measured.value == pytest.approx(theirs[measured.metric], abs=1e-12), measured.metric
        assert measured.lower <= measured.value <= measured.upper
        assert sum(group.n for group in measured.groups) == 3000
        assert measured.n == min(group.n for group in measured.groups)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
@example(1531)  # everybody in one cell
def test_every_value_is_fairlearns_for_small_random_rows(seed):
    generator = np.random.default_rng(seed)
    n = int(generator.integers(2, 40))
    y, decision = generator.integers(0, 2, n), generator.integers(0, 2, n)
    groups = generator.choice(["a", "b", "c"], n)
    theirs = by_fairlearn_ratio(y, decision, groups)
    measured = one("selection_rate_ratio", y, decision, {"g": groups}, "g", draws=20)
    if measured.value is None:
        assert "nobody was selected" in measured.note or "fewer than two" in measured.note
    else:
        assert measured.value == pytest.approx(theirs, abs=1e-12)


def by_fairlearn_ratio(y, decision, groups):
    import warnings

    from fairlearn.metrics import demographic_parity_ratio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 0 / 0 when nobody is selected: the case that we refuse to number
        return demographic_parity_ratio(y, decision, sensitive_features=groups)


def test_the_auc_gap_is_the_gap_of_the_groups_aucs():
    from sklearn.metrics import roc_auc_score

    y, decision, score, attributes = lender()
    measured = one("roc_auc_difference", y, decision, attributes, score=score)
    members = {sex: attributes["sex"] == sex for sex in ("female", "male")}
    aucs = {sex: roc_auc_score(y[rows], score[rows]) for sex, rows in members.items()}
    assert {group.name: group.value for group in measured.groups} == pytest.approx(aucs, abs=1e-12)
    assert measured.value == pytest.approx(abs(aucs["female"] - aucs["male"]), abs=1e-12)
    with pytest.raises(ComplianceError, match="needs scores"):
        one("roc_auc_difference", y, decision, attributes)


def test_the_distance_of_two_groups_scores_is_scipys():
    from scipy.stats import ks_2samp

    y, decision, score, attributes = lender()
    score = np.round(score, 2)  # ties
    measured = one("score_distribution_distance", y, decision, attributes, score=score)
    women = attributes["sex"] == "female"
    assert measured.value == pytest.approx(ks_2samp(score[women], score[~women]).statistic, abs=1e-12)
    assert measured.lower <= measured.value <= measured.upper
    three = one("score_distribution_distance", y, decision, attributes, over="age", score=score)
    assert three.value == max(group.value for group in three.groups) and len(three.groups) == 3
    with pytest.raises(ComplianceError, match="needs scores"):
        one("score_distribution_distance", y, decision, attributes)


def test_row_order_does_not_change_a_bit():
    y, decision, score, attributes = lender(1001)
    order = np.random.default_rng(1).permutation(1001)
    shuffled = {name: column[order] for name, column in attributes.items()}
    assert measure_fairness(ALL, y, decision, attributes, ("sex", "sex*age"), score=score) == \
        measure_fairness(ALL, y[order], decision[order], shuffled, ("sex", "sex*age"), score=score[order])


def test_nobody_selected_is_no_ratio_of_one():
    y, decision, _, attributes = lender()
    measured = one("selection_rate_ratio", y, np.zeros_like(decision), attributes)
    assert measured.value is None and measured.lower is None
    assert "nobody was selected" in measured.note


def test_one_group_never_selected_is_a_ratio_of_zero():
    y, decision, _, attributes = lender()
    measured = one("selection_rate_ratio", y, np.where(attributes["sex"] == "female", 0, decision), attributes)
    assert measured.value == 0.0
    assert measured.upper < 0.05


def test_an_absent_declared_group_leaves_the_comparison_unmeasured():
    y, decision, score, attributes = lender()
    for name in ALL:
        measured = one(name, y, decision, attributes, expected_groups={"sex": ["female", "male", "other"]}, score=score)
        assert measured.value is None and measured.n == 0, name
        assert "other" in measured.note
        absent = next(group for group in measured.groups if group.name == "other")
        assert (absent.n, absent.value, absent.positives) == (0, None, 0)


def test_an_absent_intersection_is_noticed_too():
    y, decision, _, attributes = lender()
    attributes["age"] = np.where(attributes["sex"] == "female", "25-60", attributes["age"])
    expected = {"sex": ["female", "male"], "age": ["25-60", "over_60", "under_25"]}
    measured = one("selection_rate_ratio", y, decision, attributes, "sex*age", expected_groups=expected)
    assert measured.note == "no rows for female*over_60, female*under_25"


def test_one_group_alone_is_not_equal_to_itself():
    y, decision, score, _ = lender()
    for name in ALL:
        assert one(name, y, decision, {"sex": ["female"] * len(y)}, score=score).value is None


def test_a_group_without_positives_has_no_true_positive_rate_though_fairlearn_says_zero():
    y, decision, score, attributes = lender()
    y = np.where(attributes["sex"] == "female", 0, y)
    measured = one("equal_opportunity_difference", y, decision, attributes)
    assert measured.value is None and measured.note == "no row with label 1 in female"
    assert next(g for g in measured.groups if g.name == "female").value is None
    assert one("false_positive_rate_difference", y, decision, attributes).value is not None
    assert one("roc_auc_difference", y, decision, attributes, score=score).value is None


def test_a_missing_attribute_is_a_group_of_its_own():
    y, decision, _, attributes = lender()
    sex = [None if i % 50 == 0 else value for i, value in enumerate(attributes["sex"].tolist())]
    measured = one("selection_rate_ratio", y, decision, {"sex": sex})
    assert [group.name for group in measured.groups] == ["female", "male", "unknown"]
    assert dict(measured.detail)["known_share"] == 0.98


def test_a_group_of_one_is_shown_with_its_size_and_gives_no_certainty():
    y, decision, _, attributes = lender()
    sex = attributes["sex"].astype(object)
    sex[0] = "other"
    measured = one("selection_rate_ratio", y, decision, {"sex": sex})
    assert measured.n == 1
    assert measured.lower is None and "undefined" in measured.method


def test_equal_perfect_rates_of_tiny_groups_are_not_certain():
    y = decision = np.array([1, 1, 0, 1, 1, 0] * 3)
    measured = one("equal_opportunity_difference", y, decision, {"sex": ["f"] * 9 + ["m"] * 9})
    assert measured.value == measured.lower == 0.0
    assert measured.upper > 0.2


def test_two_tiny_groups_sorted_perfectly_are_not_surely_alike():
    y = np.array([0, 0, 1, 1] * 2)
    measured = one("roc_auc_difference", y, y, {"sex": ["f"] * 4 + ["m"] * 4}, score=y * 0.8)
    assert measured.value == measured.lower == 0.0
    assert measured.upper > 0.5


def test_the_interval_is_the_row_bootstraps():
    y, decision, _, attributes = lender(600, seed=3)
    measured = one("selection_rate_difference", y, decision, attributes, draws=4000)
    generator, female = np.random.default_rng(8), attributes["sex"] == "female"
    draws = []
    for _ in range(4000):
        rows = generator.integers(0, 600, 600)
        chosen, group = decision[rows], female[rows]
        draws.append(abs(chosen[group].mean() - chosen[~group].mean()))
    assert (measured.lower, measured.upper) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.012)


def test_the_closed_form_of_the_extreme_pair_stands_beside_the_bootstrap():
    y, decision, _, attributes = lender()
    measured = one("selection_rate_ratio", y, decision, attributes)
    detail = dict(measured.detail)
    closed = detail["log_ratio_lower"], detail["log_ratio_upper"]
    assert closed == pytest.approx((measured.lower, measured.upper), abs=0.02)
    assert "lowest female, highest male (the reference)" in measured.note


def test_unknown_names_and_columns_are_refused():
    y, decision, _, attributes = lender(50)
    with pytest.raises(ComplianceError, match="selection_rate_ratio"):
        one("disparate_impact", y, decision, attributes)
    with pytest.raises(ComplianceError, match="'race' is not in the data"):
        one("selection_rate_ratio", y, decision, attributes, "race")
    with pytest.raises(ComplianceError, match="same rows"):
        one("selection_rate_ratio", y, decision[:-1], attributes)
    with pytest.raises(ComplianceError, match="No groups are declared for 'age'"):
        one("selection_rate_ratio", y, decision, attributes, "sex*age", expected_groups={"sex": ["female"]})


def test_cells_are_counted_once_and_add_up():
    cells = Cells.count("sex", [1, 0, 1, 1], [1, 0, 0, 1], {"sex": ["m", "f", "m", "m"]})
    assert cells.groups == ("f", "m")
    assert cells.counts.tolist() == [[[1, 0], [0, 0]], [[0, 0], [1, 2]]]
