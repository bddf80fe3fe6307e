"""Who belongs to which group, counted by number, against the same counted row by row in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance_assets.metrics.groups import UNKNOWN, Cells, coded, group_sizes, membership, rows_by_group
from compliance_assets.metrics.measurement import MeasurementRefused

NAMES = ("a", "b", "é", "under_25", "")


def named(value: Any) -> str:
    return UNKNOWN if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


@st.composite
def columns(draw: st.DrawFn) -> tuple[list[str | None], list[str | None], list[int], list[int], bool]:
    rows = draw(st.integers(0, 40))
    of = st.lists(st.one_of(st.none(), st.sampled_from(NAMES)), min_size=rows, max_size=rows)
    bits = st.lists(st.integers(0, 1), min_size=rows, max_size=rows)
    return draw(of), draw(of), draw(bits), draw(bits), draw(st.booleans())


@settings(max_examples=150, deadline=None)
@given(columns())
def test_every_way_of_counting_agrees_with_counting_row_by_row(drawn: tuple[Any, ...]) -> None:
    first, second, label, decided, typed = drawn
    whole: dict[str, Any] = {"first": first, "second": np.array(second, dtype=object)}
    if typed:  # with names that nobody has, in no order
        whole["first"] = pl.Series("first", first, dtype=pl.Enum(["zz", *reversed(NAMES), "never"]))
    for over, rows in (("first", [named(one) for one in first]),
                       ("first*second", [f"{named(one)}*{named(two)}" for one, two in zip(first, second, strict=True)])):
        wanted = Counter(zip(rows, label, decided, strict=True))
        cells = Cells.count(over, label, decided, whole)
        assert {(group, y, d): int(cells.counts[i, y, d]) for i, group in enumerate(cells.groups) for y in (0, 1) for d in (0, 1)
                if cells.counts[i, y, d]} == dict(wanted)
        assert cells.groups == tuple("*".join(names) for names in sorted({tuple(row.split("*")) for row in rows}))
        assert membership(over, whole).tolist() == rows
        masks = rows_by_group(over, whole)
        assert list(masks) == sorted(set(rows))
        assert all(mask.tolist() == [row == group for row in rows] for group, mask in masks.items())
        positive = Counter(row for row, y in zip(rows, label, strict=True) if y)
        assert group_sizes(over, whole, np.array(label, dtype=np.int64)) == {row: (n, positive[row]) for row, n in Counter(rows).items()}


def test_a_declared_group_without_rows_is_counted_as_none() -> None:
    cells = Cells.count("sex", [1, 0], [1, 1], {"sex": ["f", "f"]}, {"sex": ("f", "m")})
    assert cells.groups == ("f", "m")
    assert cells.counts.tolist() == [[[0, 1], [0, 1]], [[0, 0], [0, 0]]]


def test_numbers_and_gaps_among_them_are_groups_by_their_text() -> None:
    assert coded("band", {"band": np.array([1.5, np.nan, 2.0])}).to_list() == ["1.5", UNKNOWN, "2.0"]
    assert coded("flag", {"flag": np.array([True, False])}).to_list() == ["true", "false"]


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(MeasurementRefused, match="same rows"):
        rows_by_group("a*b", {"a": ["x", "y"], "b": ["x"]})
    with pytest.raises(MeasurementRefused, match="same rows"):
        Cells.count("a", [0, 1, 1], [0, 1, 1], {"a": ["x", "y"]})
