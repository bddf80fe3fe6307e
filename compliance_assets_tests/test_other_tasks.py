"""A system that names classes and one that predicts a number go through the gates, and are stopped by them, like one that decides."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
from jsonschema import Draft202012Validator

from compliance_assets.errors import ComplianceError, StageError
from compliance_assets.governance.monitoring import watched_bounds
from compliance_assets.metrics.calibration import measure_calibration
from compliance_assets.metrics.catalogue import METRICS
from compliance_assets.metrics.multiclass import measure_multiclass
from compliance_assets.modelfile import favourable_scores
from compliance_assets.policy.definition import load_definition
from compliance_assets.policy.gates import Finding, GateReport, Verdict
from compliance_assets.policy.system import Perturbed, Target
from compliance_assets.stages import s3_model_training as s3
from compliance_assets.stages import s4_model_evaluation as s4
from compliance_assets.stages.mitigation import reweighing
from compliance_assets.stages.outcomes import as_text, class_codes, class_table, good, is_good, learned
from compliance_assets.stages.s2_feature_engineering import load_features, read_groups
from compliance_assets.stages.training_rows import rows_of
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.other_tasks import WHY, bound, loan_endings, loan_returns
from compliance_assets_tests.small_lender import write_small_lender
from compliance_assets_tests.stages.preparing import failed
from compliance_assets_tests.test_public_systems import Run, prepared_in, through

SCHEMA = Path(__file__).resolve().parents[1] / "docs" / "schemas" / "evaluation-report.schema.json"


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return through(loan_endings(tmp_path_factory.mktemp("endings")))


@pytest.fixture(scope="module")
def returns(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return through(loan_returns(tmp_path_factory.mktemp("returns")))


def scores(run: Run) -> pl.DataFrame:
    return pl.read_parquet(run.prepared.work.artefacts.open_path(Digest(run.draft.value.scores)))


def read_sex(run: Run) -> pl.Series:
    """The group of every holdout row, in the order of the key."""
    return read_groups(run.prepared.work.artefacts, run.inputs["features"], "holdout")["sex"]


def report(run: Run) -> dict[str, Any]:
    return json.loads(run.prepared.work.artefacts.get_bytes(Digest(run.draft.value.report)))  # type: ignore[no-any-return]


def judged_again(run: Run, folder: Path, **references: str) -> dict[str, GateReport]:
    """The same sealed bytes under another declaration."""
    work = replace(run.prepared.work, definition=load_definition(folder), references=references)
    return {one.gate: one for one in s4.judge(work, run.draft, **run.inputs)}


def found(gates: dict[str, GateReport], id: str) -> Finding:
    return next(one for gate in gates.values() for one in gate.findings if one.id == id)


# ------------------------------------------------------------------------------------------------------------- what passes


def test_a_healthy_system_of_either_kind_passes_every_gate(endings: Run, returns: Run) -> None:
    for run in (endings, returns):
        assert run.prepared.failed() == {} and failed(run.features) == {} and failed(run.training) == {}
        assert failed(run.evaluation) == {}
        assert {name for name, gate in run.evaluation.items() if gate.verdict is Verdict.PASS} == {
            "performance", "fairness", "robustness", "calibration"}
        assert run.evaluation["drift"].verdict is Verdict.NOT_APPLICABLE


def test_what_is_measured_is_scikit_learns(endings: Run, returns: Run) -> None:
    from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score, roc_auc_score

    rows, target = scores(endings), endings.prepared.work.definition.system.data.target
    table = rows.select(f"probability.{name}" for name in ("paid", "late", "lost")).to_numpy()
    truth = as_text(rows["outcome"].to_numpy(), target).astype(str)
    named = np.array(["paid", "late", "lost"])[table.argmax(axis=1)]
    value = {one.id: float(one.value or "nan") for gate in endings.evaluation.values() for one in gate.findings if one.value}
    assert value["performance.accuracy"] == pytest.approx(accuracy_score(truth, named), abs=1e-12)
    codes = [class_codes(target)[name] for name in truth]
    order = np.argsort([class_codes(target)[name] for name in ("paid", "late", "lost")])
    assert value["performance.macro_roc_auc"] == pytest.approx(roc_auc_score(codes, table[:, order], multi_class="ovr"), abs=1e-12)
    sex = endings.finding("performance.sex.macro_f1")
    assert {group["name"] for group in sex.groups} == {"female", "male"} and sex.note.startswith("worst ")
    assert float(sex.value or 0) <= f1_score(truth, named, average="macro")
    assert rows["score"].to_list() == pytest.approx(table[:, 0].tolist())
    rows = scores(returns)
    value = {one.id: float(one.value or "nan") for gate in returns.evaluation.values() for one in gate.findings if one.value}
    assert value["performance.mae"] == pytest.approx(mean_absolute_error(rows["outcome"], rows["score"]), abs=1e-9)
    assert value["performance.r2"] == pytest.approx(r2_score(rows["outcome"], rows["score"]), abs=1e-9)
    assert (rows["decision"] == (rows["score"] >= 80).cast(pl.Int8)).all() and (rows["label"] == (rows["outcome"] >= 80).cast(pl.Int8)).all()


def test_their_reports_keep_the_schema_and_hold_what_their_task_has(endings: Run, returns: Run) -> None:
    schema = Draft202012Validator(json.loads(SCHEMA.read_text()))
    for run in (endings, returns):
        assert not [f"{error.json_path}: {error.message}" for error in schema.iter_errors(report(run))]
        assert "refused" not in report(run)
    names = {one["metric"] for one in report(endings)["performance"]}
    assert {"macro_f1", "macro_roc_auc", "accuracy", "roc_auc"} <= names and len(names) == len(report(endings)["performance"])
    assert report(endings)["calibration"][-1]["metric"] == "top_label_calibration_error"
    # By group as overall: what is said of accuracy is said of the class that was named.
    rows = scores(endings).with_columns(sex=read_sex(endings))
    women = rows.filter(sex="female")
    named = women.select(f"probability.{name}" for name in ("paid", "late", "lost")).to_numpy().argmax(axis=1)
    truth = as_text(women["outcome"].to_numpy(), endings.prepared.work.definition.system.data.target)
    right = float(np.mean(np.array(["paid", "late", "lost"], dtype=object)[named] == truth))
    of_women = {one["metric"]: one for one in report(endings)["groups"]["sex"]["female"]["performance"]}
    assert float(of_women["accuracy"]["value"]) == pytest.approx(right, abs=1e-12) and "macro_f1" in of_women
    body = report(returns)
    assert {one["metric"] for one in body["performance"]} >= {"mae", "rmse", "r2", "bias"} and body["reliability_curve"] == []
    assert {one["metric"] for one in body["fairness"]} >= {"mae_ratio", "selection_rate_ratio"}
    assert {one["metric"] for one in body["groups"]["sex"]["female"]["performance"]} >= {"mae"}


# ------------------------------------------------------------------------------------------------------------ what is stopped


def test_a_model_of_classes_that_misses_a_bound_is_stopped_by_each_gate(endings: Run, tmp_path: Path) -> None:
    gates = judged_again(endings, loan_endings(tmp_path, **{
        "evaluation.performance.1.at_least": 0.99, "evaluation.performance.2": bound("macro_f1", at_least=0.9, over=["sex"]),
        "evaluation.fairness.bounds.1.at_most": 0.001, "evaluation.calibration.0.at_most": 0.001,
        "evaluation.robustness.0": bound("category_flip_decision_flip_rate", perturbation="category_flip", level=1.0, at_most=0.0)}))
    for id in ("performance.macro_roc_auc", "performance.sex.macro_f1", "fairness.sex.equal_opportunity_difference",
               "robustness.category_flip_decision_flip_rate@1", "calibration.sex.top_label_calibration_error"):
        assert found(gates, id).verdict is Verdict.FAIL, id
    assert not any(gates[name] for name in ("performance", "fairness", "robustness", "calibration"))


def test_a_model_of_a_number_that_misses_a_bound_is_stopped_by_each_gate(returns: Run, tmp_path: Path) -> None:
    gates = judged_again(returns, loan_returns(tmp_path, **{
        "evaluation.performance.0.at_most": 1.0, "evaluation.performance.2.between": [-0.1, 0.1],
        "evaluation.fairness.bounds.3.at_most": 0.01, "evaluation.robustness.0.at_most": -0.5, "evaluation.robustness.3.expected": "rising",
        "evaluation.calibration.0.between": [0.999, 1.001]}))
    for id in ("performance.mae", "performance.sex.bias", "fairness.sex.bias_difference", "robustness.numeric_noise_mae_rise@0.05",
               "robustness.monotonicity_violation_rate@1-late_payments-rising", "calibration.sex.prediction_slope"):
        assert found(gates, id).verdict is Verdict.FAIL, id
    assert not any(gates[name] for name in ("performance", "fairness", "robustness", "calibration"))


def test_a_group_too_small_to_be_judged_is_insufficient_data_for_a_number_too(returns: Run, tmp_path: Path) -> None:
    gates = judged_again(returns, loan_returns(tmp_path, **{"evaluation.fairness.minimum_group.rows": 5000}))
    assert {one.verdict for one in gates["fairness"].findings} == {Verdict.INSUFFICIENT_DATA}


def test_a_model_that_gives_everybody_the_same_number_is_no_better_than_the_median(tmp_path: Path) -> None:
    run = through(loan_returns(tmp_path, **{
        "training.estimator": "sklearn.dummy.DummyRegressor", "training.hyperparameters": {"strategy": "median"},
        "evaluation.performance": [bound("mae", at_most=90.0)]}))
    assert run.finding("performance.mae").verdict is Verdict.PASS
    assert run.finding("performance.mae.below_constant").verdict is Verdict.FAIL


def test_another_model_is_held_against_the_one_in_production(endings: Run, returns: Run, tmp_path: Path) -> None:
    for run, make, changes in ((endings, loan_endings, {"roc_auc_change": "at_least", "accuracy_change": "at_least"}),
                               (returns, loan_returns, {"mae_change": "at_most"})):
        more = [bound(name, **{way: 0.0}) for name, way in changes.items()]
        drift = {"evaluation.drift": {"against": ["production"], "bounds": [
            bound("psi", at_most=0.1), bound("prediction_flip_rate", at_most=0.0), *more]}}
        store = run.prepared.work.artefacts
        itself = str(store.put_bytes(run.inputs["candidate_model"].manifest()))
        store.put_bytes(run.inputs["features"].manifest())
        gates = judged_again(run, make(tmp_path, **drift), production=itself)
        assert gates["drift"].verdict is Verdict.PASS, [one.sentence() for one in gates["drift"].failures]
        for name in (*changes, "prediction_flip_rate"):
            assert found(gates, f"drift.production.{name}").value == "0"
        assert "outcome of the person" in {group["name"] for group in found(gates, "drift.production.psi").groups}


# ---------------------------------------------------------------------------------------------------- what cannot be meant


def declares(make: Callable[..., Path], **changes: Any) -> Callable[[Path], Any]:
    return lambda root: load_definition(make(root, **changes))


@pytest.mark.parametrize(("declared", "says"), [
    (declares(loan_endings, **{"data.target.favourable": "paid"}), "exactly one of favourable, classes, favourable_from"),
    (declares(loan_endings, **{"data.target": {"column": "ending"}}), "exactly one of favourable, classes, favourable_from"),
    (declares(loan_endings, **{"data.target.favourable_classes": None}), "go together"),
    (declares(loan_endings, **{"data.target.favourable_classes": ["won"]}), "won is not among the classes"),
    (declares(loan_endings, **{"data.target.favourable_classes": ["paid", "late", "lost"]}), "every class is good"),
    (declares(loan_endings, **{"data.target.classes": ["paid", "late", "late"]}), "listed twice"),
    (declares(loan_endings, **{"evaluation.performance.0": bound("mae", at_most=1.0)}), "this one decides between several classes"),
    (declares(loan_endings, **{"evaluation.decision_threshold": 3.0}), "lies between 0 and 1"),
    (declares(loan_returns, **{"evaluation.performance.0": bound("roc_auc", at_least=0.5)}), "this one predicts a number"),
    (declares(loan_returns, **{"evaluation.fairness.bounds.2": bound("roc_auc_difference", over=["sex"], at_most=0.5)}), "predicts a number"),
    (declares(loan_returns, **{"evaluation.calibration.0": bound("prediction_interval_coverage", between=[0.8, 0.9])}), "intervals"),
    (declares(loan_returns, **{"training.mitigation": {"kind": "reweighing", "over": "sex", "because": "so that it is seen"}}),
     "a number has no labels to weigh"),
    (declares(loan_endings, **{"training.mitigation": {"kind": "grid_search", "over": "sex", "constraint": "demographic_parity",
                                                       "grid_size": 5, "because": "so that it is seen"}}), "no reduction of several classes"),
    (declares(loan_returns, **{"training.mitigation": {"kind": "grid_search", "over": "sex", "constraint": "equalized_odds",
                                                       "grid_size": 5, "because": "so that it is seen"}}), "this one predicts a number"),
    (declares(write_small_lender, **{"training.mitigation": {"kind": "grid_search", "over": "sex", "constraint": "bounded_group_loss",
                                                             "grid_size": 5, "because": "so that it is seen"}}), "about a predicted number"),
    (declares(loan_returns, **{"training.search": {"parameters": {"l2_regularization": [0.0, 1.0]}, "choose_by": "roc_auc",
                                                   "because": "so that it is seen"}}), "cannot choose by roc_auc; this one predicts a number"),
    (declares(loan_returns, **{"training.search": {"parameters": {"l2_regularization": [0.0, 1.0]}, "choose_by": "bias",
                                                   "because": "so that it is seen"}}), "cannot choose by bias"),
    (declares(write_small_lender, **{"training.search": {"parameters": {"l2_regularization": [0.0, 1.0]}, "choose_by": "macro_f1",
                                                         "because": "so that it is seen"}}), "cannot choose by macro_f1"),
])
def test_a_declaration_that_mixes_tasks_is_refused_when_it_is_read(tmp_path: Path, declared: Callable[[Path], Any], says: str) -> None:
    with pytest.raises(ComplianceError, match=says):
        declared(tmp_path)


_MORE = {"monotonicity": {"level": 0.5, "feature": "late_payments", "expected": "falling", "tolerance": 0.0},
         "membership_inference": {"rows": 300}, "adversarial": {"level": 0.1, "mutable": ["monthly_income", "employment"]}, "retrain_seed": {"seeds": 3}, "protected_flip": {"level": 1.0, "attribute": "sex"},
         "out_of_range": {}, "unseen_category": {}, "wrong_type": {}}


def every_bound(task: str) -> dict[str, Any]:
    """One bound on every metric that a declaration of this task may name."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("performance", "fairness", "robustness", "calibration", "drift")}
    kinds = get_args(Perturbed.model_fields["perturbation"].annotation)
    for name, info in METRICS.items():
        if info.family == "quality" or task not in info.task or info.needs == ("y", "lower", "upper"):
            continue
        way = {"higher": {"at_least": 0.0}, "lower": {"at_most": 1.0}, "target": {"between": [0.0, 1.0]}}[info.direction]
        more: dict[str, Any] = {"over": ["sex", "sex*age_band"]} if info.family == "fairness" or name in (
            "calibration_error_difference", "worst_group_calibration_error") else {}
        if info.family == "robustness":
            kind = next(one for one in sorted(kinds, key=len, reverse=True) if name.startswith(f"{one}_"))
            more = {"perturbation": kind, **(_MORE[kind] if kind in _MORE else {"level": 0.1})}
        found[info.family].append(bound(name, **way, **more))
    found["drift"] += [copy.deepcopy(one) for family in ("performance", "fairness") for one in found[family] if one["metric"].endswith("_change")]
    return {"evaluation.performance": found["performance"], "evaluation.robustness": found["robustness"],
            "evaluation.fairness.bounds": found["fairness"], "evaluation.fairness.primary": found["fairness"][0]["metric"],
            "evaluation.calibration": found["calibration"], "evaluation.drift": {
                "against": ["production", "baseline"], "bounds": found["drift"],
                "drifted_when": {"metric": "psi", "above": 0.25, "because": WHY}, "importance": {"top": 3, "rows": 200, "because": WHY}},
            "evaluation.costs": {"false_positive": 1.0, "false_negative": 2.0, "because": WHY}}


@pytest.mark.slow
def test_every_metric_of_a_task_can_be_declared_and_is_judged(endings: Run, returns: Run, tmp_path: Path) -> None:
    unmeasured = {"protected_flip": "no feature is computed from", "retrain_seed": "every seed", "missing_": "no feature may be missing"}
    for run, make, task in ((endings, loan_endings, "multiclass"), (returns, loan_returns, "regression")):
        folder = make(tmp_path, **every_bound(task))
        store = run.prepared.work.artefacts
        production = str(store.put_bytes(run.inputs["candidate_model"].manifest()))
        store.put_bytes(run.inputs["features"].manifest())
        store.put_bytes(run.prepared.dataset.manifest())
        gates = judged_again(run, folder, production=production)
        findings = [one for gate in gates.values() for one in gate.findings if not one.id.startswith("drift.baseline")]
        errors = {one.id: one.note for one in findings if one.verdict is Verdict.ERROR}
        assert not errors, errors
        for one in findings:
            if one.verdict is Verdict.NOT_APPLICABLE:
                assert any(word in one.id and why in one.note for word, why in unmeasured.items()), one
            elif one.verdict is not Verdict.INSUFFICIENT_DATA:
                assert one.n and one.method and one.value is not None, one
    load_definition(write_small_lender(tmp_path, **every_bound("binary")))


def test_a_label_outside_the_classes_and_one_that_is_no_number_stop_the_data(tmp_path: Path) -> None:
    gone = loan_endings(tmp_path / "a", **{"data.target.classes": ["paid", "late", "ruined"]})
    assert {"label.undeclared", "label.kinds"} <= set(prepared_in(gone).failed()["label"])


def test_an_estimator_of_the_other_kind_is_refused_before_it_learns(returns: Run, endings: Run, tmp_path: Path) -> None:
    for run, make, estimator, says in ((returns, loan_returns, "sklearn.ensemble.HistGradientBoostingClassifier", "does not predict numbers"),
                                       (endings, loan_endings, "sklearn.linear_model.LinearRegression", "gives no probabilities")):
        folder = make(tmp_path, **{"training.estimator": estimator, "training.hyperparameters": {}})
        work = replace(run.prepared.work, definition=load_definition(folder))
        with pytest.raises(StageError, match=says):
            s3.produce(work, features=run.inputs["features"])


def test_only_what_recorded_outcomes_can_tell_is_watched_in_production(endings: Run, returns: Run) -> None:
    watched = [[one.metric for one in watched_bounds(run.prepared.work.definition.system)] for run in (endings, returns)]
    assert watched == [["expected_calibration_error"], []]
    for name in ("top_label_calibration_error", "prediction_slope"):
        with pytest.raises(ComplianceError, match="not about the score of a favourable outcome"):
            measure_calibration((name,), [0, 1], [0.2, 0.8])


def test_a_class_that_was_never_learned_is_not_given_a_probability() -> None:
    from sklearn.linear_model import LogisticRegression

    target = Target(column="e", classes=("paid", "late", "lost"), favourable_classes=("paid",))
    rows = pl.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
    two = LogisticRegression().fit(rows, [1, 1, 0, 0])
    with pytest.raises(StageError, match="never saw the class lost"):
        class_table(two, rows, target)
    three = LogisticRegression().fit(rows, [1, 0, -1, -1])
    assert class_table(three, rows, target)[:, 0] == pytest.approx(three.predict_proba(rows)[:, 2])
    assert favourable_scores(three, rows) == pytest.approx(three.predict_proba(rows)[:, 2])
    with pytest.raises(StageError, match="never saw a favourable outcome"):
        favourable_scores(LogisticRegression().fit(rows, [-1, -1, 0, 0]), rows)


def test_classes_are_learned_as_numbers_whose_sign_says_what_is_good() -> None:
    target = Target(column="e", classes=("lost", "paid", "late", "early"), favourable_classes=("early", "paid"))
    assert class_codes(target) == {"paid": 1, "early": 2, "lost": 0, "late": -1}
    column = pl.Series("e", ["paid", "late", None, "early", "won"])
    codes = learned(column, target)
    assert codes.to_list() == [1, -1, None, 2, None] and is_good(column, target).to_list() == [True, False, None, True, None]
    known = codes.drop_nulls().to_numpy()
    assert as_text(known, target).tolist() == ["paid", "late", "early"] and good(known, target).tolist() == [1, 0, 1]
    number = Target(column="n", favourable_from=80.0)
    given = pl.Series("n", [80.0, 79.9, None, float("nan")])
    assert learned(given, number).to_list() == [80.0, 79.9, None, None] and is_good(given, number).to_list() == [True, False, None, None]
    with pytest.raises(StageError, match="a number is to be predicted"):
        learned(pl.Series("n", ["many"]), number)


# ------------------------------------------------------------------------------------------------- searched for, and mitigated


def trained(run: Run, folder: Path) -> tuple[dict[str, Any], Any, dict[str, GateReport]]:
    """The same features under another way to train: the training record, the model, the gates of stage 3."""
    work = replace(run.prepared.work, definition=load_definition(folder))
    draft = s3.produce(work, features=run.inputs["features"])
    gates = {one.gate: one for one in s3.judge(work, draft, features=run.inputs["features"])}
    value = draft.value
    assert isinstance(value, s3.CandidateModel)
    return json.loads(work.artefacts.get_bytes(Digest(value.record))), s3.open_model(work.artefacts, value), gates


def validation_rows(run: Run) -> Any:
    return rows_of(*load_features(run.prepared.work.artefacts, run.inputs["features"], "validation"))


@pytest.mark.parametrize("metric", ["macro_f1", "log_loss", "accuracy"])
def test_several_classes_are_searched_for_and_every_trial_is_kept(endings: Run, tmp_path: Path, metric: str) -> None:
    body, model, gates = trained(endings, loan_endings(tmp_path, **{"training.hyperparameters": {"max_iter": 300}, "training.search": {
        "parameters": {"C": [0.001, 0.1, 1.0]}, "choose_by": metric, "because": "the usual settings of this model"}}))
    target = endings.prepared.work.definition.system.data.target
    values = [float(trial[metric]) for trial in body["trials"]]
    kept = [trial for trial in body["trials"] if trial["kept"]]
    assert len(values) == 3 and len(kept) == 1 and float(kept[0][metric]) == (min(values) if metric == "log_loss" else max(values))
    assert body["hyperparameters"]["C"] == kept[0]["hyperparameters"]["C"] and all(gates.values())
    rows = validation_rows(endings)
    (measured,) = measure_multiclass((metric,), as_text(rows.labels, target), class_table(model, rows.frame, target), target.classes or ())
    assert measured.value == float(kept[0][metric])


def test_numbers_are_searched_for_by_their_errors(returns: Run, tmp_path: Path) -> None:
    searched = {"training.hyperparameters": {"max_iter": 40, "max_leaf_nodes": 6, "categorical_features": "from_dtype"}, "training.search": {
        "parameters": {"learning_rate": [0.01, 0.2], "min_samples_leaf": [20, 100]}, "choose_by": "mae", "because": "the usual two settings"}}
    body, model, gates = trained(returns, loan_returns(tmp_path, **searched))
    errors = [float(trial["mae"]) for trial in body["trials"]]
    (kept,) = [trial for trial in body["trials"] if trial["kept"]]
    assert len(errors) == 4 and float(kept["mae"]) == min(errors) and all(gates.values())
    rows = validation_rows(returns)
    assert float(np.abs(favourable_scores(model, rows.frame) - rows.labels).mean()) == pytest.approx(float(kept["mae"]), rel=1e-12)


def test_several_classes_are_reweighed_class_by_class(endings: Run, tmp_path: Path) -> None:
    body, model, gates = trained(endings, loan_endings(tmp_path, **{"training.mitigation": {
        "kind": "reweighing", "over": "sex", "because": "how a loan ends shall not go together with sex in what is learned"}}))
    table = body["mitigation"]["weights"]
    assert set(table) == {"female", "male"} and set(table["female"]) == {"paid", "late", "lost"} and all(gates.values())
    rows = rows_of(*load_features(endings.prepared.work.artefacts, endings.inputs["features"], "train"))
    sex = rows.groups["sex"].to_numpy()
    weights, again = reweighing(sex, rows.labels, {1: "paid", 0: "late", -1: "lost"})
    assert again == table
    for code in (1, 0, -1):
        share = [weights[(sex == group) & (rows.labels == code)].sum() / weights[sex == group].sum()
                 for group in ("female", "male")]
        assert share[0] == pytest.approx(share[1], abs=1e-12)
    assert list(model.steps[-1][1].classes_) == [-1, 0, 1]


@pytest.mark.parametrize("labels", [[1, 1, 0, 0], [1, 0, -1, 1]])
def test_a_class_that_a_group_does_not_have_cannot_be_weighed(labels: list[int]) -> None:
    with pytest.raises(StageError, match="no training rows for"):
        reweighing(np.array(["a", "a", "b", "b"]), np.array(labels), {1: "paid", 0: "late", -1: "lost"})


def test_of_a_grid_of_numbers_the_predictor_is_kept_whose_worst_group_errs_least(returns: Run, tmp_path: Path) -> None:
    body, model, gates = trained(returns, loan_returns(tmp_path, **{
        "training.estimator": "sklearn.linear_model.Ridge", "training.hyperparameters": {}, "training.mitigation": {
            "kind": "grid_search", "over": "age_band", "constraint": "bounded_group_loss", "grid_size": 6,
            "because": "no age band shall be predicted worse than it must be"}}))
    worst = [max(map(float, trial["validation_error_by_group"].values())) for trial in body["trials"]]
    assert len(worst) == 6 and [trial["kept"] for trial in body["trials"]].index(True) == body["mitigation"]["chosen"] == int(np.argmin(worst))
    assert all(gates.values()) and type(model.steps[-1][1]).__name__ == "Ridge"
    rows = validation_rows(returns)
    square = np.square(favourable_scores(model, rows.frame) - rows.labels)
    bands = rows.groups["age_band"].to_numpy()
    again = max(float(square[bands == band].mean()) for band in np.unique(bands.astype(str)))
    assert again == pytest.approx(min(worst), rel=1e-9)


@pytest.mark.parametrize("make", [loan_endings, loan_returns])
def test_a_correlation_remover_that_needs_the_attribute_at_prediction_is_refused_for_every_task(
        make: Callable[..., Path], endings: Run, returns: Run, tmp_path: Path) -> None:
    linear = {"training.estimator": "sklearn.linear_model.Ridge", "training.hyperparameters": {}} if make is loan_returns else {}
    folder = make(tmp_path, **linear, **{"training.mitigation": {"kind": "correlation_remover", "over": "sex", "alpha": 1.0,
                                                                 "because": "so that it is seen to be refused"}})
    with pytest.raises(StageError, match="needs everybody's sex at every prediction"):
        trained(endings if make is loan_endings else returns, folder)
