"""Text becomes numbers exactly where the contract says so, and the first value that cannot is named.

Sources that carry types (parquet, SQL, a simulator) are held to the same contract: a column of another type is cast when
nothing is lost, and refused otherwise. Columns that the contract does not name stay as they came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from compliance_assets.errors import SourceError
from compliance_assets.features import polars_type

if TYPE_CHECKING:
    import polars as pl

_TRUTH = {"true": True, "false": False, "1": True, "0": False}


class Typed(Protocol):
    """What this module needs of a `policy.contract.ColumnContract`."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str | None: ...


def cast_columns(frame: pl.DataFrame, contract: Iterable[Typed]) -> pl.DataFrame:
    """`frame` with every column to which the contract gives a type in that type; order and other columns unchanged.

    SourceError names column, row (from 1) and value of the first one that cannot be cast without loss.
    """
    wanted = {column.name: polars_type(column.type) for column in contract if column.type is not None}
    return frame.with_columns([_cast(frame[name], dtype) for name, dtype in wanted.items() if name in frame.columns])


def _cast(series: pl.Series, dtype: pl.DataType) -> pl.Series:
    import polars as pl

    if series.dtype == dtype:
        return series
    if isinstance(dtype, pl.Boolean) and series.dtype == pl.String:
        result = series.str.to_lowercase().replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean)
    elif dtype.is_integer() and series.dtype.is_float():
        # 2.5 is not an integer; polars would cut it to 2.
        result = series.set(series.is_not_null() & (series != series.round(0)), None).cast(dtype, strict=False)
    else:
        result = series.cast(dtype, strict=False)
    lost = result.is_null() & series.is_not_null()
    if lost.any():
        row = int(lost.arg_true()[0])
        raise SourceError(
            f"Column {series.name}, row {row + 1}: {series[row]!r} is not {dtype}.", rule="contract types",
            value=f"{series[row]!r}", remedy="Correct the data, declare how nulls are written (null_values), or clean it "
                                            "in the system's prepare.",
        )
    return result.rename(series.name)
