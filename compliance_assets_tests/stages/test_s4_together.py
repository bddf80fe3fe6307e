"""A lender whose people apply again and again: what stage 4 says of them is said of people, not of applications."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from compliance_assets.errors import StageError
from compliance_assets.policy.definition import load_definition
from compliance_assets.policy.gates import GateReport, Verdict
from compliance_assets.stages import s4_model_evaluation as s4
from compliance_assets.stages.s4_holdout import column_of
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.other_tasks import bound, loan_endings, loan_returns
from compliance_assets_tests.small_lender import write_small_lender
from compliance_assets_tests.stages.preparing import failed
from compliance_assets_tests.test_other_tasks import SCHEMA, every_bound
from compliance_assets_tests.test_public_systems import Run, through

APPLY_AGAIN = '''

def again(*, rows, seed, **knobs):
    """Everybody applies four times, and looks the same each time."""
    import polars as pl

    once = simulate(rows=rows // 4, seed=seed, **knobs)
    once = once.collect() if isinstance(once, pl.LazyFrame) else once
    whole = pl.concat([once.with_columns(applicant=pl.col("application_id"))] * 4)
    return whole.with_columns(application_id=pl.int_range(whole.height, dtype=once["application_id"].dtype))
'''
WIDE = {"data.source.rows": 8000, "data.split.by": "applicant", "data.minimum_cell": {"rows": 200, "positives": 50, "negatives": 20}}


def applying_again(root: Path, write: Any = write_small_lender, **changes: Any) -> Path:
    folder = write(root, **(WIDE | changes))
    name = folder.name
    path = folder / "simulator.py"
    path.write_text(path.read_text() + APPLY_AGAIN)
    contract = json.loads((folder / "expectations.json").read_text())
    contract["expectations"] += [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "applicant"}, "severity": "critical",
                                  "meta": {"because": "who applies is known"}}]
    (folder / "expectations.json").write_text(json.dumps(contract))
    declared = folder / "system.yaml"
    declared.write_text(declared.read_text().replace(f"systems.{name}.simulator:simulate", f"systems.{name}.simulator:again"))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return through(applying_again(tmp_path_factory.mktemp("again")))


def filed(run: Run) -> dict[str, Any]:
    return json.loads(run.prepared.work.artefacts.get_bytes(Digest(run.draft.value.report)))  # type: ignore[no-any-return]


def test_a_lender_whose_people_apply_again_is_judged_by_people(run: Run) -> None:
    assert run.prepared.failed() == {} and failed(run.features) == {} and failed(run.training) == {}
    judged = [one for gate in run.evaluation.values() for one in gate.findings if one.value is not None]
    assert {one.id for one in judged} >= {"performance.roc_auc", "performance.brier_score", "fairness.sex.selection_rate_ratio",
                                          "robustness.numeric_noise_decision_flip_rate@0.05"}
    for one in judged:
        assert "of applicant" in one.method, one
    assert Verdict.ERROR not in {one.verdict for gate in run.evaluation.values() for one in gate.findings}


def test_its_intervals_are_as_long_as_those_of_people_who_applied_once(run: Run) -> None:
    from compliance_assets.metrics.intervals import delong

    scores = run.prepared.work.artefacts.open_path(Digest(run.draft.value.scores))
    import polars as pl

    frame = pl.read_parquet(scores).with_columns(applicant=column_of(run.prepared.work, run.inputs["features"], "applicant"))
    people = frame.unique("applicant")
    assert frame.height == 4 * people.height
    rows = delong(frame["label"].to_numpy(), frame["score"].to_numpy()).interval()
    once = delong(people["label"].to_numpy(), people["score"].to_numpy()).interval()
    judged = run.finding("performance.roc_auc")
    width = float(judged.upper) - float(judged.lower)
    assert width == pytest.approx(once[1] - once[0], rel=0.15)
    assert width > 1.5 * (rows[1] - rows[0])


def test_its_report_says_who_was_counted_and_keeps_the_schema(run: Run) -> None:
    body = filed(run)
    assert body["clusters"]["by"] == "applicant" and body["clusters"]["largest"] == 4
    assert body["clusters"]["count"] * 4 == body["rows"]
    schema = Draft202012Validator(json.loads(SCHEMA.read_text()))
    assert not [f"{error.json_path}: {error.message}" for error in schema.iter_errors(body)]
    told = [one for name in ("performance", "fairness", "calibration") for one in body[name]]
    told += [one for groups in body["groups"].values() for group in groups.values() for one in (*group["performance"], *group["calibration"])]
    for one in told:
        assert "of applicant" in one["method"] or "lower" not in one, one
        assert "lower" in one or "no interval" in one["note"], one
    assert all("of applicant" in point[what]["method"] for point in body["robustness_curve"] for what in ("flipped", "auc_lost"))


def again_under(run: Run, folder: Path, **references: str) -> dict[str, GateReport]:
    work = replace(run.prepared.work, definition=load_definition(folder), references=references)
    return {one.gate: one for one in s4.judge(work, run.draft, **run.inputs)}


def test_a_metric_without_such_an_interval_is_an_error_where_it_is_judged_on_one_and_a_value_where_not(run: Run, tmp_path: Path) -> None:
    gates = again_under(run, applying_again(tmp_path, **{"evaluation.performance": [
        bound("average_precision", at_least=0.1, judged_on="lower"), bound("average_precision", at_least=0.1)]}))
    judged_on_interval, on_point = gates["performance"].findings
    assert judged_on_interval.verdict is Verdict.ERROR and "gives no interval" in judged_on_interval.note
    assert on_point.verdict is Verdict.PASS and on_point.lower is None and "rows belong together by applicant" in on_point.note


def test_a_column_that_is_not_in_the_data_is_refused(run: Run) -> None:
    with pytest.raises(StageError, match="no column nobody"):
        column_of(run.prepared.work, run.inputs["features"], "nobody")


@pytest.mark.slow
@pytest.mark.parametrize(("write", "task"), [(write_small_lender, "binary"), (loan_endings, "multiclass"), (loan_returns, "regression")])
def test_no_metric_of_any_task_shows_an_interval_of_rows_where_they_belong_together(tmp_path: Path, write: Any, task: str) -> None:
    run = through(applying_again(tmp_path, write))
    store = run.prepared.work.artefacts
    production = str(store.put_bytes(run.inputs["candidate_model"].manifest()))
    for value in (run.inputs["features"], run.prepared.dataset):
        store.put_bytes(value.manifest())
    gates = again_under(run, applying_again(tmp_path / "all", write, **every_bound(task)), production=production)
    findings = [one for gate in gates.values() for one in gate.findings if not one.id.startswith("drift.baseline")]
    assert not {one.id: one.note for one in findings if one.verdict is Verdict.ERROR}
    for one in findings:
        if one.value is not None:
            assert one.lower is None or "of applicant" in one.method, one
            assert one.lower is not None or "no interval" in one.note, one
            assert one.lower is not None or all(group["lower"] is None for group in one.groups), one


