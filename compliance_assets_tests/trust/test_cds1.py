"""The digest of a table follows its rows and columns, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance_assets.errors import StageError
from compliance_assets.trust.canonical import dataset_digest


def table() -> pl.DataFrame:
    """A column of every kind that we accept, each with a null."""
    return pl.DataFrame({
        "id": [10, 20, 30, 40],
        "number": [1, None, 3, -4],
        "real": [1.5, float("nan"), None, -0.5],
        "text": ["a", None, "bc", ""],
        "truth": [True, None, False, True],
        "day": [date(2020, 1, 1), None, date(1900, 1, 1), date(2026, 1, 1)],
        "moment": [datetime(2020, 1, 1, tzinfo=UTC), None, datetime(2021, 1, 1, tzinfo=UTC), None],
        "time": [time(1), None, time(2), time(3)],
        "span": [timedelta(1), None, timedelta(2), timedelta(3)],
        "numbers": [[1, 2], None, [], [None]],
        "words": [["a", "bc"], [None], [], ["abc"]],
        "pair": [{"x": 1, "y": "a"}, None, {"x": None, "y": "c"}, {"x": 2, "y": None}],
        "bytes": [b"a", None, b"bc", b""],
        "nothing": [None, None, None, None],
        "money": [Decimal("1.20"), None, Decimal("3.00"), Decimal("-1.00")],
    }).with_columns(
        pl.col("text").cast(pl.Categorical).alias("category"),
        pl.Series("point", [[1, 2], None, [3, 4], [5, 6]], dtype=pl.Array(pl.Int8, 2)),
    )


@pytest.mark.parametrize("options", [
    {"compression": "snappy"}, {"row_group_size": 1}, {"statistics": False}, {"use_pyarrow": True},
], ids=str)
def test_how_parquet_was_written_does_not_matter(options: dict[str, Any]) -> None:
    stored = io.BytesIO()
    table().write_parquet(stored, **options)
    stored.seek(0)
    assert dataset_digest(pl.read_parquet(stored)) == dataset_digest(table())


def test_chunks_slices_and_arrow_files_do_not_matter(tmp_path: Path) -> None:
    whole = table()
    chunked = pl.concat([whole[:1], whole[1:2], whole[2:]], rechunk=False)
    assert chunked.n_chunks() == 3
    whole.write_ipc(tmp_path / "t.arrow")
    for same in (chunked, pl.concat([whole, whole])[4:], pl.read_ipc(tmp_path / "t.arrow")):
        assert dataset_digest(same) == dataset_digest(whole)


def test_a_category_is_its_text() -> None:
    texts = table().select("text")
    assert dataset_digest(texts) == dataset_digest(texts.cast(pl.Categorical)) == dataset_digest(
        texts.cast(pl.Enum(["", "bc", "a"])))


def test_every_nan_is_one_nan() -> None:
    odd = np.array([0x7FF8000000000001, 0xFFF8000000000000, 0x7FF8000000000000], dtype=np.uint64).view(np.float64)
    assert dataset_digest(pl.DataFrame({"x": odd})) == dataset_digest(pl.DataFrame({"x": [float("nan")] * 3}))


def test_what_stands_under_a_null_does_not_matter() -> None:
    hidden = pl.DataFrame({"x": [7, 8]}).with_columns(pl.when(pl.col("x") == 7).then(pl.col("x")).alias("x"))
    assert dataset_digest(hidden) == dataset_digest(pl.DataFrame({"x": [7, None]}))


CHANGES: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "a value": lambda t: t.with_columns(pl.col("number").replace(3, 4)),
    "a null to zero": lambda t: t.with_columns(pl.col("number").fill_null(0)),
    "a null to empty text": lambda t: t.with_columns(pl.col("text").fill_null("")),
    "a nan to null": lambda t: t.with_columns(pl.col("real").fill_nan(None)),
    "a type": lambda t: t.with_columns(pl.col("number").cast(pl.Int32)),
    "a time unit": lambda t: t.with_columns(pl.col("moment").dt.cast_time_unit("ms")),
    "a time zone": lambda t: t.with_columns(pl.col("moment").dt.convert_time_zone("Europe/Paris")),
    "a name": lambda t: t.rename({"number": "numbe"}),
    "the order of columns": lambda t: t.select(t.columns[::-1]),
    "the order of rows": lambda t: t.reverse(),
    "a row less": lambda t: t.head(3),
    "a column less": lambda t: t.drop("nothing"),
    "a boundary in a list": lambda t: t.with_columns(pl.Series("words", [["ab", "c"], [None], [], ["abc"]])),
    "a null list to an empty one": lambda t: t.with_columns(pl.col("numbers").fill_null([])),
    "a value in a struct": lambda t: t.with_columns(pl.col("pair").struct.with_fields(pl.field("x").fill_null(9))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changing_it_changes_the_digest(change: str) -> None:
    assert dataset_digest(CHANGES[change](table())) != dataset_digest(table())


def test_text_boundaries_count() -> None:
    assert dataset_digest(pl.DataFrame({"x": ["ab", "c"]})) != dataset_digest(pl.DataFrame({"x": ["a", "bc"]}))


def test_with_a_declared_key_the_order_of_rows_does_not_count_but_the_rows_do() -> None:
    assert dataset_digest(table().reverse(), "id") == dataset_digest(table(), "id") != dataset_digest(table())
    assert dataset_digest(table().head(3), "id") != dataset_digest(table(), "id")


@pytest.mark.parametrize("key", ["text", "truth", "absent"])
def test_a_key_that_does_not_tell_rows_apart_is_refused(key: str) -> None:
    with pytest.raises(StageError):
        dataset_digest(table(), key)


def test_python_objects_have_no_digest() -> None:
    with pytest.raises(StageError):
        dataset_digest(pl.DataFrame({"x": pl.Series([object()], dtype=pl.Object)}))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.none() | st.integers(-9, 9), st.none() | st.text(max_size=3)), min_size=1, max_size=12),
       st.data())
def test_any_cut_into_chunks_gives_the_same_digest(
        rows: list[tuple[int | None, str | None]], data: st.DataObject) -> None:
    whole = pl.DataFrame({"n": [n for n, _ in rows], "s": [s for _, s in rows]}, schema={"n": pl.Int64, "s": pl.String})
    cut = data.draw(st.integers(0, len(rows)))
    assert dataset_digest(pl.concat([whole[:cut], whole[cut:]], rechunk=False)) == dataset_digest(whole)


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_two_columns_of_text_agree_only_if_equal(left: list[str], right: list[str]) -> None:
    digests = [dataset_digest(pl.DataFrame({"s": column}, schema={"s": pl.String})) for column in (left, right)]
    assert (digests[0] == digests[1]) == (left == right)


def test_an_empty_table_still_has_its_columns() -> None:
    assert dataset_digest(table().clear()) != dataset_digest(table().clear().drop("id"))
