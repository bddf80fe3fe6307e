"""Rows that look alike and are labelled differently are counted, each of them, and gaps look like gaps."""

from __future__ import annotations

import polars as pl
import pytest

from compliance_assets.errors import ComplianceError
from compliance_assets.metrics.intervals import wilson
from compliance_assets.metrics.label_audit import conflicting_labels

FRAME = pl.DataFrame({"a": [1, 1, 1, 2, 2, None, None, 3], "b": ["x", "x", "x", "y", "y", "z", "z", "x"]})
LABEL = [1, 0, 1, 1, 1, 0, 1, 0]


def test_every_row_of_a_combination_with_two_labels_counts() -> None:
    one = conflicting_labels(FRAME, ["a", "b"], LABEL)
    assert (one.value, (one.lower, one.upper), one.n) == (5 / 8, wilson(5, 8), 8)
    assert dict(one.detail) == {"combinations": 2.0}
    assert conflicting_labels(FRAME, ["a", "b"], [1] * 8).value == 0.0
    assert conflicting_labels(FRAME.clear(), ["a"], []).value is None


def test_the_worst_group_counts_and_an_absent_group_leaves_it_unmeasured() -> None:
    sex = {"sex": ["f", "f", "m", "m", "m", None, "m", "m"]}
    one = conflicting_labels(FRAME, ["a", "b"], LABEL, "sex", sex)
    assert {group.name: group.value for group in one.groups} == {"f": 1.0, "m": 2 / 5, "unknown": 1.0} and (one.value, one.n) == (1.0, 1)
    assert conflicting_labels(FRAME, ["a", "b"], LABEL, "sex", sex, expected_groups={"sex": ("f", "m", "d")}).value is None


def test_columns_that_are_not_there_are_refused() -> None:
    with pytest.raises(ComplianceError, match="not in the frame: c"):
        conflicting_labels(FRAME, ["a", "c"], LABEL)
