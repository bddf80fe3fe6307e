"""The table that is measured on: credit applications, 17 columns, seeded gaps and blemishes; and the contract they are held to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

SEED = 20261125
BRANCHES = [f"B{number:03d}" for number in range(200)]
PURPOSES = ["car", "home", "study", "travel", "debt", "other"]


def applications(rows: int) -> pl.DataFrame:
    """`rows` made-up applications: integers of three widths, floats, text, dates; up to 5 % of a column is missing."""
    draw = np.random.Generator(np.random.Philox(SEED))

    def gaps(share: float) -> np.ndarray:
        return draw.random(rows) < share

    age = draw.integers(18, 95, rows)
    income = np.clip(draw.lognormal(7.8, 0.5, rows), 300, 90_000).round(2)
    frame = pl.DataFrame({
        "application_id": np.arange(1, rows + 1), "age": age.astype(np.int32), "monthly_income": income,
        "monthly_debt": (income * draw.beta(2, 5, rows)).round(2), "loan_amount": draw.integers(500, 60_000, rows),
        "duration_months": draw.integers(3, 84, rows).astype(np.int16), "late_payments": np.minimum(draw.poisson(1.0, rows), 12).astype(np.int8),
        "open_accounts": draw.integers(0, 20, rows).astype(np.int32), "score": draw.normal(600, 80, rows).clip(300, 850),
        "utilisation": draw.beta(2, 3, rows), "repaid": draw.random(rows) < 0.8,
    }).with_columns(
        reference=pl.format("REF-{}", pl.col("application_id").cast(pl.String).str.zfill(10)),
        sex=pl.Series(draw.choice(["female", "male", "diverse"], rows, p=[0.49, 0.5, 0.01])),
        employment=pl.Series(draw.choice(["permanent", "temporary", "self", "none"], rows)), purpose=pl.Series(draw.choice(PURPOSES, rows)),
        branch=pl.Series(draw.choice(BRANCHES, rows)),
        applied=pl.date(2024, 1, 1) + pl.duration(days=pl.Series(draw.integers(0, 700, rows))),
    )
    blemished = {"monthly_debt": 0.01, "open_accounts": 0.02, "utilisation": 0.05, "purpose": 0.03, "branch": 0.001}
    return frame.with_columns(
        *(pl.when(pl.Series(gaps(share))).then(None).otherwise(pl.col(name)).alias(name) for name, share in blemished.items()),
        age=pl.when(pl.Series(gaps(1e-5))).then(pl.lit(140, pl.Int32)).otherwise(pl.col("age")),
    )


def contract() -> bytes:
    """28 expectations; two do not hold (an impossible age, a column with gaps)."""
    def column(kind: str, name: str, **kwargs: Any) -> dict[str, Any]:
        return {"type": f"expect_column_{kind}", "kwargs": {"column": name, **kwargs}, "meta": {}}

    checks = [
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}, "meta": {}},
        {"type": "expect_table_column_count_to_equal", "kwargs": {"value": 17}, "meta": {}},
        *(column("values_to_not_be_null", name) for name in ("application_id", "age", "monthly_income", "sex", "utilisation")),
        column("values_to_not_be_null", "monthly_debt", mostly=0.95),
        column("values_to_be_unique", "application_id"), column("values_to_be_unique", "reference"),
        column("values_to_be_between", "age", min_value=18, max_value=100), column("values_to_be_between", "monthly_income", min_value=300, max_value=90_000),
        column("values_to_be_between", "loan_amount", min_value=500, max_value=60_000), column("values_to_be_between", "duration_months", min_value=3, max_value=84),
        column("values_to_be_between", "late_payments", min_value=0, max_value=12), column("values_to_be_between", "utilisation", min_value=0, max_value=1),
        column("values_to_be_between", "score", min_value=300, max_value=850),
        column("values_to_be_in_set", "sex", value_set=["female", "male", "diverse"]),
        column("values_to_be_in_set", "employment", value_set=["permanent", "temporary", "self", "none"]),
        column("values_to_be_in_set", "purpose", value_set=PURPOSES), column("values_to_not_be_in_set", "branch", value_set=["B999", "TEST"]),
        column("values_to_match_regex", "reference", regex=r"^REF-\d{10}$"), column("values_to_match_regex", "branch", regex="^B[0-9]{3}$"),
        column("value_lengths_to_equal", "reference", value=14), column("values_to_be_of_type", "sex", type_="str"),
        column("values_to_be_of_type", "monthly_income", type_="float64"), column("mean_to_be_between", "monthly_income", min_value=1000, max_value=5000),
        column("stdev_to_be_between", "score", min_value=50, max_value=120),
    ]
    return json.dumps({"name": "applications", "expectations": checks}).encode()


def by_hand(path: Path) -> dict[str, Any]:
    """The same checks as one Polars query, written by somebody who needs no contract: bare numbers."""
    c = pl.col
    frame = pl.scan_parquet(path)
    row = frame.select(
        rows=pl.len(), **{f"null.{name}": c(name).null_count() for name in ("application_id", "age", "monthly_income", "sex", "utilisation", "monthly_debt")},
        unique_id=c("application_id").n_unique(), unique_reference=c("reference").n_unique(),
        **{f"range.{name}": (~c(name).is_between(low, high)).sum() for name, low, high in (
            ("age", 18, 100), ("monthly_income", 300, 90_000), ("loan_amount", 500, 60_000), ("duration_months", 3, 84), ("late_payments", 0, 12),
            ("utilisation", 0, 1), ("score", 300, 850))},
        sex=(~c("sex").is_in(["female", "male", "diverse"])).sum(), employment=(~c("employment").is_in(["permanent", "temporary", "self", "none"])).sum(),
        purpose=(~c("purpose").is_in(PURPOSES)).sum(), not_branch=c("branch").is_in(["B999", "TEST"]).sum(),
        reference=(~c("reference").str.contains(r"^REF-[0-9]{10}$")).sum(), branch=(~c("branch").str.contains("^B[0-9]{3}$")).sum(),
        length=(c("reference").str.len_chars() != 14).sum(), mean=c("monthly_income").mean(), deviation=c("score").std(),
    ).collect(engine="streaming").row(0, named=True)
    schema = frame.collect_schema()
    return row | {"columns": len(schema), "text": schema["sex"] == pl.String, "float": schema["monthly_income"] == pl.Float64}


def people(rows: int) -> dict[str, Any]:
    """Labels, decisions and two attributes for the fairness comparison: 3 × 5 groups of unequal size."""
    draw = np.random.Generator(np.random.Philox(SEED + 1))
    sex = draw.choice(["diverse", "female", "male"], rows, p=[0.02, 0.48, 0.5])
    age = draw.choice(["18-29", "30-44", "45-59", "60-74", "75+"], rows, p=[0.2, 0.3, 0.28, 0.17, 0.05])
    label = (draw.random(rows) < 0.7).astype(np.int64)
    decision = (draw.random(rows) < 0.25 + 0.5 * label - 0.03 * (sex == "female")).astype(np.int64)
    return {"y": label, "decision": decision, "attributes": {"sex": pl.Series(sex), "age_band": pl.Series(age)}}
