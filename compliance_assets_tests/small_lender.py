"""A small lender that is healthy: 2000 simulated applications, a few boosted trees, bounds that it keeps.

Tests start from it and break one thing. A change is a value at a dotted path of system.yaml, or a file's new text:

    write_small_lender(tmp_path)
    write_small_lender(tmp_path, **{"data.source.knobs.bias": 0.35})               # fairness fails
    write_small_lender(tmp_path, **{"evaluation.performance.0.at_least": 0.999})   # performance fails
    write_small_lender(tmp_path, **{"data.key": REMOVED})                          # not a declaration any more
    write_small_lender(tmp_path, **{"features.py": text})
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

REMOVED = object()
"""As a change: take the key away."""

SYSTEM = """\
system: small_lender
title: Small loans
provider: Example Lender
intended_purpose: Estimate the probability that a small loan is repaid, to support a loan officer.
risk: {annex_iii: "5(b)", basis: creditworthiness of natural persons}
aisdp: {reference: AISDP-small-lender, module_2: docs/module-2.md}

data:
  source: {kind: simulator, build: "systems.small_lender.simulator:simulate", rows: 2000, seed: 11}
  key: application_id
  target: {column: repaid, favourable: true, prevalence: [0.6, 0.9]}
  protected:
    sex: {groups: [female, male]}
    age_band: {from: age, cuts: [45]}
  used_as_features: none
  intersections: [sex*age_band]
  split: {train: 0.6, validation: 0.2, holdout: 0.2, by: application_id, seed: 11}
  contract: expectations.json
  reference_population:
    shares:
      sex: {female: 0.5, male: 0.5}
      age_band: {below_45: 0.5, from_45: 0.5}
    tolerance: 0.05
    because: applicants are drawn half and half
  minimum_cell: {rows: 200, positives: 50, negatives: 20}
  provenance:
    collected_by: nobody, it is simulated
    method: structural equations with a fixed seed
    period: none
    original_purpose: to test this package
    legal_basis: none needed, no person is described
    licence: same as this repository
    contains_personal_data: false

features:
  build: systems.small_lender.features:build
  proxy_review_above: 0.5
  proxy_because: a strong association has to be looked at by a person
  registry:
    - {name: debt_to_income, dtype: float64, unit: ratio, range: [0, 2], from: [monthly_debt, monthly_income], nulls: refuse}
    - {name: monthly_income, dtype: float64, unit: euro, range: [500, 20_000], from: [monthly_income], nulls: refuse}
    - {name: late_payments, dtype: int64, unit: count, range: [0, 12], from: [late_payments], nulls: refuse,
       proxy: {reviewed: true, note: an unfair record would lean on one sex; the fairness gate bounds what follows from it}}
    - {name: employment, dtype: category, unit: kind, categories: [permanent, temporary, none], from: [employment], nulls: refuse}

training:
  estimator: sklearn.ensemble.HistGradientBoostingClassifier
  hyperparameters: {max_iter: 40, learning_rate: 0.15, max_leaf_nodes: 4, min_samples_leaf: 30, categorical_features: from_dtype}
  seed: 11
  resources: {threads: 1, gpu: 0, pool: training}
  rationale: small enough for a test, and the same score alone and in a batch

evaluation:
  decision_threshold: 0.5
  performance:
    - {metric: roc_auc, at_least: 0.75, judged_on: lower, because: below this the officer does better alone}
    - {metric: brier_score, at_most: 0.2, judged_on: upper, because: saying the average would score about as much}
  fairness:
    primary: selection_rate_ratio
    minimum_group: {rows: 50, positives: 20, negatives: 10}
    bounds:
      - {metric: selection_rate_ratio, over: [sex, age_band, sex*age_band], at_least: 0.75, judged_on: lower,
         because: wide enough for a holdout of four hundred rows}
      - {metric: equal_opportunity_difference, over: [sex], at_most: 0.15, judged_on: upper,
         because: wide enough for a holdout of four hundred rows}
  robustness:
    - {metric: numeric_noise_decision_flip_rate, perturbation: numeric_noise, level: 0.05, at_most: 0.1, judged_on: upper,
       because: rounding must not change decisions}
    - {metric: category_flip_decision_flip_rate, perturbation: category_flip, level: 0.01, at_most: 0.05, judged_on: upper,
       because: one wrong tick in a hundred is everyday}
  calibration:
    - {metric: expected_calibration_error, at_most: 0.12, judged_on: point, because: officers read the score as a probability}
    - {metric: calibration_in_the_large, between: [-0.06, 0.06], judged_on: point, because: on average it must be right}
  drift:
    against: [production, baseline]
    bounds:
      - {metric: psi, at_most: 0.25, judged_on: point, because: above it the population counts as another one}
      - {metric: prediction_flip_rate, at_most: 0.2, judged_on: upper, because: more changed decisions need a new assessment}
  undecided: refuse

integration: {latency_p95_ms: 1000, latency_because: tests share the machine with everything else, golden: golden.json,
              parity_rows: 50}

approval:
  requires: [{role: technical_owner, people: 1}, {role: governance_lead, people: 1}]
  valid_for: 48h
  separation: [not_launcher, not_author, distinct_people]

deployment:
  environment: production
  steps:
    - shadow: {requests: 60}
    - canary: {share: 0.5, requests: 80, minimum_group: 5}
    - full: {}
  abort_when:
    - {metric: error_rate, above: 0.01}
    - {metric: unlogged_rate, above: 0}
    - {metric: latency_ratio_p95, above: 20}
    - {metric: selection_rate_ratio, below: 0.4, over: sex}
  wait_seconds: 60

retraining: {schedule: "0 6 * * 1", on_new_data: true, on_drift: {psi: 0.25, windows: [3, 5]}}
retention: {documentation_years: 10, operation_logs_months: 6}
residency: eu
"""

SIMULATOR = '''\
"""A world of small loans in which neither sex nor age is a cause of repayment.

income, employment, late payments and debt are drawn alone; repaid follows from them. Knobs: `bias` is the share of women
whose record says four late payments too many, and that they did not repay, `dirt` the share of rows with an impossible income.
"""

import numpy as np


def simulate(*, rows, seed, bias=0.0, dirt=0.0):
    import polars as pl

    draw = np.random.Generator(np.random.Philox(seed))
    sex = np.where(draw.random(rows) < 0.5, "female", "male")
    age = draw.integers(20, 70, rows)
    income = np.clip(draw.lognormal(7.8, 0.35, rows), 500, 20_000).round()
    debt = (income * draw.beta(2, 5, rows)).round()
    late = np.minimum(draw.poisson(1.0, rows), 12)
    employment = draw.choice(["permanent", "temporary", "none"], rows, p=[0.6, 0.25, 0.15])
    worth = (3.6 - 1.3 * late - 3.5 * debt / income + 0.3 * np.log(income / 2000)
             + np.where(employment == "permanent", 0.9, np.where(employment == "temporary", 0.0, -1.5)))
    repaid = draw.random(rows) < 1 / (1 + np.exp(-worth))
    wronged = (sex == "female") & (draw.random(rows) < bias)
    late, repaid = np.where(wronged, np.minimum(late + 4, 12), late), repaid & ~wronged
    income = np.where(draw.random(rows) < dirt, -1.0, income)
    return pl.DataFrame({
        "application_id": np.arange(1, rows + 1), "sex": sex, "age": age, "monthly_income": income, "monthly_debt": debt,
        "late_payments": late, "employment": employment, "repaid": repaid,
    })
'''

FEATURES = '''\
"""What the model sees of an application; each row by itself, the same for training and for one answer."""

import polars as pl


def build(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The registry's columns in the registry's order, row by row."""
    return frame.select(
        (pl.col("monthly_debt") / pl.col("monthly_income")).clip(0, 2).alias("debt_to_income"),
        pl.col("monthly_income"),
        pl.col("late_payments"),
        pl.col("employment"),
    )
'''


def _expects(kind: str, column: str, because: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_column_values_to_{kind}", "kwargs": {"column": column, **kwargs}, "meta": {"because": because},
            "severity": "critical"}


def _number(column: str, type_: str, low: float, high: float) -> list[dict[str, Any]]:
    return [
        _expects("be_of_type", column, "the serving interface has this type", type_=type_),
        _expects("be_between", column, "beyond this it is a mistake", min_value=low, max_value=high),
        _expects("not_be_null", column, "every applicant states it"),
    ]


def _words(column: str, *words: str) -> list[dict[str, Any]]:
    return [
        _expects("be_of_type", column, "the serving interface has this type", type_="str"),
        _expects("be_in_set", column, "the words of the form", value_set=list(words)),
        _expects("not_be_null", column, "every applicant states it"),
    ]


def expectations() -> dict[str, Any]:
    """The data contract as Great Expectations writes it."""
    return {
        "name": "small_lender", "id": None,
        "expectations": [
            _expects("be_of_type", "application_id", "the key", type_="int64"),
            _expects("not_be_null", "application_id", "the key"),
            _expects("be_unique", "application_id", "the key"),
            *_words("sex", "female", "male"),
            *_number("age", "int64", 18, 100),
            *_number("monthly_income", "float64", 500, 20_000),
            *_number("monthly_debt", "float64", 0, 40_000),
            *_number("late_payments", "int64", 0, 12),
            *_words("employment", "permanent", "temporary", "none"),
            _expects("be_of_type", "repaid", "true or false", type_="bool"),
            _expects("not_be_null", "repaid", "without a label nothing is learned"),
        ],
        "meta": {"great_expectations_version": "1.24.1"}, "notes": None,
    }


def golden_cases() -> dict[str, Any]:
    """One clear yes and one clear no from every subgroup."""
    yes = {"monthly_income": 3200.0, "monthly_debt": 300.0, "late_payments": 0, "employment": "permanent"}
    no = {"monthly_income": 1400.0, "monthly_debt": 1100.0, "late_payments": 6, "employment": "none"}
    return {"cases": [
        {"name": f"{sex}, {band}: {word}", "group": {"sex": sex, "age_band": band}, "input": row, "expect": {"decision": decision}}
        for sex in ("female", "male") for band in ("below_45", "from_45")
        for word, row, decision in (("steady payer", yes, True), ("behind on debts", no, False))
    ]}


def files() -> dict[str, str]:
    """The healthy system's files, as text."""
    return {
        "system.yaml": SYSTEM, "expectations.json": json.dumps(expectations(), indent=1) + "\n", "features.py": FEATURES,
        "simulator.py": SIMULATOR, "golden.json": json.dumps(golden_cases(), indent=1) + "\n",
    }


def write_small_lender(root: Path, name: str = "small_lender", **changes: Any) -> Path:
    """Write `root`/systems/`name` and return that folder. Changes: see above; `name` renames the system everywhere."""
    texts = files()
    declared = {key: value for key, value in changes.items() if key not in texts and not key.endswith(".py")}
    texts.update({key: value for key, value in changes.items() if key not in declared})
    if declared:
        body = yaml.safe_load(texts["system.yaml"])
        for path, value in declared.items():
            _set(body, path.split("."), value)
        texts["system.yaml"] = yaml.safe_dump(body, sort_keys=False, allow_unicode=True)
    folder = root / "systems" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        if text is not REMOVED:
            (folder / file).write_text(text.replace("small_lender", name), encoding="utf-8")
    return folder


def _set(body: Any, path: list[str], value: Any) -> None:
    *above, last = (int(part) if part.isdigit() else part for part in path)
    for part in above:
        if isinstance(body, dict) and part not in body:
            body[part] = {}
        body = body[part]
    if value is REMOVED:
        del body[last]
    elif isinstance(body, list) and last == len(body):
        body.append(value)
    else:
        body[last] = value
