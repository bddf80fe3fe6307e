"""Data quality: gaps, duplicates, missing and small groups, leaks. An absent group is a finding, not a blank."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.quality import (
    completeness,
    completeness_by_group,
    duplicate_keys,
    group_share_deviation,
    label_prevalence,
    smallest_cell,
    split_key_overlap,
    split_row_overlap,
)


def book():
    return pl.DataFrame({"id": range(100), "income": [float(i) for i in range(100)], "purpose": ["car", "house"] * 50,
                         "sex": ["female"] * 40 + ["male"] * 60, "age": ["old", "young"] * 50})


def test_a_healthy_frame_is_complete():
    measured = completeness(book(), ["income", "purpose"])
    assert (measured.value, measured.n, measured.upper) == (1.0, 100, 1.0)
    assert [group.name for group in measured.groups] == ["income", "purpose"]


def test_null_and_nan_are_both_missing_and_the_emptiest_column_counts():
    frame = book().with_columns(income=pl.Series([None, float("nan")] + [1.0] * 98))
    measured = completeness(frame, ["income", "purpose"])
    assert (measured.value, measured.note) == (0.98, "worst: income")


def test_gaps_of_one_group_are_seen():
    frame = book().with_columns(pl.when(pl.col("id") < 10).then(None).otherwise(pl.col("income")).alias("income"))
    measured = completeness_by_group(frame, ["income", "purpose"], "sex", {"sex": frame["sex"]})
    assert measured.value == 0.75
    assert dict(measured.detail) == {"female: income": 0.75, "male: income": 1.0}
    absent = completeness_by_group(frame, ["income"], "sex", {"sex": frame["sex"]}, expected_groups={"sex": ["other"]})
    assert absent.value is None and absent.note == "no rows for other"


def test_duplicates_of_a_key_are_counted():
    assert duplicate_keys(book(), "id").value == 0
    assert duplicate_keys(pl.concat([book(), book().head(3), book().head(1)]), "id").value == 4
    assert duplicate_keys(book(), ["sex", "age"]).value == 96


def test_shares_are_compared_with_the_declared_population():
    measured = group_share_deviation("sex", {"sex": book()["sex"]}, {"female": 0.5, "male": 0.5})
    assert measured.value == pytest.approx(0.1)
    assert {group.name: group.n for group in measured.groups} == {"female": 40, "male": 60}
    absent = group_share_deviation("sex", {"sex": book()["sex"]}, {"female": 0.4, "male": 0.5, "other": 0.1})
    assert absent.value == pytest.approx(0.1)
    assert next(group for group in absent.groups if group.name == "other").n == 0


def test_people_whom_the_population_does_not_name_count_against_it():
    measured = group_share_deviation("sex", {"sex": [None] * 30 + ["female"] * 70}, {"female": 1.0})
    assert measured.value == pytest.approx(0.3)
    assert "unknown" in {group.name for group in measured.groups}


def test_a_population_that_does_not_add_up_is_refused():
    with pytest.raises(ComplianceError, match="adds up to"):
        group_share_deviation("sex", {"sex": book()["sex"]}, {"female": 0.5, "male": 0.6})


def test_the_smallest_cell_of_an_intersection_is_found_even_if_empty():
    attributes = {"sex": book()["sex"], "age": book()["age"]}
    expected = {"sex": ["female", "male"], "age": ["old", "young"]}
    measured = smallest_cell("sex*age", attributes, y=np.arange(100) % 2, expected_groups=expected)
    assert (measured.value, measured.note) == (20.0, "smallest: female*old")
    assert [(group.n, group.positives, group.negatives) for group in measured.groups] == [
        (20, 0, 20), (20, 20, 0), (30, 0, 30), (30, 30, 0)]
    expected["age"] = ["old", "young", "oldest"]
    assert smallest_cell("sex*age", attributes, expected_groups=expected).value == 0.0


def test_a_key_or_a_row_in_two_splits_is_a_leak():
    splits = {"train": book().head(60), "validation": book().slice(60, 20), "holdout": book().slice(80)}
    assert split_key_overlap(splits, "id").value == 0
    leaking = splits | {"holdout": book().slice(75)}
    measured = split_key_overlap(leaking, "id")
    assert measured.value == 5
    assert dict(measured.detail) == {"holdout&train": 0, "holdout&validation": 5, "train&validation": 0}
    assert split_row_overlap(splits, ["income", "purpose"]).value == 0
    assert split_row_overlap(splits, ["purpose", "sex"]).value > 0
    assert split_key_overlap({"train": book()}, "id").value is None


def test_prevalence_is_a_share_with_its_interval_by_group():
    y = np.array([1] * 30 + [0] * 70)
    measured = label_prevalence(y, "sex", {"sex": book()["sex"]})
    assert measured.value == 0.3 and measured.lower < 0.3 < measured.upper
    assert [(group.name, group.value, group.positives) for group in measured.groups] == [
        ("female", 0.75, 30), ("male", 0.0, 0)]


def test_no_rows_measure_nothing():
    empty = book().head(0)
    assert completeness(empty, ["income"]).value is None
    assert duplicate_keys(empty, "id").value is None
    assert label_prevalence([]).value is None
    assert group_share_deviation("sex", {"sex": []}, {"female": 1.0}).value is None


def test_columns_that_are_not_there_are_refused():
    with pytest.raises(ComplianceError, match="wealth"):
        completeness(book(), ["wealth"])
    with pytest.raises(ComplianceError, match="wealth"):
        duplicate_keys(book(), "wealth")
