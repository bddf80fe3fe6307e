"""The holdout is held against the declared bounds, gate after gate, and nothing unmeasurable ever passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from compliance_assets.errors import ArtefactCorrupt, OutOfTurn
from compliance_assets.policy.gates import Verdict
from compliance_assets.stages import s4_drift, s4_holdout, s4_robustness
from compliance_assets.stages import s4_model_evaluation as s4
from compliance_assets.stages.s1_data_preparation import parquet_bytes
from compliance_assets.stages.s3_model_training import CandidateModel
from compliance_assets.stages.stage import Draft
from compliance_assets.trust.canonical import Digest, canonical_json, parse_canonical
from compliance_assets_tests.stages.bench import Bench, bench, raw_parts

LINEAR = {"training.estimator": "sklearn.linear_model.LogisticRegression", "training.hyperparameters": {"C": 1.0, "max_iter": 200}}
GAPS = {"metric": "missing_values_auc_drop", "perturbation": "missing_values", "level": 0.1, "at_most": 0.03,
        "judged_on": "upper", "because": "gaps must not decide"}
FIVE = ["performance", "fairness", "robustness", "calibration", "drift"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("small"), **LINEAR)


@pytest.fixture(scope="module")
def candidate(small: Bench) -> CandidateModel:
    return small.trained().value


@pytest.fixture(scope="module")
def draft(small: Bench, candidate: CandidateModel) -> Draft:
    return small.evaluated(candidate)


def judged(made: Bench, **references: str) -> dict:
    """Train, evaluate and judge on this bench."""
    model = made.trained().value
    made.references = references
    return made.evaluation_gates(made.evaluated(model), model)


def finding(gates: dict, id: str):
    return next(f for gate in gates.values() for f in gate.findings if f.id == id)


def report(of: Bench, made: Draft) -> dict:
    return parse_canonical(of.artefacts.get_bytes(Digest(made.value.report)))


# ---------------------------------------------------------------------------------------------------------- a healthy world


def test_a_healthy_candidate_passes_every_gate_in_order(small: Bench, candidate: CandidateModel, draft: Draft):
    gates = small.evaluation_gates(draft, candidate)
    assert list(gates) == FIVE
    assert all(gates.values()), [f.sentence() for gate in gates.values() for f in gate.failures]


def test_evaluating_again_gives_the_same_bytes_and_the_same_verdicts(small: Bench, candidate: CandidateModel, draft: Draft):
    again = small.evaluated(candidate)
    assert again.value.manifest() == draft.value.manifest()
    first, second = (canonical_json([gate.as_json() for gate in small.evaluation_gates(one, candidate).values()])
                     for one in (draft, again))
    assert first == second


def test_every_holdout_row_is_scored_and_decided_in_the_order_of_its_key(small: Bench, draft: Draft):
    scores = pl.read_parquet(small.artefacts.open_path(Digest(draft.value.scores)))
    assert scores.columns == ["application_id", "label", "score", "decision"]
    assert scores.height == small.features.splits["holdout"].rows == 600
    assert scores["application_id"].is_sorted()
    assert (scores["decision"] == (scores["score"] >= 0.5).cast(pl.Int8)).all()


def test_findings_are_named_by_gate_group_and_metric(small: Bench, candidate: CandidateModel, draft: Draft):
    names = [f.id for gate in small.evaluation_gates(draft, candidate).values() for f in gate.findings]
    assert {"performance.roc_auc", "fairness.sex.selection_rate_ratio", "fairness.sex*age_band.selection_rate_ratio",
            "robustness.numeric_noise_decision_flip_rate@0.05", "calibration.expected_calibration_error",
            "drift.production.psi"} <= set(names)
    assert len(names) == len(set(names))


def test_the_report_holds_every_plot_and_no_float(small: Bench, draft: Draft):
    body = report(small, draft)
    assert {"performance", "fairness", "calibration", "reliability_curve", "roc_curve", "score_histogram", "confusion",
            "groups"} <= set(body)
    assert sum(body["confusion"].values()) == body["rows"] == 600
    assert sum(body["score_histogram"]["counts"]) == 600
    assert body["roc_curve"][0] == {"false_positive_rate": "0", "true_positive_rate": "0"}
    assert body["roc_curve"][-1] == {"false_positive_rate": "1", "true_positive_rate": "1"}
    for over in ("sex", "age_band", "sex*age_band"):
        assert sum(group["rows"] for group in body["groups"][over].values()) == 600
    assert "refused" not in body


def test_the_value_names_its_files_and_what_it_is_about(small: Bench, candidate: CandidateModel, draft: Draft):
    assert (draft.value.candidate, draft.value.features) == (candidate.digest, small.features.digest)
    assert all(small.artefacts.exists(Digest(digest)) for digest in draft.value.files().values())
    assert draft.value.gates == ()


# ------------------------------------------------------------------------------------------------------------- one breaks


@pytest.mark.parametrize(("change", "gate", "id"), [
    ({"evaluation.performance.0.at_least": 0.99}, "performance", "performance.roc_auc"),
    ({"evaluation.robustness.0.at_most": 0.0}, "robustness", "robustness.numeric_noise_decision_flip_rate@0.05"),
    ({"evaluation.calibration.0.at_most": 0.001}, "calibration", "calibration.expected_calibration_error"),
])
def test_a_bound_that_is_missed_fails_its_own_gate(tmp_path: Path, change: dict, gate: str, id: str):
    gates = judged(bench(tmp_path, **LINEAR, **change))
    assert [name for name, found in gates.items() if not found] == [gate]
    assert [f.id for f in gates[gate].failures] == [id]


def test_a_biased_lender_fails_fairness(tmp_path: Path):
    gates = judged(bench(tmp_path, **LINEAR, **{"data.source.knobs.bias": 0.6}))
    assert gates["fairness"].verdict is Verdict.FAIL
    found = finding(gates, "fairness.sex.selection_rate_ratio")
    assert float(found.value) < 0.75
    assert {group["name"] for group in found.groups} == {"female", "male"}


def test_later_gates_are_not_computed_until_they_are_asked_for(tmp_path: Path):
    made = bench(tmp_path, **LINEAR, **{"data.source.knobs.bias": 0.6})
    model = made.trained().value
    evaluated = made.evaluated(model)
    gates = s4.judge(made.work, evaluated, candidate_model=model, features=made.features)
    # Without the model's file nothing can be disturbed and scored again; what needs the scores alone still answers.
    place = made.artefacts.root / "sha256" / model.model[:2] / model.model[2:]
    place.unlink()
    assert next(gates)
    assert next(gates).verdict is Verdict.FAIL
    with pytest.raises(ArtefactCorrupt):
        next(gates)


def test_performance_is_judged_on_the_lower_end_and_not_on_the_point(small: Bench, candidate: CandidateModel, draft: Draft,
                                                                     tmp_path: Path):
    found = finding(small.evaluation_gates(draft, candidate), "performance.roc_auc")
    between = (float(found.lower) + float(found.value)) / 2
    gates = judged(bench(tmp_path, **LINEAR, **{"evaluation.performance.0.at_least": between}))
    assert finding(gates, "performance.roc_auc").verdict is Verdict.FAIL


def test_fairness_is_inconclusive_while_the_interval_straddles_the_bound(small: Bench, candidate: CandidateModel, draft: Draft,
                                                                         tmp_path: Path):
    found = finding(small.evaluation_gates(draft, candidate), "fairness.sex.selection_rate_ratio")
    between = (float(found.lower) + float(found.value)) / 2
    gates = judged(bench(tmp_path, **LINEAR, **{"evaluation.fairness.bounds.0.at_least": between,
                                                "evaluation.fairness.bounds.0.over": ["sex"]}))
    assert finding(gates, "fairness.sex.selection_rate_ratio").verdict is Verdict.INCONCLUSIVE
    assert not gates["fairness"]


def test_a_group_below_the_declared_minimum_is_insufficient_data(tmp_path: Path):
    gates = judged(bench(tmp_path, **LINEAR, **{"evaluation.fairness.minimum_group.rows": 500}))
    assert gates["fairness"].verdict is Verdict.INSUFFICIENT_DATA


def test_a_declared_group_that_is_absent_from_the_holdout_never_passes(tmp_path: Path):
    parts = raw_parts(bench(tmp_path / "plain", **LINEAR).definition)
    parts["holdout"] = parts["holdout"].filter(pl.col("sex") == "male")
    gates = judged(bench(tmp_path / "men", frames=parts, **LINEAR))
    assert not finding(gates, "fairness.sex.selection_rate_ratio")
    assert not gates["fairness"]


def test_a_bound_over_groups_is_judged_on_the_worst_of_them(tmp_path: Path):
    gates = judged(bench(tmp_path, **LINEAR, **{"evaluation.performance.0.over": ["sex"],
                                                "evaluation.performance.0.at_least": 0.5}))
    found = finding(gates, "performance.sex.roc_auc")
    assert found
    assert float(found.value) == min(float(group["value"]) for group in found.groups)


# -------------------------------------------------------------------------------------------------------- nothing to measure


def test_a_holdout_of_one_outcome_is_an_error_and_not_a_pass(tmp_path: Path):
    parts = raw_parts(bench(tmp_path / "plain", **LINEAR).definition)
    parts["holdout"] = parts["holdout"].filter(pl.col("repaid"))
    gates = judged(bench(tmp_path / "one", frames=parts, **LINEAR))
    found = finding(gates, "performance.roc_auc")
    assert (found.verdict, found.note) == (Verdict.ERROR, "only one class is present")
    assert not gates["performance"]


def test_scores_that_are_not_numbers_are_errors_in_every_gate_that_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = bench(tmp_path, **LINEAR)
    model = made.trained().value
    made.references = {"production": _kept(made, model)}
    real = s4_holdout.favourable_scores

    def broken(estimator: object, frame: pl.DataFrame) -> np.ndarray:
        scores = real(estimator, frame)
        scores[3] = np.nan
        return scores

    for module in (s4, s4_holdout, s4_drift, s4_robustness):
        monkeypatch.setattr(module, "favourable_scores", broken)
    evaluated = made.evaluated(model)
    gates = made.evaluation_gates(evaluated, model)
    assert {name: gates[name].verdict for name in FIVE} == dict.fromkeys(FIVE, Verdict.ERROR)
    scores = pl.read_parquet(made.artefacts.open_path(Digest(evaluated.value.scores)))
    assert scores["decision"].null_count() == 1
    assert "not finite" in report(made, evaluated)["refused"]


def test_sealed_scores_are_what_is_judged(small: Bench, candidate: CandidateModel, draft: Draft):
    scores = pl.read_parquet(small.artefacts.open_path(Digest(draft.value.scores)))
    turned = scores.with_columns(score=1 - pl.col("score"))
    value = draft.value.model_copy(update={"scores": small.artefacts.put_bytes(parquet_bytes(turned))})
    assert not small.evaluation_gates(replace(draft, value=value), candidate)["performance"]


def test_missing_values_are_not_applicable_with_a_reason_where_no_feature_may_be_missing(tmp_path: Path):
    gates = judged(bench(tmp_path, **LINEAR, **{"evaluation.robustness.2": GAPS}))
    found = finding(gates, "robustness.missing_values_auc_drop@0.1")
    assert found.verdict is Verdict.NOT_APPLICABLE
    assert "refused before they are scored" in found.note


def test_a_model_that_cannot_take_a_disturbed_row_is_an_error_and_not_a_pass(tmp_path: Path):
    own = ("from sklearn.compose import make_column_transformer\nfrom sklearn.linear_model import LogisticRegression\n"
           "from sklearn.pipeline import make_pipeline\n\n\ndef make():\n    return make_pipeline(make_column_transformer("
           "('passthrough', ['debt_to_income', 'late_payments'])), LogisticRegression())\n")
    gates = judged(bench(tmp_path, **{
        "model.py": own, "training.estimator": "systems.small_lender.model:make", "training.hyperparameters": {},
        "features.registry.0.nulls": "allow", "evaluation.robustness.2": GAPS}))
    found = finding(gates, "robustness.missing_values_auc_drop@0.1")
    assert found.verdict is Verdict.ERROR
    assert "NaN" in found.note


def test_a_candidate_of_another_feature_set_is_out_of_turn(small: Bench, candidate: CandidateModel):
    with pytest.raises(OutOfTurn, match="another feature set"):
        small.evaluated(candidate.model_copy(update={"features": "1" * 64}))


# -------------------------------------------------------------------------------------------------------------------- drift


def _kept(of: Bench, model: CandidateModel) -> str:
    """The candidate and its feature set as sealed values."""
    of.artefacts.put_bytes(of.features.manifest())
    return of.artefacts.put_bytes(model.manifest())


@pytest.fixture
def successor(tmp_path: Path) -> tuple[Bench, str]:
    """A lender whose first model is in production."""
    first = bench(tmp_path / "first", **LINEAR)
    return first, _kept(first, first.trained().value)


def test_the_first_release_has_nothing_to_drift_from_and_says_so(small: Bench, candidate: CandidateModel, draft: Draft):
    gate = small.evaluation_gates(draft, candidate)["drift"]
    assert gate.verdict is Verdict.NOT_APPLICABLE
    assert {f.note for f in gate.findings} == {"first release: nothing is in production",
                                               "first release: no baseline was assessed yet"}


def test_the_same_model_again_has_not_drifted(successor: tuple[Bench, str]):
    first, production = successor
    gates = judged(first, production=production, baseline=production)
    assert gates["drift"].verdict is Verdict.PASS
    assert finding(gates, "drift.baseline.psi").value == "0"
    assert finding(gates, "drift.production.prediction_flip_rate").value == "0"


def test_other_people_and_another_model_are_drift(successor: tuple[Bench, str], tmp_path: Path):
    first, production = successor
    parts = {part: raw.with_columns(monthly_income=(pl.col("monthly_income") * 0.4).clip(500).cast(raw.schema["monthly_income"]))
             for part, raw in raw_parts(first.definition).items()}
    moved = bench(tmp_path / "moved", frames=parts, home=first.home, **LINEAR)
    gates = judged(moved, production=production)
    assert finding(gates, "drift.production.psi").verdict is Verdict.FAIL
    assert "monthly_income" in finding(gates, "drift.production.psi").note
    assert finding(gates, "drift.baseline.psi").verdict is Verdict.NOT_APPLICABLE


def test_a_model_with_other_features_is_compared_on_the_people_that_both_have(successor: tuple[Bench, str], tmp_path: Path):
    first, production = successor
    changed = bench(tmp_path / "changed", home=first.home, **LINEAR, **{
        "features.registry.1.name": "income", "features.registry.1.unit": "euro",
        "features.py": _RENAMED})
    gates = judged(changed, production=production)
    flips = finding(gates, "drift.production.prediction_flip_rate")
    assert (flips.verdict, flips.n) == (Verdict.PASS, 600)
    assert "features of one model only, not compared: income, monthly_income" in finding(gates, "drift.production.psi").note


def test_a_candidate_must_not_be_worse_than_production_where_that_is_declared(successor: tuple[Bench, str], tmp_path: Path):
    first, production = successor
    bound = {"metric": "roc_auc_change", "at_least": -0.01, "judged_on": "lower", "because": "not worse than what is in use"}
    worse = bench(tmp_path / "worse", home=first.home, **{
        "training.estimator": "sklearn.tree.DecisionTreeClassifier", "training.hyperparameters": {"max_depth": 1},
        "evaluation.performance.2": bound})
    assert finding(judged(worse), "performance.roc_auc_change").verdict is Verdict.NOT_APPLICABLE
    assert finding(judged(worse, production=production), "performance.roc_auc_change").verdict is Verdict.FAIL


_RENAMED = '''\
"""The small lender's features; the income has another name."""

import polars as pl


def build(raw: pl.LazyFrame) -> pl.LazyFrame:
    return raw.select(
        (pl.col("monthly_debt") / pl.col("monthly_income")).alias("debt_to_income"),
        pl.col("monthly_income").cast(pl.Float64).alias("income"), pl.col("late_payments").cast(pl.Int64),
        pl.col("employment").cast(pl.Enum(["permanent", "temporary", "none"])))
'''
