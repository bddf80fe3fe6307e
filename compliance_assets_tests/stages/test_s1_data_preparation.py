"""Stage 1: a healthy book passes nine gates; break one thing, and the gate that guards it says which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from compliance_assets.errors import DeclarationError, StageError
from compliance_assets.policy.definition import load_definition
from compliance_assets.policy.gates import Finding, GateReport, Verdict
from compliance_assets.policy.river import rule_named
from compliance_assets.stages import s1_data_preparation as s1
from compliance_assets.trust.canonical import Digest, dataset_digest
from compliance_assets_tests.small_lender import expectations, write_small_lender
from compliance_assets_tests.stages.preparing import Prepared, prepared, simulated, work_on


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(tmp_path_factory.mktemp("healthy"))


def test_a_healthy_book_passes_every_gate_of_the_rule_in_order(healthy: Prepared) -> None:
    assert tuple(healthy.gates) == rule_named("data_preparation").gate_names
    assert healthy.failed() == {}


def test_the_dataset_names_every_byte_it_is_made_of(healthy: Prepared) -> None:
    for role, digest in healthy.dataset.files().items():
        assert healthy.work.artefacts.exists(Digest(digest)), role
    parts = [s1.read_part(healthy.work.artefacts, healthy.dataset, part) for part in s1.PARTS]
    assert sum(part.height for part in parts) == healthy.dataset.rows == 2000
    for name, part in zip(s1.PARTS, parts, strict=True):
        assert part["application_id"].is_sorted()
        assert dataset_digest(part) == healthy.dataset.splits[name].logical
        assert {column.name for column in healthy.dataset.columns} == set(part.columns)
    assert sum(healthy.dataset.groups["sex"].values()) == 2000


@pytest.mark.slow
def test_the_same_declaration_gives_the_same_bytes_whatever_the_threads_and_the_engine(healthy: Prepared, tmp_path: Path) -> None:
    """COMPLIANCE_SAME_BYTES=3 runs 1, 2, 4 and 8 threads, streaming and in memory, three times each (24 processes, a minute)."""
    write_small_lender(tmp_path)
    script = ("import sys; from pathlib import Path; from compliance_assets_tests.stages.preparing import work_on; "
              "from compliance_assets.stages import s1_data_preparation as s1, s2_feature_engineering as s2; "
              "w = work_on(Path(sys.argv[1]), Path(sys.argv[2])); d = s1.produce(w); "
              "print(d.value.digest, s2.produce(w, d.value).value.digest)")
    times = int(os.environ.get("COMPLIANCE_SAME_BYTES", "0"))
    asked = [(threads, engine, time) for time in range(times) for threads in (1, 2, 4, 8) for engine in ("streaming", "in-memory")]
    found = set()
    for threads, engine, time in asked or [(1, "in-memory", 0), (3, "streaming", 0)]:
        # Polars takes the engine of whatever does not name one (the system's own code, features.compute) from its environment.
        run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "systems/small_lender"), str(tmp_path / f"{threads} {engine} {time}")],
                             env={**os.environ, "POLARS_MAX_THREADS": str(threads), "POLARS_ENGINE_AFFINITY": engine}, capture_output=True,
                             text=True, check=True, cwd=Path(__file__).resolve().parents[2])
        found.add(run.stdout.strip())
    assert len(found) == 1 and found.pop().split()[0] == healthy.dataset.digest


def test_the_quality_report_holds_no_time_no_float_and_no_raw_value(healthy: Prepared) -> None:
    text = healthy.work.artefacts.get_bytes(Digest(healthy.dataset.quality_report)).decode()
    assert "run_id" not in text and "ge_load_time" not in text and "unexpected_list" not in text
    json.loads(text, parse_float=pytest.fail)


def test_what_preparation_changed_is_on_record(tmp_path: Path) -> None:
    prepare = ('import polars as pl\n\n\ndef prepare(frame):\n    """Leave out the very young."""\n'
               '    return frame.filter(pl.col("age") > 20)\n')
    done = prepared(tmp_path, **{"prepare.py": prepare, "data.prepare": "systems.small_lender.prepare:prepare"})
    record = done.report["preparation"]
    assert record["purpose"] == "Leave out the very young." and record["code"] == "systems.small_lender.prepare:prepare"
    assert record["before"]["rows"] == 2000 > record["after"]["rows"] == done.dataset.rows
    assert set(record["before"]["groups"]["sex"]) == {"female", "male"}
    assert record["after"]["favourable"] < record["before"]["favourable"]


def test_dirt_fails_the_contract_and_says_where(tmp_path: Path) -> None:
    done = prepared(tmp_path, **{"data.source.knobs.dirt": 0.01})
    assert done.failed() == {"contract": ["contract.expect_column_values_to_be_between.monthly_income"]}
    finding = done.gates["contract"].failures[0]
    assert int(finding.value or 0) > 5 and finding.n == 2000 and finding.because == "beyond this it is a mistake"


@pytest.mark.parametrize(("broken", "gate", "finding"), [
    (pl.lit(None, pl.Float64).alias("monthly_debt"), "contract", "contract.expect_column_values_to_not_be_null.monthly_debt"),
    (pl.lit("diverse").alias("sex"), "cell_sizes", "cell_sizes.sex.undeclared"),
    (pl.lit(True).alias("repaid"), "label", "label.kinds"),
    (pl.when(pl.col("application_id") < 9).then(None).otherwise(pl.col("repaid")).alias("repaid"), "label", "label.missing"),
    ((pl.col("repaid") & (pl.col("application_id") % 2 == 0)).alias("repaid"), "label", "label.prevalence"),
    (pl.when(pl.col("application_id") == 2).then(1).otherwise(pl.col("application_id")).alias("application_id"), "uniqueness",
     "uniqueness.application_id.repeated"),
    (pl.when(pl.col("application_id") == 2).then(None).otherwise(pl.col("application_id")).alias("application_id"), "uniqueness",
     "uniqueness.application_id.missing"),
    (pl.when(pl.col("application_id") % 5 == 0).then(pl.lit("male")).otherwise(pl.col("sex")).alias("sex"), "representativeness",
     "representativeness.sex.female"),
    (pl.when(pl.col("sex") == "male").then(30).otherwise(pl.col("age")).alias("age"), "cell_sizes",
     "cell_sizes.sex*age_band.male*from_45"),
])
def test_one_broken_column_fails_its_gate(tmp_path: Path, broken: pl.Expr, gate: str, finding: str) -> None:
    done = prepared(tmp_path, rows=simulated(tmp_path).with_columns(broken))
    assert finding in done.failed()[gate]


def test_an_integer_column_with_gaps_stays_one_and_only_the_gap_is_found(tmp_path: Path) -> None:
    rows = simulated(tmp_path).with_columns(
        pl.when(pl.col("application_id") == 7).then(None).otherwise(pl.col("late_payments")).alias("late_payments"))
    assert prepared(tmp_path, rows=rows).failed() == {"contract": ["contract.expect_column_values_to_not_be_null.late_payments"]}


def test_missing_groups_are_unknown_and_counted(tmp_path: Path) -> None:
    hidden = pl.when(pl.col("application_id") <= 40).then(None).otherwise(pl.col("sex")).alias("sex")
    rows = simulated(tmp_path).with_columns(hidden)
    done = prepared(tmp_path, rows=rows)
    assert done.dataset.groups["sex"]["unknown"] == 40
    assert done.failed() == {"contract": ["contract.expect_column_values_to_not_be_null.sex"]}


def test_an_expectation_that_cannot_be_computed_is_not_a_pass(tmp_path: Path) -> None:
    suite: dict[str, Any] = expectations()
    suite["expectations"].append({"type": "expect_column_values_to_be_unique", "kwargs": {"column": "passport"}, "meta": {}})
    done = prepared(tmp_path, **{"expectations.json": json.dumps(suite)})
    assert done.failed() == {"contract": ["contract.expect_column_values_to_be_unique.passport"]}
    assert "passport" in done.gates["contract"].failures[0].note


@pytest.mark.parametrize("misspelt", [
    {"type": "expect_miracles", "kwargs": {"column": "age"}, "meta": {}},
    {"type": "expect_column_values_to_be_unique", "kwargs": {"colunm": "age"}, "meta": {}},
])
def test_an_expectation_that_great_expectations_would_leave_out_is_refused(tmp_path: Path, misspelt: dict[str, Any]) -> None:
    suite: dict[str, Any] = expectations()
    suite["expectations"].append(misspelt)
    with pytest.raises(StageError, match=r"understands 23 of the contract's 24 expectations|cannot read the contract"):
        prepared(tmp_path, **{"expectations.json": json.dumps(suite)})


def test_the_sealed_rows_are_held_against_the_contract_now_in_force(healthy: Prepared, tmp_path: Path) -> None:
    suite: dict[str, Any] = expectations()
    suite["expectations"][7]["kwargs"]["max_value"] = 60  # age
    folder = write_small_lender(tmp_path, **{"expectations.json": json.dumps(suite)})
    work = replace(healthy.work, definition=load_definition(folder))
    reports = {report.gate: report for report in s1.judge(work, healthy.draft)}
    assert [finding.id for finding in reports["contract"].failures] == ["contract.expect_column_values_to_be_between.age"]


def test_another_declared_world_is_not_this_dataset(healthy: Prepared, tmp_path: Path) -> None:
    work = replace(healthy.work, definition=load_definition(write_small_lender(tmp_path, **{"data.source.seed": 12})))
    assert not next(iter(s1.judge(work, healthy.draft)))


def test_somebody_in_two_parts_fails_leakage(healthy: Prepared) -> None:
    train, holdout = (s1.read_part(healthy.work.artefacts, healthy.dataset, part) for part in ("train", "holdout"))
    mixed = pl.concat([holdout, train.head(1)])
    files = {**healthy.dataset.splits, "holdout": s1.SplitFile(
        file=str(healthy.work.artefacts.put_bytes(s1.parquet_bytes(mixed))), logical=str(dataset_digest(mixed)), rows=mixed.height)}
    forged = s1.Draft(healthy.dataset.model_copy(update={"splits": files}))
    reports = {report.gate: report for report in s1.judge(healthy.work, forged)}
    found = {finding.id for finding in reports["leakage"].failures}
    assert found == {"leakage.application_id.shared", "leakage.holdout.assignment"}


@pytest.mark.parametrize(("changes", "said"), [
    ({"prepare.py": "def prepare(frame):\n    return frame.head(0)\n"}, "Nothing is left"),
    ({"prepare.py": "def prepare(frame):\n    return frame.drop('repaid')\n"}, "no column repaid"),
    ({"prepare.py": "def prepare(frame):\n    return frame.drop('sex')\n"}, "column sex, which is not in the data"),
    ({"prepare.py": "def prepare(frame):\n    return frame.collect()\n"}, "returned a DataFrame"),
])
def test_a_preparation_that_loses_what_is_needed_is_an_error(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    with pytest.raises(StageError, match=said):
        prepared(tmp_path, **{**changes, "data.prepare": "systems.small_lender.prepare:prepare"})


def test_more_rows_leave_everybody_in_their_part(healthy: Prepared, tmp_path: Path) -> None:
    rows = pl.concat([simulated(tmp_path), simulated(tmp_path).with_columns(pl.col("application_id") + 5000)])
    more = prepared(tmp_path, rows=rows)
    for part in s1.PARTS:
        before = set(s1.read_part(healthy.work.artefacts, healthy.dataset, part)["application_id"])
        after = set(s1.read_part(more.work.artefacts, more.dataset, part)["application_id"])
        assert before == {key for key in after if key <= 2000}


def test_work_on_a_folder_uses_no_other_home(tmp_path: Path) -> None:
    work = work_on(write_small_lender(tmp_path), tmp_path / "store")
    s1.produce(work)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "systems"]


# ------------------------------------------------------------------------------------------- bounds that a system may declare

GAPS = {"metric": "completeness", "columns": ["phone"], "at_least": 0.85, "judged_on": "point", "because": "who cannot be called cannot be heard"}
MOVED = {"metric": "psi", "against": "production", "columns": ["monthly_income", "employment"], "at_most": 0.1, "judged_on": "point",
         "because": "beyond this it is another population"}


def finding(done: Prepared, gate: str, id: str) -> Finding:
    return next(found for found in done.gates[gate].findings if found.id == id)


def test_without_a_declared_bound_completeness_currentness_and_shift_say_that_they_do_not_apply(healthy: Prepared) -> None:
    for gate in ("completeness", "currentness", "shift"):
        assert healthy.gates[gate].verdict is Verdict.NOT_APPLICABLE
        assert "declared" in healthy.gates[gate].findings[0].note


def test_gaps_that_gather_in_one_group_fail_though_the_average_is_good(tmp_path: Path) -> None:
    absent = (pl.col("sex") == "female") & (pl.col("application_id") % 5 == 0)
    rows = simulated(tmp_path).with_columns(phone=pl.when(absent).then(None).otherwise(pl.lit("+49")))
    done = prepared(tmp_path, rows=rows, **{"data.completeness": [GAPS, {**GAPS, "columns": ["phone"], "over": ["sex", "sex*age_band"]}]})
    assert finding(done, "completeness", "completeness.phone").verdict is Verdict.PASS
    assert done.failed() == {"completeness": ["completeness.sex.phone", "completeness.sex*age_band.phone"]}
    worst = finding(done, "completeness", "completeness.sex.phone")
    assert {group["name"]: float(group["value"]) < 0.85 for group in worst.groups} == {"female": True, "male": False}


def test_completeness_of_a_column_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = prepared(tmp_path, **{"data.completeness": [GAPS]})
    assert finding(done, "completeness", "completeness.phone").verdict is Verdict.ERROR


def shifted(done: Prepared, **references: str) -> GateReport:
    return next(report for report in s1.judge(replace(done.work, references=references), done.draft) if report.gate == "shift")


def test_data_that_moved_away_from_the_approved_data_fails_shift_and_the_same_data_passes(tmp_path: Path) -> None:
    before = prepared(tmp_path / "before", **{"data.shift": [MOVED]})
    assert before.gates["shift"].verdict is Verdict.NOT_APPLICABLE  # no approved model yet
    approved = str(before.work.artefacts.put_bytes(before.dataset.manifest()))
    assert shifted(before, production=approved).verdict is Verdict.PASS
    poorer = simulated(tmp_path).with_columns(pl.col("monthly_income").clip(500, 1800))
    after = prepared(tmp_path / "after", rows=poorer, **{"data.shift": [MOVED]})
    work = replace(after.work, artefacts=before.work.artefacts)
    for name in (*after.dataset.files().values(),):
        before.work.artefacts.put_bytes(after.work.artefacts.get_bytes(Digest(name)))
    report = shifted(replace(after, work=work), production=approved)
    assert [found.id for found in report.failures] == ["shift.production.psi"]


@pytest.mark.parametrize(("path", "value", "said"), [
    ("data.completeness", [{**GAPS, "metric": "duplicate_keys", "at_most": 1, "at_least": None}], "bounds completeness, not duplicate_keys"),
    ("data.completeness", [{**GAPS, "over": ["religion"]}], "religion is not declared under data.protected"),
    ("data.completeness", [{name: value for name, value in GAPS.items() if name != "at_least"}], "exactly one of at_least"),
    ("data.shift", [{**MOVED, "metric": "prediction_flip_rate"}], "does not compare two datasets"),
    ("data.shift", [{name: value for name, value in MOVED.items() if name != "at_most"}], "exactly one of at_least"),
])
def test_a_bound_on_completeness_or_shift_has_no_default_and_no_other_metric(tmp_path: Path, path: str, value: Any, said: str) -> None:
    value = [{name: part for name, part in item.items() if part is not None} for item in value]
    with pytest.raises(DeclarationError, match=said):
        load_definition(write_small_lender(tmp_path, **{path: value}))
