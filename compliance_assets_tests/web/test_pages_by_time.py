"""The review of a lender whose people apply again and whose holdout is cut by time: it says of whom intervals are, and shows every slice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compliance_assets_tests.project import SYSTEM, approve_definition, founded, run_to
from compliance_assets_tests.stages.test_s4_slices import NAMES, SLICES
from compliance_assets_tests.stages.test_s4_together import applying_again
from compliance_assets_tests.web.visitor import HTML, Visitor

DATED = '''

def dated(*, rows, seed, **knobs):
    """Everybody applied on days of 2025."""
    import datetime
    import polars as pl

    day = (pl.col("application_id") * 7919) % 365
    return again(rows=rows, seed=seed, **knobs).with_columns(applied_on=pl.lit(datetime.date(2025, 1, 1)) + pl.duration(days=day))
'''


def again_and_dated(root: Path, **changes: Any) -> Path:
    folder = applying_again(root, **({"evaluation.time_slices": SLICES} | changes | {
        "expectations.json": json.dumps(_with_day())}))
    path, declared = folder / "simulator.py", folder / "system.yaml"
    path.write_text(path.read_text() + DATED)
    declared.write_text(declared.read_text().replace("simulator:again", "simulator:dated"))
    return folder


def _with_day() -> dict[str, Any]:
    from compliance_assets_tests.small_lender import expectations

    body = expectations()
    body["expectations"].append({"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "applied_on"}, "severity": "critical",
                                 "meta": {"because": "the day of the application is stamped on it"}})
    return body


@pytest.mark.slow
def test_the_review_says_of_whom_its_intervals_are_and_shows_every_slice_of_time(tmp_path: Path) -> None:
    river = founded(tmp_path, write=again_and_dated)
    approve_definition(river)
    for outcome in run_to(river, "integration_testing"):
        assert outcome, (outcome.stage, outcome.failures)
    page = Visitor(tmp_path).see(f"/systems/{SYSTEM}/review")
    page.check()
    assert "applicant (intervals are of these)" in page.text
    figures = list(page.elements("figure"))
    assert len(figures) == 6
    tables = ["".join(table.itertext()) for table in page.elements("table")]
    for name in NAMES:
        assert any(name.replace("_", " ") in text for text in tables), name
    assert all(figure.find(f".//{HTML}table") is not None for figure in figures)
