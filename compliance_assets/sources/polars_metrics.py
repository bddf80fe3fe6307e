"""What Great Expectations counts, said as Polars expressions: only where Polars is sure to count exactly the same.

`compiled` answers with expressions for one streaming pass, or with None: then Great Expectations' own pandas code is asked
(`polars_engine`). It compiles counts, never averages: a count does not depend on threads or on the order of summation, and
what pandas adds up quickly is left to pandas, so that the value is the same to the last bit. Values themselves are never
collected. Missing means null, and in floating-point columns also NaN, as in pandas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import polars as pl

from compliance_assets.sources.python_regex import translated

if TYPE_CHECKING:
    from polars.datatypes import DataType

_EXACT = 2**53
"""Whole numbers below this are floats without loss, so both ways of comparing agree."""
_INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
_FLOATS = (pl.Float32, pl.Float64)
_TEXT = (pl.String,)
_CATEGORIES = (pl.Enum, pl.Categorical)
_HASHED_ALIKE = (*_INTEGERS, pl.UInt64, *_TEXT, *_CATEGORIES, pl.Date, pl.Datetime, pl.Boolean)
"""Types whose equality is the same in pandas and Polars. Floats have signed zeros, decimals may be rescaled: not these."""


@dataclass(frozen=True)
class Compiled:
    """Expressions for the common pass, and how their values become the metric's. `read` gives None when the first pass could
    not settle it: then `later` is computed in a second pass, and without one pandas is asked."""

    expressions: tuple[pl.Expr, ...]
    read: Callable[[Sequence[Any]], int | None]
    later: pl.Expr | None = None


def compiled(metric: str, domain: Mapping[str, Any], values: Mapping[str, Any], schema: Mapping[str, DataType]) -> Compiled | None:
    """The metric of that name over `domain` ({column, …}) with `values` ({min_value, …}); None if it is not for Polars."""
    if domain.get("row_condition"):
        return None
    if metric == "table.row_count":
        return Compiled((pl.len(),), _first)
    if metric in _BY_COLUMN and "column" in domain and domain["column"] in schema:
        name = domain["column"]
        return _BY_COLUMN[metric](name, schema[name], values)
    if metric == "compound_columns.unique.unexpected_count":
        return _compound_unique(domain, schema)
    if metric == "compound_columns.unique.filtered_row_count":
        return _compound_rows(domain, schema)
    return None


def missing(name: str, dtype: DataType) -> pl.Expr:
    """Whether a value counts as missing."""
    column = pl.col(name)
    return column.is_null() | column.is_nan().fill_null(False) if dtype.is_float() else column.is_null()


def _first(found: Sequence[Any]) -> int:
    return int(found[0])


def _count(expression: pl.Expr) -> Compiled:
    return Compiled((expression.sum(),), _first)


def _unexpected(name: str, dtype: DataType, meets: pl.Expr) -> Compiled:
    """Rows that are there and do not meet the condition. NaN and null never count, and no comparison is left open."""
    return _count(~missing(name, dtype) & ~meets.fill_null(False))


def _nonnull(name: str, dtype: DataType, values: Mapping[str, Any]) -> Compiled | None:
    return None if _odd(dtype) else _count(missing(name, dtype))


def _null(name: str, dtype: DataType, values: Mapping[str, Any]) -> Compiled | None:
    return None if _odd(dtype) else _count(~missing(name, dtype))


def _odd(dtype: DataType) -> bool:
    """Nested and object columns, where pandas may see a missing value inside."""
    return dtype.is_nested() or dtype in (pl.Object, pl.Null, pl.Unknown)


def _unique(name: str, dtype: DataType, values: Mapping[str, Any]) -> Compiled | None:
    if dtype not in _HASHED_ALIKE:
        return None
    column = pl.col(name).drop_nulls()
    return Compiled((pl.col(name).count(), column.n_unique()), lambda found: 0 if found[0] == found[1] else None,
                    later=column.is_duplicated().sum())


def _between(name: str, dtype: DataType, values: Mapping[str, Any]) -> Compiled | None:
    low, high = values["min_value"], values["max_value"]
    bounds = [bound for bound in (low, high) if bound is not None]
    if not bounds or len({type(bound) is str for bound in bounds}) != 1:
        return None
    column = pl.col(name)
    if dtype in _TEXT:
        if not all(type(bound) is str for bound in bounds):
            return None
    elif dtype in (*_INTEGERS, *_FLOATS):
        if not all(type(bound) in (int, float) and math.isfinite(bound) and abs(bound) < _EXACT for bound in bounds):
            return None
        if dtype in _INTEGERS and not all(type(bound) is int or bound == int(bound) for bound in bounds):
            column = column.cast(pl.Float64)
        elif dtype in _INTEGERS:
            low, high = (None if bound is None else int(bound) for bound in (low, high))
        else:
            column = column.cast(pl.Float64)
    else:
        return None
    if low is not None and high is not None and low > high:
        return None
    return _unexpected(name, dtype, _within(column, low, high, values))


def _within(column: pl.Expr, low: Any, high: Any, values: Mapping[str, Any]) -> pl.Expr:
    meets = []
    if low is not None:
        meets.append(column > _literal(low) if values["strict_min"] else column >= _literal(low))
    if high is not None:
        meets.append(column < _literal(high) if values["strict_max"] else column <= _literal(high))
    return reduce(lambda left, right: left & right, meets)


def _literal(bound: str | int | float) -> pl.Expr:
    """A bound with its type said, so that no narrower type of the column decides how it is compared."""
    return pl.lit(bound, dtype={str: pl.String, int: pl.Int64, float: pl.Float64}[type(bound)])


def _in_set(name: str, dtype: DataType, values: Mapping[str, Any]) -> Compiled | None:
    member = _membership(name, dtype, values["value_set"])
    return None if member is None else _unexpected(name, dtype, member)


def _not_in_set(name: str, dtype: DataType, values: Mapping[str, Any]) -> Compiled | None:
    member = _membership(name, dtype, values["value_set"])
    return None if member is None else _unexpected(name, dtype, ~member)


def _membership(name: str, dtype: DataType, allowed: Any) -> pl.Expr | None:
    if not isinstance(allowed, list | tuple) or not allowed:
        return None
    if dtype in (*_TEXT, *_CATEGORIES) and all(type(value) is str for value in allowed):
        return _text(name, dtype).is_in(list(allowed))
    if dtype in _INTEGERS and all(type(value) is int and abs(value) < _EXACT for value in allowed):
        return pl.col(name).cast(pl.Int64).is_in(list(allowed))
    return None


def _text(name: str, dtype: DataType) -> pl.Expr:
    return pl.col(name).cast(pl.String) if dtype in _CATEGORIES else pl.col(name)


def _match(name: str, dtype: DataType, values: Mapping[str, Any]) -> Compiled | None:
    return _searched(name, dtype, values["regex"], wanted=True)


def _not_match(name: str, dtype: DataType, values: Mapping[str, Any]) -> Compiled | None:
    return _searched(name, dtype, values["regex"], wanted=False)


def _searched(name: str, dtype: DataType, pattern: Any, *, wanted: bool) -> Compiled | None:
    if dtype not in (*_TEXT, *_CATEGORIES) or type(pattern) is not str:
        return None
    said = translated(pattern)
    if said is None:
        return None
    try:
        pl.Series(["a"]).str.contains(said.pattern)
    except pl.exceptions.ComputeError:  # too large for the engine: one such pattern must not sink the whole pass
        return None
    text = _text(name, dtype)
    found = text.str.contains(said.pattern)
    wrong = _unexpected(name, dtype, found if wanted else ~found).expressions[0]
    if not said.ascii_only:
        return Compiled((wrong,), _first)
    foreign = (text.str.len_bytes() != text.str.len_chars()).fill_null(False).sum()
    return Compiled((wrong, foreign), lambda seen: int(seen[0]) if seen[1] == 0 else None)


def _length(name: str, dtype: DataType, values: Mapping[str, Any]) -> Compiled | None:
    low, high = values["min_value"], values["max_value"]
    bounds = [bound for bound in (low, high) if bound is not None]
    if dtype not in _TEXT or not bounds or not all(type(bound) in (int, float) and abs(bound) < _EXACT for bound in bounds):
        return None
    if low is not None and high is not None and low > high:
        return None
    return _unexpected(name, dtype, _within(pl.col(name).str.len_chars().cast(pl.Float64), low, high, values))


def _length_equals(name: str, dtype: DataType, values: Mapping[str, Any]) -> Compiled | None:
    value = values["value"]
    if dtype not in _TEXT or type(value) not in (int, float) or not 0 <= value < _EXACT:
        return None
    return _unexpected(name, dtype, pl.col(name).str.len_chars().cast(pl.Float64) == _literal(float(value)))


def _of_type(name: str, dtype: DataType, values: Mapping[str, Any]) -> Compiled | None:
    """Great Expectations asks each value only where pandas holds objects; a Polars text column holds nothing but text."""
    return Compiled((pl.lit(0),), _first) if dtype in _TEXT and values["type_"] == "str" else None


def _compound(domain: Mapping[str, Any], schema: Mapping[str, DataType]) -> tuple[list[str], pl.Expr] | None:
    """The columns, and which rows are looked at; None if pandas would see it differently."""
    columns = domain["column_list"] if "column_list" in domain else None
    if not isinstance(columns, list | tuple) or len(columns) < 2 or len(set(columns)) != len(columns):
        return None
    if not all(type(name) is str and name in schema and schema[name] in (*_INTEGERS, *_TEXT) for name in columns):
        return None
    gaps = [pl.col(name).is_null() for name in columns]
    ignore = domain["ignore_row_if"] if "ignore_row_if" in domain else None
    if ignore == "all_values_are_missing":
        return list(columns), ~pl.all_horizontal(gaps)
    if ignore == "any_value_is_missing":
        return list(columns), ~pl.any_horizontal(gaps)
    return (list(columns), pl.lit(True)) if ignore == "never" else None


def _compound_unique(domain: Mapping[str, Any], schema: Mapping[str, DataType]) -> Compiled | None:
    found = _compound(domain, schema)
    if found is None:
        return None
    columns, kept = found
    rows = pl.struct(columns).filter(kept) if domain["ignore_row_if"] != "never" else pl.struct(columns)
    return Compiled((rows.len(), rows.n_unique()), lambda seen: 0 if seen[0] == seen[1] else None, later=rows.is_duplicated().sum())


def _compound_rows(domain: Mapping[str, Any], schema: Mapping[str, DataType]) -> Compiled | None:
    found = _compound(domain, schema)
    if found is None:
        return None
    return Compiled((pl.len(),), _first) if domain["ignore_row_if"] == "never" else _count(found[1])


_BY_COLUMN: Mapping[str, Callable[[str, DataType, Mapping[str, Any]], Compiled | None]] = {
    "column_values.nonnull.unexpected_count": _nonnull,
    "column_values.null.unexpected_count": _null,
    "column_values.unique.unexpected_count": _unique,
    "column_values.between.unexpected_count": _between,
    "column_values.in_set.unexpected_count": _in_set,
    "column_values.not_in_set.unexpected_count": _not_in_set,
    "column_values.match_regex.unexpected_count": _match,
    "column_values.not_match_regex.unexpected_count": _not_match,
    "column_values.value_length.between.unexpected_count": _length,
    "column_values.value_length.equals.unexpected_count": _length_equals,
    "column_values.of_type.unexpected_count": _of_type,
}
