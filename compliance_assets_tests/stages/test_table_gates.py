"""What a table can answer about itself: columns that must not be there, doubles across parts, rows gained or lost, guessed groups."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from compliance_assets.errors import DeclarationError
from compliance_assets.policy.definition import load_definition
from compliance_assets.policy.gates import Finding, Verdict
from compliance_assets.stages import s1_data_preparation as s1
from compliance_assets.stages import s3_gates
from compliance_assets.stages.s2_gates import attribute_auc
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.small_lender import write_small_lender
from compliance_assets_tests.stages.bench import bench
from compliance_assets_tests.stages.preparing import Prepared, computed, failed, prepared, simulated
from compliance_assets_tests.stages.test_s3_model_training import FOREST, LINEAR

WHY = "so that the test can see it"


def found(done: Prepared, gate: str, id: str) -> Finding:
    return next(one for one in done.gates[gate].findings if one.id == id)


def test_a_column_that_must_not_be_there_fails_the_contract(tmp_path: Path) -> None:
    done = prepared(tmp_path, **{"data.prohibited_columns": ["passport_number", "late_payments"]})
    assert found(done, "contract", "contract.prohibited.passport_number").verdict is Verdict.PASS
    assert done.failed() == {"contract": ["contract.prohibited.late_payments"]}


def test_doubles_by_their_features_are_counted_across_parts(tmp_path: Path) -> None:
    bound = {"data.identical_rows": {"metric": "split_row_overlap", "at_most": 100, "judged_on": "point", "because": WHY}}
    assert prepared(tmp_path / "healthy", **bound).failed() == {}
    rows = simulated(tmp_path)
    features = ["monthly_income", "monthly_debt", "late_payments", "employment"]
    doubled = rows.with_columns(pl.concat([rows[name].head(1000), rows[name].head(1000)]).alias(name) for name in features)
    done = prepared(tmp_path / "doubled", rows=doubled, **bound)
    assert done.failed()["leakage"] == ["leakage.identical_rows"]
    assert int(found(done, "leakage", "leakage.identical_rows").value or 0) > 300


def test_another_bound_than_that_is_refused_there(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="bounds split_row_overlap"):
        load_definition(write_small_lender(tmp_path, **{"data.identical_rows": {
            "metric": "duplicate_keys", "at_most": 0, "judged_on": "point", "because": WHY}}))


def test_rows_gained_or_lost_are_held_against_the_approved_models_data(tmp_path: Path) -> None:
    declared = {"data.rows_change": {"against": "production", "at_most": 0.2, "because": WHY}}
    first = prepared(tmp_path / "first", **declared)
    assert found(first, "shift", "shift.production.rows").verdict is Verdict.NOT_APPLICABLE
    for kept, passes in ((1700, True), (1500, False)):
        now = prepared(tmp_path / str(kept), rows=simulated(tmp_path).head(kept), **declared)
        store = first.work.artefacts
        for digest in (*now.dataset.files().values(),):
            store.put_bytes(now.work.artefacts.get_bytes(Digest(digest)))
        work = replace(now.work, artefacts=store, references={"production": str(store.put_bytes(first.dataset.manifest()))})
        gates = {report.gate: report for report in s1.judge(work, now.draft)}
        assert bool(gates["shift"]) is passes, kept
        assert gates["shift"].findings[0].note == f"2000 rows then, {kept} now"


def test_who_looks_the_same_and_is_labelled_differently_is_counted_by_group(tmp_path: Path) -> None:
    bound = {"data.conflicting_labels": {"metric": "conflicting_label_share", "at_most": 0.05, "judged_on": "upper", "because": WHY,
                                         "over": ["sex"]}}
    assert prepared(tmp_path / "healthy", **bound).failed() == {}
    rows = simulated(tmp_path)
    # Every tenth woman stands there twice, the second time with the other label.
    again = rows.filter((pl.col("sex") == "female") & (pl.col("application_id") % 10 == 0)).with_columns(
        ~pl.col("repaid"), application_id=pl.col("application_id") + 10_000)
    done = prepared(tmp_path / "planted", rows=pl.concat([rows, again]), **bound)
    assert done.failed() == {"label": ["label.sex.conflicting"]}
    worst = found(done, "label", "label.sex.conflicting")
    assert worst.note == "worst: female" and {g["name"]: float(g["value"]) > 0.1 for g in worst.groups} == {"female": True, "male": False}
    with pytest.raises(DeclarationError, match="bounds conflicting_label_share"):
        load_definition(write_small_lender(tmp_path / "other", **{"data.conflicting_labels": {
            "metric": "duplicate_keys", "at_most": 0.0, "judged_on": "point", "because": WHY}}))


CURRENT = {"metric": "outdated_share", "column": "applied_on", "as_of": "2026-11-01", "oldest": "400d", "at_most": 0.1,
           "judged_on": "upper", "because": WHY, "over": ["sex"]}


def dated(root: Path, *, old: str = "2026-06-01", known: str = "2026-05-01") -> pl.DataFrame:
    """The healthy rows with the day of the application and of the record of late payments; women's and half the men's as given."""
    some = (pl.col("sex") == "female") & (pl.col("application_id") % 2 == 0)
    return simulated(root).with_columns(
        applied_on=pl.when(some).then(pl.lit(old)).otherwise(pl.lit("2026-06-01")).str.to_date(),
        recorded_on=pl.when(some).then(pl.lit(known)).otherwise(pl.lit("2026-05-01")).str.to_date())


def test_rows_that_are_too_old_in_one_group_or_from_the_future_fail(tmp_path: Path) -> None:
    declared = {"data.currentness": [CURRENT]}
    assert prepared(tmp_path / "healthy", rows=dated(tmp_path), **declared).failed() == {}
    done = prepared(tmp_path / "old", rows=dated(tmp_path, old="2020-01-01"), **declared)
    assert done.failed() == {"currentness": ["currentness.sex.applied_on"]}
    worst = found(done, "currentness", "currentness.sex.applied_on")
    assert {group["name"]: float(group["value"]) > 0.4 for group in worst.groups} == {"female": True, "male": False}
    assert prepared(tmp_path / "future", rows=dated(tmp_path, old="2027-01-01"), **declared).failed() == {
        "currentness": ["currentness.applied_on.after_2026-11-01"]}
    nowhere = prepared(tmp_path / "nowhere", **declared)
    assert found(nowhere, "currentness", "currentness.sex.applied_on").verdict is Verdict.ERROR


def test_a_value_that_was_not_known_at_the_decision_fails(tmp_path: Path) -> None:
    declared = {"data.decided_at": "applied_on", "features.registry.2.known_at": "recorded_on"}
    healthy = prepared(tmp_path / "healthy", rows=dated(tmp_path), **declared)
    _, gates = computed(healthy)
    assert failed(gates) == {} and gates["leakage"].verdict is Verdict.PASS
    _, gates = computed(prepared(tmp_path / "late", rows=dated(tmp_path, known="2026-07-01"), **declared))
    assert failed(gates) == {"leakage": ["leakage.late_payments.known_too_late"]}
    assert int(gates["leakage"].findings[0].value or 0) > 400
    _, gates = computed(prepared(tmp_path / "nowhere", **declared))
    assert gates["leakage"].verdict is Verdict.ERROR
    with pytest.raises(DeclarationError, match=r"Declare data\.decided_at"):
        load_definition(write_small_lender(tmp_path / "undecided", **{"features.registry.2.known_at": "recorded_on"}))


def test_a_feature_that_tells_the_outcome_needs_an_assessment(tmp_path: Path) -> None:
    declared = {"features.target_auc_review_above": 0.85}
    _, gates = computed(prepared(tmp_path / "healthy", **declared))
    assert failed(gates) == {} and gates["leakage"].verdict is Verdict.PASS
    # Who did not repay gets seven late payments recorded, afterwards.
    rows = simulated(tmp_path).with_columns(late_payments=pl.when("repaid").then(0).otherwise(7).cast(pl.Int64))
    _, gates = computed(prepared(tmp_path / "leaking", rows=rows, **declared))
    assert failed(gates) == {"leakage": ["leakage.late_payments.tells_the_outcome"]}
    assessed = {"features.registry.2.gives_away": {"reviewed": True, "note": "the record is closed on the day of the application"}}
    _, gates = computed(prepared(tmp_path / "assessed", rows=rows, **declared, **assessed))
    assert failed(gates) == {}


def test_a_step_says_what_it_did_to_every_groups_share_and_to_the_label(tmp_path: Path) -> None:
    prepare = ('"""Cleaning."""\nimport polars as pl\n\n\ndef prepare(frame):\n    """Leaves out everybody below 30."""\n'
               '    return frame.filter(pl.col("age") >= 30)\n')
    done = prepared(tmp_path, **{"prepare.py": prepare, "data.prepare": "systems.small_lender.prepare:prepare"})
    step = done.report["preparation"]
    before, after, change = (step[name] for name in ("before", "after", "change"))
    assert step["purpose"] == "Leaves out everybody below 30." and change["rows"] == after["rows"] - before["rows"] < 0
    young = change["group_shares"]["age_band"]["below_45"]
    assert float(young["before"]) == pytest.approx(before["groups"]["age_band"]["below_45"] / before["rows"], abs=1e-6)
    assert float(young["change"]) < -0.05
    assert float(change["favourable_share"]["after"]) == pytest.approx(after["favourable"] / after["rows"], abs=1e-6)


def test_the_feature_step_is_recorded_before_and_after(tmp_path: Path) -> None:
    done = prepared(tmp_path)
    draft, _ = computed(done)
    step = json.loads(done.work.artefacts.get_bytes(Digest(draft.value.files()["features/report.json"])))["step"]
    assert step["before"]["columns"] == ["monthly_debt", "monthly_income", "late_payments", "employment"]
    assert step["before"]["rows"] == step["after"]["rows"] and sum(step["after"]["rows"].values()) == 2000


def test_a_feature_that_gives_the_group_away_needs_an_assessment(tmp_path: Path) -> None:
    declared = {"features.attribute_auc_review_above": 0.6}
    healthy = prepared(tmp_path / "healthy", **declared)
    _, gates = computed(healthy)
    assert failed(gates) == {}
    rows = simulated(tmp_path)
    leaning = rows.with_columns(monthly_income=pl.col("monthly_income") + pl.when(pl.col("sex") == "male").then(900.0).otherwise(0.0))
    _, gates = computed(prepared(tmp_path / "leaning", rows=leaning, **declared))
    assert "proxies.monthly_income.sex.auc" in failed(gates)["proxies"]


def test_the_area_of_guessing_a_group_is_scikit_learns() -> None:
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    group = generator.choice(["a", "b"], 500)
    values = np.round(generator.normal(np.where(group == "a", 0.0, -0.7)), 1)
    assert attribute_auc(pl.Series(values), pl.Series(group)) == pytest.approx(roc_auc_score(group == "a", values), abs=1e-12)
    word = np.where(generator.random(500) < 0.8, group, "c")
    share = {name: (group[word == name] == "a").mean() for name in "abc"}
    assert attribute_auc(pl.Series(word), pl.Series(group)) == pytest.approx(
        roc_auc_score(group == "a", [share[one] for one in word]), abs=1e-12)
    assert attribute_auc(pl.Series(values), pl.Series(["a"] * 500)) is None


def test_what_prepares_columns_has_seen_the_training_rows_and_no_more(tmp_path: Path) -> None:
    made = bench(tmp_path, **LINEAR)
    last = made.training_gates(made.trained())["isolation"].findings[-1]
    assert (last.id, last.verdict, last.value, last.bound) == ("isolation.transformers_on_train", Verdict.PASS, "600", "600")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaled = make_pipeline(StandardScaler()).fit(np.zeros((900, 1)))
    assert s3_gates.fitted_on_train(scaled, 600).verdict is Verdict.FAIL
    forest = bench(tmp_path / "forest", **FOREST)
    assert forest.training_gates(forest.trained())["isolation"].findings[-1].verdict is Verdict.NOT_APPLICABLE


def test_what_no_bound_is_declared_for_is_said_to_be_not_applicable_not_left_out(tmp_path: Path) -> None:
    done = prepared(tmp_path)
    for gate, id in (("label", "label.conflicting"), ("leakage", "leakage.identical_rows"), ("completeness", "completeness"),
                     ("currentness", "currentness"), ("shift", "shift")):
        one = found(done, gate, id)
        assert one.verdict is Verdict.NOT_APPLICABLE and "declared" in one.note
