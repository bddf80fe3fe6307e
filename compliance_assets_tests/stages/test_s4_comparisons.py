"""Against production and baseline, against another seed, another group and nonsense: who got worse is found, and named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence import verify_bundle
from compliance_assets.evidence.artefacts import ArtefactStore
from compliance_assets.policy.gates import Verdict
from compliance_assets.stages.s1_data_preparation import Dataset, SplitFile, parquet_bytes
from compliance_assets.trust.canonical import canonical_json, dataset_digest
from compliance_assets_tests.stages.bench import Bench, bench, raw_parts
from compliance_assets_tests.stages.test_s4_model_evaluation import LINEAR, _kept, finding, judged

WHY = "so that the test can see it"
TREE = {"training.estimator": "sklearn.tree.DecisionTreeClassifier", "training.hyperparameters": {"max_depth": 1}}


def bound(metric: str, **more: Any) -> dict[str, Any]:
    return {"metric": metric, "judged_on": "point", "because": WHY, **more}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, str]:
    """A lender whose first model is in production."""
    made = bench(tmp_path_factory.mktemp("first"), **LINEAR)
    return made, str(_kept(made, made.trained().value))


# -------------------------------------------------------------------------------------------------------- comparative fairness

COMPARED = {"evaluation.fairness.bounds.2": bound("worst_selection_rate_change", over=["sex"], at_least=-0.02, judged_on="lower"),
            "evaluation.fairness.bounds.3": bound("selection_rate_ratio_change", over=["sex", "sex*age_band"], at_least=-0.02)}


def test_a_first_release_has_no_incumbent_to_be_compared_with(tmp_path: Path):
    found = finding(judged(bench(tmp_path, **LINEAR, **COMPARED)), "fairness.sex.worst_selection_rate_change")
    assert (found.verdict, found.note) == (Verdict.NOT_APPLICABLE, "first release: nothing is in production")


def test_the_same_model_again_takes_from_nobody(first: tuple[Bench, str], tmp_path: Path):
    gates = judged(bench(tmp_path, home=first[0].home, **LINEAR, **COMPARED), production=first[1])
    found = finding(gates, "fairness.sex.worst_selection_rate_change")
    assert (found.verdict, found.value, found.n) == (Verdict.PASS, "0", min(group["n"] for group in found.groups))
    assert finding(gates, "fairness.sex*age_band.selection_rate_ratio_change").value == "0"
    assert gates["fairness"]


def test_a_model_that_takes_from_one_group_fails_and_the_group_is_named(first: tuple[Bench, str], tmp_path: Path):
    parts = raw_parts(first[0].definition)
    # Women who repaid are recorded as not having: what is learned from that refuses more of them.
    harmed = {**parts, "train": parts["train"].with_columns(
        repaid=pl.col("repaid") & ~((pl.col("sex") == "female") & (pl.col("employment") != "permanent")))}
    gates = judged(bench(tmp_path, frames=harmed, home=first[0].home, **LINEAR, **COMPARED), production=first[1])
    found = finding(gates, "fairness.sex.worst_selection_rate_change")
    assert found.verdict is Verdict.FAIL and float(found.upper) < 0
    assert {group["name"] for group in found.groups} == {"female", "male"} and "least favourably for" in found.note


# ----------------------------------------------------------------------------------------------------------- drift, both axes


def drifting(*bounds: dict[str, Any]) -> dict[str, Any]:
    return {"evaluation.drift": {"against": ["production", "baseline"], "bounds": list(bounds)}}


METRICS = drifting(bound("roc_auc_change", at_least=-0.03), bound("brier_score_change", at_most=0.01),
                   bound("accuracy_change", at_least=-0.05), bound("worst_accuracy_change", over=["sex"], at_least=-0.05),
                   bound("psi", over=["sex"], at_most=0.25))


def test_metrics_and_groups_are_held_against_production_and_baseline(first: tuple[Bench, str], tmp_path: Path):
    made = bench(tmp_path, home=first[0].home, **TREE, **METRICS)
    gates = judged(made, production=first[1], baseline=first[1])
    for role in ("production", "baseline"):
        assert finding(gates, f"drift.{role}.roc_auc_change").verdict is Verdict.FAIL
        assert float(finding(gates, f"drift.{role}.brier_score_change").value) > 0.01
        assert finding(gates, f"drift.{role}.accuracy_change").n == 600
        assert {g["name"] for g in finding(gates, f"drift.{role}.sex.worst_accuracy_change").groups} == {"female", "male"}
    only_one = judged(made, production=first[1])
    assert finding(only_one, "drift.baseline.brier_score_change").verdict is Verdict.NOT_APPLICABLE


def test_people_of_one_group_who_changed_are_found_within_their_group(first: tuple[Bench, str], tmp_path: Path):
    men = pl.col("sex") == "male"
    parts = {part: raw.with_columns(monthly_income=pl.when(men).then((pl.col("monthly_income") * 0.5).clip(500))
                                    .otherwise(pl.col("monthly_income")).cast(raw.schema["monthly_income"]))
             for part, raw in raw_parts(first[0].definition).items()}
    gates = judged(bench(tmp_path, frames=parts, home=first[0].home, **LINEAR, **METRICS), production=first[1])
    found = finding(gates, "drift.production.sex.psi")
    by_group = {group["name"]: float(group["value"]) for group in found.groups}
    assert found.verdict is Verdict.FAIL and found.note.startswith("furthest male")
    assert by_group["female"] < 0.25 < by_group["male"]


def test_outcomes_that_changed_are_drift_though_the_features_did_not(first: tuple[Bench, str], tmp_path: Path):
    parts = raw_parts(first[0].definition)
    parts["holdout"] = parts["holdout"].with_columns(repaid=pl.Series([n % 2 == 0 for n in range(600)]))
    gates = judged(bench(tmp_path, frames=parts, home=first[0].home, **LINEAR, **drifting(bound("psi", at_most=0.05))),
                   production=first[1])
    assert "outcome of the person" in finding(gates, "drift.production.psi").note


LEANING = {"evaluation.drift": {
    "against": ["production"], "drifted_when": {"metric": "psi", "above": 0.25, "because": WHY},
    "importance": {"top": 1, "rows": 400, "because": WHY},
    "bounds": [bound("drifted_feature_share", at_most=0.2, over=["sex"]), bound("drifted_feature_share", at_most=0.2),
               bound("top_features_changed", at_most=0.0), bound("top_features_reordered", at_most=0.0)]}}


def test_a_model_that_leans_on_other_features_and_people_who_moved_are_found(first: tuple[Bench, str], tmp_path: Path):
    same = judged(bench(tmp_path / "same", home=first[0].home, **LINEAR, **LEANING), production=first[1])
    assert same["drift"], [one.sentence() for one in same["drift"].failures]
    assert finding(same, "drift.production.top_features_changed").n == 400
    assert "score of the model" not in {group["name"] for group in finding(same, "drift.production.drifted_feature_share").groups}
    alone = judged(bench(tmp_path / "alone", home=first[0].home, **LINEAR, **LEANING))
    assert finding(alone, "drift.production.top_features_reordered").verdict is Verdict.NOT_APPLICABLE
    # Late payments say nothing about repaying any more: the model has to lean on something else.
    parts = {part: raw.with_columns(pl.col("late_payments").shuffle(seed=5), monthly_income=pl.col("monthly_income").clip(500, 900))
             for part, raw in raw_parts(first[0].definition).items()}
    other = judged(bench(tmp_path / "other", frames=parts, home=first[0].home, **LINEAR, **LEANING), production=first[1])
    assert finding(other, "drift.production.top_features_changed").verdict is Verdict.FAIL
    drifted = finding(other, "drift.production.sex.drifted_feature_share")
    assert drifted.verdict is Verdict.FAIL and drifted.note.startswith("furthest ") and {g["name"] for g in drifted.groups} == {"female", "male"}


# ------------------------------------------------------------------------------------------------------------- robustness


def disturbed(*bounds: dict[str, Any]) -> dict[str, Any]:
    return {"evaluation.robustness": list(bounds)}


def test_other_seeds_are_tried_and_counted_or_there_is_no_chance_in_training(tmp_path: Path):
    seeds = bound("retrain_seed_decision_flip_rate", perturbation="retrain_seed", seeds=3, over=["sex"], at_most=0.5)
    forest = {"training.estimator": "sklearn.ensemble.RandomForestClassifier",
              "training.hyperparameters": {"n_estimators": 5, "max_depth": 4}}
    found = finding(judged(bench(tmp_path / "forest", **forest, **disturbed(seeds))),
                    "robustness.sex.retrain_seed_decision_flip_rate@3")
    assert found.verdict is Verdict.PASS and 0 < float(found.value) < 0.5 and "mean of 3 draws" in found.method
    own = "systems.small_lender.model:make"
    fixed = bench(tmp_path / "fixed", **{
        "training.estimator": own, "training.hyperparameters": {}, **disturbed(seeds),
        "model.py": "from sklearn.naive_bayes import GaussianNB\n\n\ndef make():\n    return GaussianNB()\n"})
    found = finding(judged(fixed), "robustness.sex.retrain_seed_decision_flip_rate@3")
    assert (found.verdict, found.note) == (Verdict.NOT_APPLICABLE, "nothing in this estimator is random: every seed gives the same model")


def flip(**more: Any) -> dict[str, Any]:
    return bound("protected_flip_decision_flip_rate", perturbation="protected_flip", level=1.0, attribute="age_band", at_most=0.0, **more)


def test_a_model_that_sees_no_attribute_cannot_be_asked_what_it_would_do_with_another(tmp_path: Path):
    found = finding(judged(bench(tmp_path, **LINEAR, **disturbed(flip()))), "robustness.protected_flip_decision_flip_rate@1-age_band")
    assert (found.verdict, found.note) == (Verdict.NOT_APPLICABLE, "no feature is computed from age_band")


def test_decisions_that_hang_on_a_stand_in_are_counted(tmp_path: Path):
    assessed = {"features.registry.2.proxy": {"reviewed": True, "note": "kept for the sake of this test"}}
    found = finding(judged(bench(tmp_path, **LINEAR, **assessed, **disturbed(flip(with_proxies=True)))),
                    "robustness.protected_flip_decision_flip_rate@1-age_band-proxies")
    assert found.verdict is Verdict.FAIL and float(found.value) > 0.05


def with_dataset(made: Bench) -> Bench:
    """The bench with the dataset that its features come from, as stage 1 keeps it."""
    parts = raw_parts(made.definition)

    def kept(part: pl.DataFrame) -> SplitFile:
        return SplitFile(file=str(ArtefactStore(made.home.artefacts).put_bytes(parquet_bytes(part))), logical=str(dataset_digest(part)),
                         rows=part.height)

    dataset = Dataset(system=made.definition.system.system, source="0" * 64, rows=1500, columns=(), groups={},
                      splits={name: kept(part) for name, part in parts.items()},
                      quality_report=str(made.artefacts.put_bytes(canonical_json({}))))
    made.features = made.features.model_copy(update={"dataset": str(made.artefacts.put_bytes(dataset.manifest()))})
    return made


NONSENSE = disturbed(*(bound(f"{kind}_acceptance_rate", perturbation=kind, at_most=0.0)
                       for kind in ("out_of_range", "unseen_category", "wrong_type")))


def test_what_the_contract_rules_out_is_refused_before_the_model_sees_it(tmp_path: Path):
    gates = judged(with_dataset(bench(tmp_path, **LINEAR, **NONSENSE)))
    for kind, columns in (("out_of_range", 3), ("unseen_category", 1), ("wrong_type", 4)):
        found = finding(gates, f"robustness.{kind}_acceptance_rate")
        assert (found.verdict, found.value, len(found.groups), found.n) == (Verdict.PASS, "0", columns, columns * 100 // (
            2 if kind == "unseen_category" else 1))


def test_an_interface_that_takes_nonsense_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = with_dataset(bench(tmp_path, **LINEAR, **NONSENSE))
    monkeypatch.setattr("compliance_assets.stages.s4_interface.validated", lambda model, row: row)
    assert finding(judged(made), "robustness.unseen_category_acceptance_rate").verdict is Verdict.FAIL


def rule(expected: str = "falling", feature: str = "late_payments", **more: Any) -> dict[str, Any]:
    return bound("monotonicity_violation_rate", perturbation="monotonicity", feature=feature, expected=expected, level=0.5, tolerance=0.0,
                 at_most=0.0, **more)


ATTACKED = bound("membership_inference_auc", perturbation="membership_inference", rows=300, at_most=0.6, over=["sex"])
MISLED = bound("adversarial_success_rate", perturbation="adversarial", level=0.5, mutable=["monthly_income", "employment"], at_most=0.1,
               over=["sex"])
GAP = {"features.registry.0.nulls": "allow", "features.py": (
    "import polars as pl\n\n\ndef build(frame):\n    return frame.select((pl.col('monthly_debt') / pl.col('monthly_income')).clip(0, 2)"
    ".alias('debt_to_income'), 'monthly_income', 'late_payments', 'employment')\n")}


def test_a_score_that_goes_the_wrong_way_fails(tmp_path: Path):
    gates = judged(bench(tmp_path, **LINEAR, **disturbed(rule(), rule(over=["sex"]), rule("rising"))))
    right = finding(gates, "robustness.monotonicity_violation_rate@0.5-late_payments-falling")
    assert (right.verdict, right.value, right.n) == (Verdict.PASS, "0", 600)
    assert {group["name"] for group in finding(gates, "robustness.sex.monotonicity_violation_rate@0.5-late_payments-falling").groups} == {
        "female", "male"}
    assert finding(gates, "robustness.monotonicity_violation_rate@0.5-late_payments-rising").verdict is Verdict.FAIL


def test_a_model_that_knows_its_rows_by_heart_fails_and_a_plain_one_does_not(tmp_path: Path):
    id = "robustness.sex.membership_inference_auc@300"
    plain = finding(judged(bench(tmp_path / "plain", **LINEAR, **disturbed(ATTACKED))), id)
    assert plain.verdict is Verdict.PASS and 0.4 < float(plain.value) < 0.6 and sum(group["n"] for group in plain.groups) == 600
    tree = {"training.estimator": "sklearn.tree.DecisionTreeClassifier", "training.hyperparameters": {}}
    assert finding(judged(bench(tmp_path / "tree", **tree, **disturbed(ATTACKED))), id).verdict is Verdict.FAIL


def test_a_model_that_small_claims_turn_round_fails(tmp_path: Path):
    gates = judged(bench(tmp_path, **LINEAR, **disturbed(MISLED, {**MISLED, "level": 0.01, "mutable": ["monthly_income"], "over": []})))
    turned = finding(gates, "robustness.sex.adversarial_success_rate@0.5")
    assert turned.verdict is Verdict.FAIL and sum(group["n"] for group in turned.groups) < 600
    assert finding(gates, "robustness.adversarial_success_rate@0.01").verdict is Verdict.PASS


def test_features_that_may_be_missing_are_taken_away_one_by_one_and_all_at_once(tmp_path: Path):
    gone = [bound(f"{kind}_decision_flip_rate", perturbation=kind, level=level, at_most=0.01)
            for kind, level in (("missing_feature", 1.0), ("missing_block", 0.2))]
    gates = judged(bench(tmp_path / "gaps", **LINEAR, **GAP, **disturbed(*gone)))
    one = finding(gates, "robustness.missing_feature_decision_flip_rate@1")
    assert one.verdict is Verdict.FAIL and [group["name"] for group in one.groups] == ["debt_to_income"]
    assert 0 < float(finding(gates, "robustness.missing_block_decision_flip_rate@0.2").value) < float(one.value)
    none = judged(bench(tmp_path / "none", **LINEAR, **disturbed(*gone)))
    assert finding(none, "robustness.missing_feature_decision_flip_rate@1").verdict is Verdict.NOT_APPLICABLE


EVERYTHING = {**COMPARED, "evaluation.drift": {**LEANING["evaluation.drift"], **METRICS["evaluation.drift"], "bounds": [
    *METRICS["evaluation.drift"]["bounds"], *LEANING["evaluation.drift"]["bounds"]]}, "evaluation.robustness": [
    *NONSENSE["evaluation.robustness"], rule(), rule("constant", over=["sex"]), ATTACKED, MISLED, flip(), flip(with_proxies=True), flip(over=["sex"]),
    bound("retrain_seed_auc_drop", perturbation="retrain_seed", seeds=2, at_most=0.5),
    bound("numeric_noise_auc_drop", perturbation="numeric_noise", level=0.05, at_most=0.5, over=["sex"])]}


def test_the_auditors_verifier_expects_exactly_what_the_gates_find(first: tuple[Bench, str], tmp_path: Path):
    made = with_dataset(bench(tmp_path, home=first[0].home, **LINEAR, **EVERYTHING))
    evaluation = made.definition.system.declaration()["evaluation"]
    for references in ({}, {"production": first[1]}):
        body = {"gates": [gate.as_json() for gate in judged(made, **references).values()], "references": references}
        verify_bundle._check_bounds(evaluation, body)
        owed = {name for name, _, _ in verify_bundle._expected(evaluation)}
        assert owed == {one["id"] for gate in body["gates"] for one in gate["findings"]}
        for name in ("fairness.sex.worst_selection_rate_change", "robustness.retrain_seed_auc_drop@2", "drift.production.sex.psi"):
            less = {**body, "gates": [{**gate, "findings": [one for one in gate["findings"] if one["id"] != name]} for gate in body["gates"]]}
            with pytest.raises(verify_bundle.Refused, match="was not judged"):
                verify_bundle._check_bounds(evaluation, less)


def test_a_comparison_that_is_said_not_to_apply_although_something_is_in_production_is_a_lie(first: tuple[Bench, str], tmp_path: Path):
    made = bench(tmp_path, home=first[0].home, **LINEAR, **COMPARED)
    body = {"gates": [gate.as_json() for gate in judged(made).values()], "references": {"production": first[1], "baseline": first[1]}}
    with pytest.raises(verify_bundle.Refused, match="said not to apply, though it does"):
        verify_bundle._check_bounds(made.definition.system.declaration()["evaluation"], body)


def test_a_costly_model_fails_where_costs_are_declared(tmp_path: Path):
    costs = {"evaluation.costs": {"false_positive": 5.0, "false_negative": 1.0, "because": "the matrix of the German credit data"},
             "evaluation.performance.2": bound("cost_per_row", at_most=0.1, over=["sex"])}
    found = finding(judged(bench(tmp_path, **LINEAR, **costs)), "performance.sex.cost_per_row")
    assert found.verdict is Verdict.FAIL and len(found.groups) == 2 and 0.1 < float(found.value) < 5


# --------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(("change", "says"), [
    ({"evaluation.performance.0": bound("mae", at_most=3.0)}, "mae measures a regression model; this one decides between two outcomes"),
    ({"evaluation.performance.0": bound("roc_auc_change", at_least=0.0, over=["sex"])}, "compares all rows of two models"),
    ({"evaluation.performance.0": bound("cost_per_row", at_most=1.0)}, "needs costs, which have no default"),
    (drifting(bound("worst_accuracy_change", at_least=0.0)), "does not say over which attributes"),
    (drifting(bound("roc_auc", at_least=0.8)), "not one of drift"),
    (drifting(bound("drifted_feature_share", at_most=0.5)), "needs drifted_when, which has no default"),
    (drifting(bound("top_features_changed", at_most=0.0)), "needs importance, which has no default"),
    (disturbed(bound("retrain_seed_auc_drop", perturbation="retrain_seed", at_most=0.1)), "retrain_seed needs seeds, which has no default"),
    (disturbed(bound("numeric_noise_auc_drop", perturbation="numeric_noise", at_most=0.1)), "numeric_noise needs level"),
    (disturbed(flip(seeds=3)), "protected_flip does not take seeds"),
    (disturbed({**flip(), "attribute": "race"}), "race is not declared under data.protected"),
    (disturbed({**rule(), "feature": "height"}), "height is not a registered feature"),
    (disturbed({**rule(), "tolerance": None}), "monotonicity needs tolerance, which has no default"),
    (disturbed({**MISLED, "mutable": None}), "adversarial needs mutable, which has no default"),
    (disturbed({**MISLED, "mutable": ["height"]}), "height is not a registered feature"),
    (disturbed({**ATTACKED, "rows": None}), "membership_inference needs rows, which has no default"),
    (disturbed(bound("wrong_type_acceptance_rate", perturbation="wrong_type", at_most=0.0, over=["sex"])), "knows no groups"),
])
def test_a_bound_that_cannot_be_meant_is_refused_when_it_is_read(tmp_path: Path, change: dict[str, Any], says: str):
    with pytest.raises(ComplianceError, match=says):
        bench(tmp_path, **LINEAR, **change)
