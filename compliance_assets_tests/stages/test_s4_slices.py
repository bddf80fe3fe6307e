"""The holdout by time: a model that is right on average and wrong in one stretch of it does not pass."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from jsonschema import Draft202012Validator

from compliance_assets.errors import ComplianceError, StageError
from compliance_assets.governance.charts import for_asset
from compliance_assets.metrics.intervals import delong
from compliance_assets.policy.change import changes
from compliance_assets.policy.definition import load_definition
from compliance_assets.policy.gates import Finding, GateReport, Verdict
from compliance_assets.policy.system import MinimumGroup, TimeSlices
from compliance_assets.stages import s4_model_evaluation as s4
from compliance_assets.stages.s4_holdout import column_of
from compliance_assets.stages.s4_slices import slices_of
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.other_tasks import bound, loan_endings, loan_returns
from compliance_assets_tests.small_lender import REMOVED, write_small_lender
from compliance_assets_tests.test_other_tasks import SCHEMA
from compliance_assets_tests.test_public_systems import Run, through

DATED = '''

def dated(*, rows, seed, turned=False, **knobs):
    """Everybody applied on a day of 2025. `turned`: in the last quarter of it, nobody repays as expected."""
    import datetime
    import polars as pl

    made = simulate(rows=rows, seed=seed, **knobs)
    made = made.collect() if isinstance(made, pl.LazyFrame) else made
    day = (pl.col("application_id") * 7919) % 365
    made = made.with_columns(applied_on=pl.lit(datetime.date(2025, 1, 1)) + pl.duration(days=day))
    late = pl.col("applied_on") >= datetime.date(2025, 10, 1)
    return made if not turned else made.with_columns(repaid=pl.when(late).then(pl.col("late_payments") > 1).otherwise(pl.col("repaid")))
'''
CUTS = ["2025-04-01", "2025-10-01"]
NAMES = ("before_2025-04-01", "2025-04-01_to_before_2025-10-01", "from_2025-10-01")
SLICES: dict[str, Any] = {
    "column": "applied_on", "cuts": [date.fromisoformat(cut) for cut in CUTS], "because": "the world of loans changes with the seasons",
    "minimum": {"rows": 40, "positives": 15, "negatives": 8}, "minimum_group": {"rows": 15, "positives": 5},
    "bounds": [bound("roc_auc", at_least=0.6, judged_on="lower"), bound("expected_calibration_error", at_most=0.4),
               bound("selection_rate_ratio", over=["sex"], at_least=0.5)]}


def dated(root: Path, write: Any = write_small_lender, **changes: Any) -> Path:
    folder = write(root, **({"evaluation.time_slices": SLICES} | changes))
    path, contract = folder / "simulator.py", folder / "expectations.json"
    path.write_text(path.read_text() + DATED)
    body = json.loads(contract.read_text())
    body["expectations"].append({"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "applied_on"}, "severity": "critical",
                                 "meta": {"because": "the day of the application is stamped on it"}})
    contract.write_text(json.dumps(body))
    text = (folder / "system.yaml").read_text()
    (folder / "system.yaml").write_text(text.replace(f"systems.{folder.name}.simulator:simulate", f"systems.{folder.name}.simulator:dated"))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return through(dated(tmp_path_factory.mktemp("dated")))


def again_under(run: Run, folder: Path) -> dict[str, GateReport]:
    work = replace(run.prepared.work, definition=load_definition(folder))
    return {one.gate: one for one in s4.judge(work, run.draft, **run.inputs)}


def by_time(gates: dict[str, GateReport]) -> dict[str, Finding]:
    return {one.id: one for gate in gates.values() for one in gate.findings if "time_slices" in one.id}


def test_every_slice_is_measured_by_itself_and_the_worst_one_is_judged(run: Run) -> None:
    found = by_time(run.evaluation)
    assert set(found) == {"performance.time_slices.roc_auc", "calibration.time_slices.expected_calibration_error",
                          "fairness.time_slices*sex.selection_rate_ratio"}
    assert {one.verdict for one in found.values()} == {Verdict.PASS}
    area = found["performance.time_slices.roc_auc"]
    rows = pl.read_parquet(run.prepared.work.artefacts.open_path(Digest(run.draft.value.scores))).with_columns(
        day=column_of(run.prepared.work, run.inputs["features"], "applied_on"))
    cuts = [date(2025, 1, 1), *SLICES["cuts"], date(2026, 1, 1)]
    for group, name, low, high in zip(area.groups, NAMES, cuts[:-1], cuts[1:], strict=True):
        part = rows.filter((pl.col("day") >= low) & (pl.col("day") < high))
        own = delong(part["label"].to_numpy(), part["score"].to_numpy())
        assert group["name"] == name and group["n"] == part.height
        assert float(group["value"]) == own.value and float(group["lower"]) == own.interval()[0]
    worst = min(area.groups, key=lambda group: float(group["value"]))
    assert (area.value, area.lower, area.n) == (worst["value"], worst["lower"], min(group["n"] for group in area.groups)) or (
        float(area.value) == float(worst["value"]))
    assert area.method == "worst slice; DeLong" and area.note == f"worst {worst['name']}"


def test_a_model_that_fails_in_one_stretch_of_time_does_not_pass_on_its_average(tmp_path: Path) -> None:
    turned = through(dated(tmp_path, **{"data.source.knobs": {"turned": True}, "data.target.prevalence": REMOVED,
                                        "evaluation.performance": [bound("roc_auc", at_least=0.5, judged_on="lower")]}))
    found = {one.id: one for one in turned.evaluation["performance"].findings}
    assert found["performance.roc_auc"].verdict is Verdict.PASS
    sliced = found["performance.time_slices.roc_auc"]
    assert sliced.verdict is Verdict.FAIL and sliced.note == "worst from_2025-10-01" and float(sliced.value) < 0.5
    assert not turned.evaluation["performance"]


def test_a_slice_below_the_declared_minimum_is_insufficient_data(run: Run, tmp_path: Path) -> None:
    few = SLICES | {"cuts": [date(2025, 4, 1), date(2025, 12, 20)]}
    for one in by_time(again_under(run, dated(tmp_path / "few", **{"evaluation.time_slices": few}))).values():
        assert one.verdict is Verdict.INSUFFICIENT_DATA and "from_2025-12-20" in one.note
    nobody = SLICES | {"cuts": [date(2025, 4, 1), date(2027, 1, 1)]}
    for one in by_time(again_under(run, dated(tmp_path / "nobody", **{"evaluation.time_slices": nobody}))).values():
        assert one.verdict is Verdict.INSUFFICIENT_DATA and "from_2027-01-01" in one.note and one.groups[-1]["n"] == 0


def test_a_group_too_small_within_a_slice_is_insufficient_data_for_the_comparison_alone(run: Run, tmp_path: Path) -> None:
    found = by_time(again_under(run, dated(tmp_path, **{"evaluation.time_slices": SLICES | {"minimum_group": {"rows": 60}}})))
    ratio = found["fairness.time_slices*sex.selection_rate_ratio"]
    assert ratio.verdict is Verdict.INSUFFICIENT_DATA and "within a slice" in ratio.note and "female before_2025-04-01" in ratio.note
    assert found["performance.time_slices.roc_auc"].verdict is Verdict.PASS


def test_the_report_and_the_page_show_every_slice_with_n_and_interval(run: Run) -> None:
    body = json.loads(run.prepared.work.artefacts.get_bytes(Digest(run.draft.value.report)))
    schema = Draft202012Validator(json.loads(SCHEMA.read_text()))
    assert not [f"{error.json_path}: {error.message}" for error in schema.iter_errors(body)]
    told = body["time_slices"]
    assert tuple(one["name"] for one in told["slices"]) == NAMES and sum(one["rows"] for one in told["slices"]) == body["rows"]
    assert {(one["metric"], one["over"]) for one in told["measurements"]} >= {
        ("roc_auc", "time_slices"), ("selection_rate_ratio", "time_slices*sex"), ("selection_rate_ratio", "time_slices*age_band")}
    for one in told["measurements"]:
        assert "range" in one["detail"] and one["method"].startswith("worst slice; ")
        assert all(group["n"] and group["lower"] is not None for group in one["groups"])
    chart = next(one for one in for_asset("evaluation_report", body) if one.name == "time_slices")
    assert all(name.replace("_", " ") in chart.markdown_table.replace("\\", "") for name in NAMES) and "By time" in chart.svg
    assert "time_slices" not in {one.name for one in for_asset("evaluation_report", {**body, "time_slices": told | {"measurements": []}})}


@pytest.mark.parametrize("make", [loan_endings, loan_returns])
def test_other_tasks_are_sliced_too(make: Any, tmp_path: Path) -> None:
    metric = bound("accuracy", at_least=0.3) if make is loan_endings else bound("mae", at_most=40.0, judged_on="upper")
    run = through(dated(tmp_path, make, **{"evaluation.time_slices": SLICES | {
        "bounds": [metric, bound("selection_rate_ratio", over=["sex"], at_least=0.3)], "minimum": {"rows": 40}, "minimum_group": {"rows": 10}}}))
    assert {one.verdict for one in by_time(run.evaluation).values()} == {Verdict.PASS} and len(by_time(run.evaluation)) == 2


def test_rows_without_a_date_are_a_slice_of_their_own_and_moments_are_days_in_utc() -> None:
    declared = TimeSlices(**(SLICES | {"minimum": MinimumGroup(rows=1), "because": "for this test"}))
    days = pl.Series("d", [date(2025, 3, 31), date(2025, 4, 1), None, date(2025, 10, 1)])
    slices = slices_of(days, declared)
    assert list(slices) == [*NAMES, "undated"] and [rows.tolist() for rows in slices.values()] == [
        [True, False, False, False], [False, True, False, False], [False, False, False, True], [False, False, True, False]]
    evening = pl.Series("d", ["2025-03-31T23:30:00"]).str.to_datetime().dt.replace_time_zone("America/New_York")
    assert slices_of(evening, declared)[NAMES[1]].tolist() == [True]
    with pytest.raises(StageError, match="not days or moments"):
        slices_of(pl.Series("d", np.arange(3)), declared)


@pytest.mark.parametrize(("change", "says"), [
    ({"cuts": [date(2025, 10, 1), date(2025, 4, 1)]}, "cuts must rise"),
    ({"column": "when"}, "does not speak of the column to slice by"),
    ({"bounds": [bound("psi", at_most=0.2)]}, "is not measured in slices"),
    ({"bounds": [bound("roc_auc_change", at_least=-0.1)]}, "is not measured in slices"),
    ({"bounds": [bound("selection_rate_ratio", at_least=0.8)]}, "does not say over which attributes"),
    ({"bounds": [bound("roc_auc", at_least=0.8, over=["sex"])]}, "is of all rows of a slice"),
    ({"bounds": [bound("selection_rate_ratio", at_least=0.8, over=["height"])]}, "height is not declared"),
    ({"bounds": [bound("mae", at_most=0.8)]}, "measures a regression model"),
    ({"bounds": [bound("cost_per_row", at_most=0.8)]}, "needs costs"),
    ({"minimum_group": None}, "minimum_group has no default"),
])
def test_what_cannot_be_meant_is_refused_when_it_is_read(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ComplianceError, match=says):
        load_definition(dated(tmp_path, **{"evaluation.time_slices": SLICES | change}))


def test_looser_slices_weaken_the_definition(tmp_path: Path) -> None:
    before = load_definition(dated(tmp_path / "before")).parts()
    for name, change in (("gone", {"evaluation.time_slices": None}), ("fewer", {"evaluation.time_slices.cuts": [date(2025, 4, 1)]}),
                         ("lower", {"evaluation.time_slices.bounds.0.at_least": 0.55}), ("larger", {"evaluation.time_slices.minimum.rows": 60})):
        found = [one for one in changes(before, load_definition(dated(tmp_path / name, **change)).parts()) if "time_slices" in one.where]
        assert found and {one.direction for one in found} == {"weakens"}, (name, found)
