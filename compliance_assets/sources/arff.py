"""ARFF, the text format in which OpenML publishes its tables: a typed header, then comma-separated rows.

Dense rows only. Values keep their declared kind: numbers become Float64 (integers Int64), nominal and string values stay
text, `?` is missing. A nominal value outside its declared set is a refusal. Grammar: the Weka ARFF description.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from compliance_assets.errors import SourceError
from compliance_assets.sources.snapshot import require_distinct

if TYPE_CHECKING:
    import polars as pl

_NAME = r"""(?:'(?P<single>(?:[^'\\]|\\.)*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<bare>\S+))"""
_ATTRIBUTE = re.compile(rf"@attribute\s+{_NAME}\s+(?P<type>.+)", re.IGNORECASE)
_NUMBERS = ("numeric", "real", "integer")


@dataclass(frozen=True)
class _Attribute:
    name: str
    kind: str
    values: frozenset[str] = frozenset()


def parse_arff(content: bytes, name: str) -> pl.DataFrame:
    """The rows in these bytes. SourceError: not UTF-8, no @data, sparse rows, ragged rows, values that do not fit."""
    import polars as pl

    try:
        lines = io.StringIO(content.decode("utf-8"), newline=None)
    except UnicodeDecodeError as error:
        raise SourceError(f"{name} is not UTF-8 text.", rule="source parses", value=name,
                          remedy="Use its parquet version.") from error
    attributes, header_lines = _header(lines, name)
    require_distinct(tuple(attribute.name for attribute in attributes), name)
    rows: list[list[str]] = []
    reader = _reader(line if not line.lstrip().startswith("%") else "\n" for line in lines)
    try:
        for row in reader:
            if not row or row == [""]:
                continue
            if row[0].startswith("{"):
                _refuse(name, header_lines + reader.line_num, "sparse rows are not supported")
            if len(row) != len(attributes):
                _refuse(name, header_lines + reader.line_num, f"{len(row)} values for {len(attributes)} attributes")
            rows.append([value.strip() for value in row])
    except csv.Error as error:
        _refuse(name, header_lines + reader.line_num, str(error))
    if not rows:
        _refuse(name, header_lines, "no data rows")
    columns = zip(*rows, strict=True)
    return pl.DataFrame([_column(attribute, values, name)
                         for attribute, values in zip(attributes, columns, strict=True)])


def _header(lines: io.StringIO, name: str) -> tuple[tuple[_Attribute, ...], int]:
    attributes: list[_Attribute] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        lowered = text.lower()
        if lowered.startswith("@attribute"):
            attributes.append(_attribute(text, name, number))
        elif lowered.startswith("@data"):
            return tuple(attributes), number
    raise SourceError(f"{name} has no @data section.", rule="source parses", value=name, remedy="Check that it is ARFF.")


def _attribute(text: str, name: str, number: int) -> _Attribute:
    match = _ATTRIBUTE.fullmatch(text)
    if match is None:
        _refuse(name, number, "an attribute that cannot be read")
    spelled = match["bare"] or match["single"] or match["double"] or ""
    kind = match["type"].strip()
    if kind.startswith("{") and kind.endswith("}"):
        values = next(_reader([kind[1:-1]]))
        return _Attribute(re.sub(r"\\(.)", r"\1", spelled), "nominal", frozenset(value.strip() for value in values))
    if kind.lower() not in (*_NUMBERS, "string"):
        _refuse(name, number, f"attribute type {kind}")
    return _Attribute(re.sub(r"\\(.)", r"\1", spelled), kind.lower())


def _reader(lines: object) -> csv._reader:  # type: ignore[name-defined]  # the stubs' name of the reader type
    return csv.reader(lines, quotechar="'", escapechar="\\", skipinitialspace=True, strict=True)  # type: ignore[arg-type]


def _column(attribute: _Attribute, values: tuple[str, ...], name: str) -> pl.Series:
    import polars as pl

    series = pl.Series(attribute.name, values, dtype=pl.String)
    series = series.set(series == "?", None)
    if attribute.kind == "nominal":
        outside = series.drop_nulls().filter(~series.drop_nulls().is_in(sorted(attribute.values)))
        if len(outside):
            raise SourceError(f"{name}: {attribute.name} holds {outside[0]!r}, which its header does not list.",
                              rule="source parses", value=outside[0], remedy="Check that the file is whole.")
        return series
    if attribute.kind == "string":
        return series
    numbers = series.cast(pl.Int64 if attribute.kind == "integer" else pl.Float64, strict=False)
    broken = series.filter(numbers.is_null() & series.is_not_null())
    if len(broken):
        raise SourceError(f"{name}: {attribute.name} holds {broken[0]!r}, which is not a number.", rule="source parses",
                          value=broken[0], remedy="Check that the file is whole.")
    return numbers


def _refuse(name: str, line: int, what: str) -> NoReturn:
    raise SourceError(f"{name}, line {line}: {what}.", rule="source parses", value=name,
                      remedy="Check that the file is a dense ARFF file.")
