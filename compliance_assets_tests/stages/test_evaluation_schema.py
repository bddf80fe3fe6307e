"""The evaluation report is what its published schema says, healthy or refused; and the schema is not a blank cheque."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from compliance_assets.stages.evaluation_report import measured, robustness_curve
from compliance_assets.stages.s4_holdout import expected_groups
from compliance_assets.stages.s4_robustness import inputs_of
from compliance_assets_tests.stages.bench import bench
from compliance_assets_tests.stages.test_s4_model_evaluation import LINEAR, report

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "evaluation-report.schema.json"


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    body = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(body)
    return Draft202012Validator(body)


@pytest.fixture(scope="module")
def filed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    small = bench(tmp_path_factory.mktemp("small"), **LINEAR)
    return report(small, small.evaluated(small.trained().value))


def test_a_report_keeps_its_schema(schema: Draft202012Validator, filed: dict) -> None:
    assert not [f"{error.json_path}: {error.message}" for error in schema.iter_errors(filed)]


def test_a_report_of_what_could_not_be_measured_keeps_it_too(schema: Draft202012Validator, filed: dict, tmp_path: Path) -> None:
    system = bench(tmp_path, **LINEAR).definition.system
    y = np.zeros(40, dtype=np.int8)
    groups = {"sex": np.array(["female"] * 40), "age_band": np.array(["below_45"] * 40)}
    head = {key: filed[key] for key in ("report", "version", "system", "candidate", "features", "references", "robustness_curve")}
    for score in (np.full(40, 0.3), np.full(40, np.nan)):
        body = {**head, **measured(system, y, score, groups, ("sex",), expected_groups(system))}
        assert not [f"{error.json_path}: {error.message}" for error in schema.iter_errors(body)]


@pytest.mark.parametrize("broken", [
    lambda body: body.update(rows=-1), lambda body: body["performance"][0].update(value=0.7), lambda body: body.pop("fairness"),
    lambda body: body["performance"][0].pop("n"), lambda body: body.update(verdict="PASS"), lambda body: body["confusion"].pop("true_positives"),
    lambda body: body.update(candidate="of course")])
def test_anything_else_is_no_evaluation_report(schema: Draft202012Validator, filed: dict, broken: object) -> None:
    body = copy.deepcopy(filed)
    broken(body)  # type: ignore[operator]
    assert not schema.is_valid(body)


def test_growing_noise_is_swept_and_a_model_that_ignores_it_never_flips(filed: dict, tmp_path: Path) -> None:
    curve = filed["robustness_curve"]
    assert [one["level"] for one in curve] == ["0.005", "0.01", "0.02", "0.05", "0.1"]
    assert float(curve[-1]["flipped"]["value"]) > float(curve[0]["flipped"]["value"]) and curve[0]["flipped"]["n"] == 600
    made = bench(tmp_path, **LINEAR)
    from compliance_assets.stages.s2_feature_engineering import load_features

    frame, labels, _ = load_features(made.artefacts, made.features, "holdout")
    flat = robustness_curve(lambda rows: np.full(rows.height, 0.6), frame, labels, np.full(len(labels), 0.6), 0.5,
                            inputs_of(made.definition.system))
    assert {one["flipped"]["value"] for one in flat} == {"0"}
