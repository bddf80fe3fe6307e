"""A score that goes the wrong way, a model that gives its training rows away, a feature that is missed: each is counted, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.adversarial import measure_adversarial
from compliance_assets.metrics.intervals import wilson
from compliance_assets.metrics.membership import fit_of_numbers, fit_of_scores, membership_inference
from compliance_assets.metrics.missing import measure_missing_feature
from compliance_assets.metrics.monotonicity import Rule, measure_monotonicity
from compliance_assets.metrics.robustness import Inputs, Perturbation, measure_robustness, perturb

N = 1000
DRAW = np.random.default_rng(5)
FRAME = pl.DataFrame({
    "late": DRAW.integers(0, 7, N), "debt": DRAW.random(N), "kind": DRAW.choice(["a", "b", "c"], N), "owner": DRAW.random(N) < 0.5,
    "sex": DRAW.choice(["female", "male"], N)}).with_columns(pl.col("kind").cast(pl.Enum(["a", "b", "c"])))


def falling(frame: pl.DataFrame) -> Any:
    return (0.9 - 0.1 * frame["late"].cast(pl.Float64).fill_null(0.0) - 0.2 * frame["debt"].fill_null(0.5)).clip(0, 1).to_numpy()


def bent(frame: pl.DataFrame) -> Any:
    """Falls with late payments, but after the fifth it jumps up again."""
    return falling(frame) + 0.05 * (frame["late"] >= 5).to_numpy()


def rule(**changes: Any) -> Rule:
    return Rule(**{"feature": "late", "expected": "falling", "step": 0.1, "tolerance": 0.0, "highest": 12.0} | changes)


def only(rule: Rule, predict: Any, frame: pl.DataFrame = FRAME, **more: Any) -> Any:
    return measure_monotonicity(rule, predict, frame, **more)[-1]


# ----------------------------------------------------------------------------------------------------------------- direction


def test_a_score_that_always_falls_breaks_no_rule_and_one_that_jumps_breaks_it_for_those_who_are_near() -> None:
    assert (only(rule(), falling).value, only(rule(), falling).n) == (0.0, N)
    # One step up leads from four late payments to five; the jump is smaller than the fall, so nobody rises yet.
    assert only(rule(), bent).value == 0.0
    steep = only(rule(), lambda frame: falling(frame) + 0.5 * (frame["late"] >= 5).to_numpy())
    near = int((FRAME["late"] == 4).sum())
    assert (steep.value, (steep.lower, steep.upper)) == (near / N, wilson(near, N))
    assert dict(steep.detail)["largest_breach"] == pytest.approx(0.4)


def test_the_opposite_rule_is_broken_by_everybody_and_tolerance_forgives_small_steps() -> None:
    assert only(rule(expected="rising"), falling).value > 0.9
    assert only(rule(expected="rising", tolerance=0.11), falling).value == 0.0
    assert only(rule(expected="constant"), falling).value > 0.9
    assert only(rule(feature="debt", expected="constant", highest=1.0), lambda frame: np.full(frame.height, 0.3)).value == 0.0


def test_who_cannot_be_raised_or_has_no_value_asks_nothing() -> None:
    top = only(rule(highest=6.0), falling)
    assert top.n == int((FRAME["late"] < 6).sum())
    gaps = FRAME.with_columns(late=pl.when(pl.int_range(pl.len()) < 100).then(None).otherwise("late"))
    assert only(rule(), falling, gaps).n == 900
    nobody = only(rule(), falling, FRAME.with_columns(late=pl.lit(None, dtype=pl.Int64)))
    assert nobody.value is None and "can be raised" in nobody.note
    assert only(rule(), falling, FRAME.clear()).value is None


def test_categories_go_to_the_next_and_truths_from_false_to_true() -> None:
    worth = {"a": 0.1, "b": 0.2, "c": 0.9}

    def by_kind(frame: pl.DataFrame) -> Any:
        return frame["kind"].cast(pl.String).replace_strict(worth, return_dtype=pl.Float64).to_numpy() + 0.05 * frame["owner"].to_numpy()

    kind = {"feature": "kind", "categories": ("a", "b", "c")}
    rising = only(rule(**kind, expected="rising"), by_kind)
    assert (rising.value, rising.n) == (0.0, int((FRAME["kind"] != "c").sum()))
    constant = only(rule(**kind, expected="constant", tolerance=0.5), by_kind)
    assert (constant.value, constant.n) == (int((FRAME["kind"] != "a").sum()) / N, N)  # b to c and c round to a
    owner = only(rule(feature="owner", expected="falling"), by_kind)
    assert (owner.value, owner.n) == (1.0, int((~FRAME["owner"]).sum()))


def test_the_worst_group_counts_and_an_absent_group_leaves_it_unmeasured() -> None:
    def unfair(frame: pl.DataFrame) -> Any:
        up = np.where((frame["sex"] == "female").to_numpy(), 0.02, -0.02)
        return 0.4 + up * frame["late"].to_numpy()

    sex = {"sex": FRAME["sex"]}
    one = only(rule(), unfair, attributes=sex, over=["sex"])
    assert (one.value, one.note) == (1.0, "worst female") and {group.name: group.value for group in one.groups} == {"female": 1.0, "male": 0.0}
    absent = only(rule(), unfair, attributes=sex, over=["sex"], expected_groups={"sex": ("female", "male", "divers")})
    assert absent.value is None and "divers" in absent.note


def test_a_feature_that_the_model_does_not_see_and_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ComplianceError, match="not among the model's features"):
        only(rule(feature="age"), falling)
    with pytest.raises(ComplianceError, match="not finite"):
        only(rule(), lambda frame: np.full(frame.height, np.nan))


# ------------------------------------------------------------------------------------------------------------------ misleading


def misled(mutable: tuple[str, ...], level: float, **more: Any) -> Any:
    ranges = Inputs(ranges=(("late", (0.0, 12.0)), ("debt", (0.0, 1.0))), categories=(("kind", ("a", "b", "c")),))
    return measure_adversarial(falling, FRAME, falling(FRAME), 0.5, mutable, level, ranges, **more)[-1]


def test_the_refused_whom_one_step_lifts_are_counted_and_no_more() -> None:
    refused = falling(FRAME) < 0.5
    one_less = falling(FRAME.with_columns(late=(pl.col("late") - 1).clip(0, 12)))
    one = misled(("late",), 0.5)  # half a deviation of the counts is one payment
    assert (one.value, one.n) == (np.mean(one_less[refused] >= 0.5), refused.sum())
    assert (one.lower, one.upper) == wilson(int((one_less[refused] >= 0.5).sum()), int(refused.sum()))
    both = misled(("late", "debt"), 0.5)
    assert both.value > max(one.value, misled(("debt",), 0.5).value)  # together further than alone
    assert misled(("kind",), 0.5).value == 0.0  # the score does not look at it


def test_a_category_may_become_any_other_and_a_truth_its_opposite() -> None:
    def by_kind(frame: pl.DataFrame) -> Any:
        return np.where((frame["kind"].cast(pl.String) == "c").to_numpy() | frame["owner"].to_numpy(), 0.9, 0.1)

    inputs = Inputs(categories=(("kind", ("a", "b", "c")),))
    assert measure_adversarial(by_kind, FRAME, by_kind(FRAME), 0.5, ("kind",), 1.0, inputs)[0].value == 1.0
    assert measure_adversarial(by_kind, FRAME, by_kind(FRAME), 0.5, ("owner",), 1.0, inputs)[0].value == 1.0


def test_where_nobody_was_refused_nothing_is_measured_and_the_worst_group_counts() -> None:
    high = np.full(N, 0.9)
    nobody = measure_adversarial(lambda frame: high[:frame.height], FRAME, high, 0.5, ("late",), 1.0, Inputs())[0]
    assert (nobody.value, nobody.n, nobody.note) == (None, 0, "nobody was refused")
    by_sex = misled(("late",), 0.5, attributes={"sex": FRAME["sex"]}, over=["sex"])
    assert by_sex.value == max(group.value for group in by_sex.groups) and by_sex.note.startswith("worst ")
    with pytest.raises(ComplianceError, match="not in the frame: age"):
        misled(("age",), 0.5)


# ---------------------------------------------------------------------------------------------------------------- membership


def test_a_model_that_knows_its_rows_by_heart_gives_them_away_and_one_that_guesses_does_not() -> None:
    from sklearn.metrics import roc_auc_score
    from sklearn.tree import DecisionTreeClassifier

    draw = np.random.default_rng(0)
    x, y = draw.random((800, 3)), (draw.random(800) < 0.5).astype(int)
    by_heart = DecisionTreeClassifier(random_state=0).fit(x[:400], y[:400]).predict_proba(x)[:, 1]
    fit = fit_of_scores(y, by_heart)
    one = membership_inference(fit[:400], fit[400:])[0]
    member = np.repeat([1, 0], 400)
    assert one.value == pytest.approx(roc_auc_score(member, fit), abs=1e-12) and one.lower > 0.7 and one.n == 800
    guessed = fit_of_scores(y, np.full(800, 0.5))
    same = membership_inference(guessed[:400], guessed[400:])[0]
    assert same.value == 0.5 and same.lower <= 0.5 <= same.upper


def test_numbers_are_given_away_by_their_errors() -> None:
    fit = fit_of_numbers([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 9.0, 1.0])
    assert fit.tolist() == [0.0, 0.0, -6.0, -3.0]
    assert membership_inference(fit[:2], fit[2:])[0].value == 1.0


def test_the_group_that_is_given_away_most_counts_and_one_without_members_leaves_it_unmeasured() -> None:
    fit, sex = np.array([0.9, 0.9, 0.5, 0.5] * 10), np.array(["f", "f", "m", "m"] * 10)
    other = np.array([0.1, 0.2, 0.4, 0.6] * 10)
    both = {"sex": (sex, sex)}
    one = membership_inference(fit, other, both)[1]
    assert (one.value, one.note, one.n) == (1.0, "worst f", 40)
    absent = membership_inference(fit, other, {"sex": (np.array(["f"] * 40), sex)})[1]
    assert absent.value is None and "in m" in absent.note
    nobody = membership_inference(fit[:0], other)[0]
    assert nobody.value is None and nobody.note == "no members, or nobody else"
    alone = membership_inference(fit[:1], other)[0]
    assert alone.value is not None and alone.lower is None and "one row" in alone.note


# ------------------------------------------------------------------------------------------------------------------- missing


INPUTS = Inputs(nullable=("late", "debt"))
LABEL = (np.random.default_rng(6).random(N) < falling(FRAME)).astype(int)


def test_the_feature_that_is_missed_most_is_found_and_named() -> None:
    flips, drop = measure_missing_feature(1.0, falling, FRAME, LABEL, 0.5, INPUTS)
    assert {group.name for group in flips.groups} == {"late", "debt"} and flips.note == "worst without late"
    gone = falling(FRAME.with_columns(late=pl.lit(None, dtype=pl.Int64)))
    assert flips.value == np.mean((gone >= 0.5) != (falling(FRAME) >= 0.5)) and flips.n == N
    from sklearn.metrics import roc_auc_score

    assert drop.value == pytest.approx(roc_auc_score(LABEL, falling(FRAME)) - roc_auc_score(LABEL, gone), abs=1e-12)
    by_sex = measure_missing_feature(1.0, falling, FRAME, LABEL, 0.5, INPUTS, attributes={"sex": FRAME["sex"]}, over=["sex"])[2]
    assert by_sex.over == "sex" and {group.name for group in by_sex.groups} == {"female", "male"}


def test_without_a_feature_that_may_be_missing_nothing_is_asked() -> None:
    with pytest.raises(ComplianceError, match="No feature may be missing"):
        measure_missing_feature(1.0, falling, FRAME, LABEL, 0.5, Inputs())


def test_a_block_takes_every_value_from_the_same_rows() -> None:
    after = perturb(FRAME, Perturbation("missing_block", 0.2), INPUTS, 7)
    assert after is not None and (after["late"].is_null() == after["debt"].is_null()).all()
    assert after["late"].null_count() == pytest.approx(200, abs=40)
    scattered = perturb(FRAME, Perturbation("missing_values", 0.2), INPUTS, 7)
    assert scattered is not None and (scattered["late"].is_null() != scattered["debt"].is_null()).any()
    flips = measure_robustness([Perturbation("missing_block", 0.2)], falling, FRAME, LABEL, 0.5, INPUTS)[0]
    assert flips.metric == "missing_block_decision_flip_rate" and 0 < flips.value < 0.2
