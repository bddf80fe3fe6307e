"""Delimited text: the declared bytes and nothing else, and no value that moved to another column."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from compliance_assets.errors import SourceError
from compliance_assets.features import polars_type
from compliance_assets.policy.contract import ColumnContract
from compliance_assets.policy.system import CsvFile, CsvSource
from compliance_assets.sources import Snapshot, declared_digest, fetch
from compliance_assets.sources.columns import cast_columns

GOOD = b"id,income,city\n1,1000,Bonn\n2,?,Brest\n3,1200,\"Ghent, B\"\n"
TAIWAN = "1fb1be2b4c85213ce7f669990baafe6abb43cd39daccb78df6ad0b039860388d"


def source(folder: Path, content: bytes = GOOD, **options: Any) -> CsvSource:
    (folder / "book.csv").write_bytes(content)
    lines = options.pop("skip_lines", 0)
    file = CsvFile(path="book.csv", sha256=hashlib.sha256(content).hexdigest(), skip_lines=lines)
    return CsvSource(kind="csv", files=(file,), **options)


def read(declared: CsvSource, folder: Path) -> Snapshot:
    return fetch(declared, folder=folder, root=folder, scratch=folder, load_code=_no_code)


def _no_code(spec: str) -> Callable[..., Any]:
    raise AssertionError(spec)


def test_a_good_file_comes_as_text_with_its_own_digest(tmp_path: Path) -> None:
    snapshot = read(source(tmp_path, null_values=("?",)), tmp_path)
    assert snapshot.frame.to_dict(as_series=False) == {
        "id": ["1", "2", "3"], "income": ["1000", None, "1200"], "city": ["Bonn", "Brest", "Ghent, B"]}
    assert snapshot.digest == hashlib.sha256(GOOD).hexdigest() == declared_digest(source(tmp_path))


def test_one_changed_byte_refuses_before_anything_is_parsed(tmp_path: Path) -> None:
    declared = source(tmp_path)
    (tmp_path / "book.csv").write_bytes(b"\xff" + GOOD[1:])  # would not even be text
    with pytest.raises(SourceError, match=f"expected {declared.files[0].sha256}, found [0-9a-f]{{64}}"):
        read(declared, tmp_path)


def test_a_missing_file_says_where_to_put_it(tmp_path: Path) -> None:
    declared = source(tmp_path)
    (tmp_path / "book.csv").unlink()
    with pytest.raises(SourceError, match=r"is not there.*Put it below"):
        read(declared, tmp_path)


@pytest.mark.parametrize(("content", "said"), [
    (b"id,income,city\n1,1000,Bonn\n2,900\n", "line 3: 2 values for 3 columns"),
    (b"id,income,city\n1,1000,Bonn,extra\n", "line 2: 4 values for 3 columns"),
    (b"id,income,id\n1,1000,2\n", "repeated column names: id"),
    (b"id,,city\n1,1000,2\n", "unnamed column"),
    (b"id,income,city\n", "holds no data"),
    (b"", "holds no data"),
    (b'id,income,city\n1,"1000,Bonn\n', "unexpected end of data"),
    ("id,städte\n1,Köln\n".encode("latin-1"), "not UTF-8"),
])
def test_what_is_not_one_clean_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        read(source(tmp_path, content), tmp_path)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_kind_of_line_end_gives_the_same_rows(tmp_path: Path, end: bytes) -> None:
    assert read(source(tmp_path, GOOD.replace(b"\n", end)), tmp_path).frame.height == 3


def test_blanks_can_separate_and_a_first_line_can_be_skipped(tmp_path: Path) -> None:
    declared = source(tmp_path, b"|not data\nA11 6 A34\nA12  48 A32 \n", skip_lines=1, columns=("status", "months", "history"))
    declared = declared.model_copy(update={"separator": " "})
    assert read(declared, tmp_path).frame.rows() == [("A11", "6", "A34"), ("A12", "48", "A32")]


def test_several_files_are_one_table_in_their_order_and_named_by_all_of_them(tmp_path: Path) -> None:
    first = source(tmp_path)
    (tmp_path / "more.csv").write_bytes(GOOD)
    both = first.model_copy(update={"files": (*first.files, CsvFile(path="more.csv", sha256=first.files[0].sha256, skip_lines=0))})
    assert read(both, tmp_path).frame.height == 6
    assert read(both, tmp_path).digest == declared_digest(both) != declared_digest(first)


def test_a_file_with_other_columns_does_not_join(tmp_path: Path) -> None:
    first, other = source(tmp_path), b"id,income,town\n1,2,3\n"
    (tmp_path / "more.csv").write_bytes(other)
    file = CsvFile(path="more.csv", sha256=hashlib.sha256(other).hexdigest(), skip_lines=0)
    with pytest.raises(SourceError, match="other columns"):
        read(first.model_copy(update={"files": (*first.files, file)}), tmp_path)


def test_the_first_value_that_is_not_its_type_is_named(tmp_path: Path) -> None:
    frame = read(source(tmp_path), tmp_path).frame
    with pytest.raises(SourceError, match=r"Column income, row 2: '\?' is not Int64"):
        cast_columns(frame, [ColumnContract("income", "int64")])


def test_casting_never_loses_anything() -> None:
    frame = pl.DataFrame({"a": [1.0, 2.5], "b": ["true", "False"], "c": ["1", None]})
    with pytest.raises(SourceError, match="Column a, row 2"):
        cast_columns(frame, [ColumnContract("a", "int64")])
    cast = cast_columns(frame, [ColumnContract("b", "bool"), ColumnContract("c", "int64"), ColumnContract("absent", "str")])
    assert cast["b"].to_list() == [True, False] and cast["c"].to_list() == [1, None] and cast["a"].to_list() == [1.0, 2.5]
    with pytest.raises(SourceError, match="names the type complex"):
        polars_type("complex")


def test_the_taiwan_file_with_cr_only_line_ends_is_read_whole(shared_data: Path) -> None:
    declared = CsvSource(kind="csv", files=(CsvFile(path="UCI_Credit_Card.csv", sha256=TAIWAN, skip_lines=0),))
    frame = read(declared, shared_data / "taiwan_default").frame
    assert frame.shape == (30_000, 25)
    rate = cast_columns(frame, [ColumnContract("default.payment.next.month", "int64")])["default.payment.next.month"].mean()
    assert rate == pytest.approx(0.2212, abs=5e-5)
