"""Old rows are counted on a declared day, a value that came after the decision was not known; who has no date shows nothing."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.currentness import known_too_late, moments, outdated_share
from compliance_assets.metrics.intervals import wilson

DAY, YEAR = dt.date(2026, 11, 1), dt.timedelta(days=365)


def rows(*days: dt.date | str | None, **more: Any) -> pl.DataFrame:
    return pl.DataFrame({"applied": list(days), **more})


def test_rows_older_than_declared_and_rows_without_a_date_are_outdated() -> None:
    frame = rows(DAY, DAY - YEAR, DAY - YEAR - dt.timedelta(days=1), None)
    one = outdated_share(frame, "applied", DAY, YEAR)
    assert (one.value, (one.lower, one.upper), one.n) == (0.5, wilson(2, 4), 4)
    assert dict(one.detail) == {"undated": 1.0, "after_that_day": 0.0} and "newest 2026-11-01" in one.note


def test_a_row_of_a_day_to_come_is_counted_by_itself() -> None:
    one = outdated_share(rows(DAY, DAY + dt.timedelta(days=1)), "applied", DAY, YEAR)
    assert (one.value, dict(one.detail)["after_that_day"]) == (0.0, 1.0)


def test_the_most_outdated_group_counts_and_an_absent_group_leaves_it_unmeasured() -> None:
    frame, old = rows(*[DAY] * 3, *[DAY - 2 * YEAR] * 2), {"sex": ["female", "female", "male", "male", None]}
    one = outdated_share(frame, "applied", DAY, YEAR, "sex", old)
    assert (one.value, one.n) == (1.0, 1) and one.note.startswith("worst: unknown")
    assert {group.name: (group.value, group.n) for group in one.groups} == {"female": (0.0, 2), "male": (0.5, 2), "unknown": (1.0, 1)}
    absent = outdated_share(frame, "applied", DAY, YEAR, "sex", old, expected_groups={"sex": ("female", "male", "divers")})
    assert absent.value is None and absent.note == "no rows for divers"


def test_dates_moments_and_iso_text_are_the_same_days() -> None:
    text = ["2026-11-01", "2024-01-31", "soon"]
    dates = pl.Series([dt.date(2026, 11, 1), dt.date(2024, 1, 31), None])
    berlin = pl.Series([dt.datetime(2026, 11, 1), dt.datetime(2024, 1, 31), None]).dt.replace_time_zone("Europe/Berlin")
    for column in (pl.Series(text), dates, dates.cast(pl.Datetime("ms"))):
        assert moments(pl.DataFrame({"d": column}), "d").dt.date().to_list() == dates.to_list()
    assert moments(pl.DataFrame({"d": berlin}), "d").to_list()[0] == dt.datetime(2026, 10, 31, 23)
    for frame, column in ((rows(DAY), "decided"), (pl.DataFrame({"d": [1]}), "d")):
        with pytest.raises(ComplianceError, match="not in the data|not a date"):
            moments(frame, column)


def test_nothing_is_measured_of_no_rows() -> None:
    assert outdated_share(rows(DAY).clear(), "applied", DAY, YEAR).value is None


def test_what_became_known_after_the_decision_or_at_no_stated_time_is_counted() -> None:
    frame = pl.DataFrame({
        "decided": [DAY] * 5, "known": [DAY, DAY - YEAR, DAY + dt.timedelta(days=1), None, None], "debt": [1, 2, 3, 4, None]})
    one = known_too_late(frame, "known", "decided", ["debt"])
    assert (one.value, one.n, dict(one.detail)) == (2.0, 4, {"untimed": 1.0})


def test_moments_are_compared_to_the_second_and_with_a_day_by_the_day() -> None:
    evening, noon = dt.datetime(2026, 11, 1, 20), dt.datetime(2026, 11, 1, 12)
    both = pl.DataFrame({"decided": [noon], "known": [evening], "debt": [1]})
    assert known_too_late(both, "known", "decided", ["debt"]).value == 1.0
    assert known_too_late(both.with_columns(decided=pl.lit(DAY)), "known", "decided", ["debt"]).value == 0.0
