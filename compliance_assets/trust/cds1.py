"""Two tables with the same columns and the same rows have the same digest, however they are stored.

Parquet bytes differ between writers, versions, codecs and chunk sizes, so the sha256 of a file says which *file* it is,
not which *data*. `cds1` says which data. For each column, in order:

* a sub-stream for the null mask (one bit per row), and then, by kind,
* numbers, truth values and times: the values, little-endian; every NaN is one NaN; what stands under a null is zero;
* text, categories and enumerations: the byte lengths, then the UTF-8 bytes; decimals as their text;
* lists: the lengths, then the items as a column; structs: each field as a column.

Each sub-stream is hashed on its own, so boundaries cannot be moved; the column's digest covers their digests. The
names, logical types and digests of the columns, the number of rows and the declared key make a canonical JSON manifest,
whose sha256 is the digest. Row order counts, unless a unique key is declared: then the rows are sorted by it.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from compliance_assets.errors import StageError
from compliance_assets.trust.canonical import Digest, digest_of

if TYPE_CHECKING:
    import polars as pl
    from polars.datatypes import DataTypeClass

_ROWS_AT_ONCE = 1 << 18
_AT_ONCE = 4


def dataset_digest(frame: pl.DataFrame, key: str | None = None) -> Digest:
    """The `cds1` digest of a frame (any number of rows, at least one column).

    Raises `StageError` for a key that is missing, has nulls or repeats, and for a column of Python objects.
    """
    if key is not None:
        frame = _sorted_by(frame, key)
    types = [logical_type(series.dtype) for series in frame]  # refuses what has no digest, before anything is read
    # Hashing lets go of the interpreter: the columns of a large table side by side take half the time on two cores.
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as several:
        digests = list((several.map if frame.height > _ROWS_AT_ONCE // 4 else map)(_column, frame.get_columns()))
    columns = [{"name": name, "type": kind, "digest": digest} for name, kind, digest in zip(frame.columns, types, digests, strict=True)]
    return digest_of({"cds": 1, "rows": frame.height, "key": key, "columns": columns})


def _sorted_by(frame: pl.DataFrame, key: str) -> pl.DataFrame:
    import polars as pl

    if key not in frame.columns:
        raise StageError(f"The table has no column {key!r} to sort by.", rule="unique key", value=key,
                         remedy="Declare a column that exists.")
    values = frame[key]
    if isinstance(values.dtype, pl.Categorical | pl.Enum):  # their order is the order of first appearance
        values = values.cast(pl.String)
    if values.null_count() or values.n_unique() != len(values):
        raise StageError(f"Column {key!r} cannot be the key: it has nulls or repeated values.", rule="unique key",
                         value=key, remedy="Declare a column that tells every row apart, or none.")
    return frame[values.arg_sort()]


def logical_type(dtype: pl.DataType) -> str:
    """What a column means, in words that no version of a library can change."""
    import polars as pl

    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return "string"
    if isinstance(dtype, pl.Datetime):
        return f"datetime[{dtype.time_unit},{dtype.time_zone or ''}]"
    if isinstance(dtype, pl.Duration):
        return f"duration[{dtype.time_unit}]"
    if isinstance(dtype, pl.Decimal):
        return f"decimal[{dtype.precision},{dtype.scale}]"
    if isinstance(dtype, pl.List):
        return f"list<{logical_type(_instance(dtype.inner))}>"
    if isinstance(dtype, pl.Array):
        return f"array[{dtype.size}]<{logical_type(_instance(dtype.inner))}>"
    if isinstance(dtype, pl.Struct):
        return f"struct<{','.join(f'{len(f.name)}:{f.name}:{logical_type(_instance(f.dtype))}' for f in dtype.fields)}>"
    for name, known in (("bool", pl.Boolean), ("int8", pl.Int8), ("int16", pl.Int16), ("int32", pl.Int32),
                        ("int64", pl.Int64), ("int128", pl.Int128), ("uint8", pl.UInt8), ("uint16", pl.UInt16),
                        ("uint32", pl.UInt32), ("uint64", pl.UInt64), ("float32", pl.Float32),
                        ("float64", pl.Float64), ("date", pl.Date), ("time", pl.Time), ("binary", pl.Binary),
                        ("null", pl.Null)):
        if dtype == known:
            return name
    raise StageError(f"A column of type {dtype} has no logical digest.", rule="cds1", value=str(dtype),
                     remedy="Store numbers, text, times, lists or structs.")


def _instance(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else dtype


def _column(series: pl.Series) -> Digest:
    """The digest of one column: its type and its sub-streams' digests."""
    import polars as pl

    dtype = series.dtype
    streams: list[str] = [_bits(series.is_null())]
    if isinstance(dtype, pl.Null):
        pass
    elif isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Decimal | pl.Int128):
        streams += _text(series.cast(pl.String).fill_null(""))
    elif isinstance(dtype, pl.Binary):
        streams += _binary(series.fill_null(b""))
    elif isinstance(dtype, pl.Boolean):
        streams.append(_bits(series.fill_null(False)))
    elif isinstance(dtype, pl.Array):
        return _column(series.arr.to_list())
    elif isinstance(dtype, pl.List):
        lengths = series.list.len().fill_null(0)
        streams += [_numbers(lengths.cast(pl.UInt64)), _column(series.filter(lengths > 0).explode())]
    elif isinstance(dtype, pl.Struct):
        # A field under a null struct may hold anything: it is made null first.
        present = series.is_not_null()
        streams += [_column(series.struct.field(field.name).zip_with(present, _nulls(field.dtype, len(series))))
                    for field in dtype.fields]
    else:
        streams.append(_numbers(series))
    return digest_of({"type": logical_type(dtype), "streams": streams})


def _nulls(dtype: pl.DataType | DataTypeClass, rows: int) -> pl.Series:
    import polars as pl

    return pl.Series([None], dtype=dtype).new_from_index(0, rows)


def _bits(flags: pl.Series) -> str:
    import numpy as np

    return hashlib.sha256(np.packbits(flags.to_numpy().astype(bool), bitorder="little").tobytes()).hexdigest()


def _numbers(series: pl.Series) -> str:
    """Fixed-width values, little-endian, nulls as zero, one NaN."""
    import numpy as np

    values = series.to_physical().fill_null(0).to_numpy()
    if values.dtype.kind == "f" and np.isnan(values).any():
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    plain = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
    return hashlib.sha256(plain.data).hexdigest()


def _text(series: pl.Series) -> list[str]:
    import polars as pl

    content = hashlib.sha256()
    for start in range(0, len(series), _ROWS_AT_ONCE):
        content.update(series.slice(start, _ROWS_AT_ONCE).str.join("").item().encode())
    return [_numbers(series.str.len_bytes().cast(pl.UInt64)), content.hexdigest()]


def _binary(series: pl.Series) -> list[str]:
    import polars as pl

    content = hashlib.sha256()
    for item in series:
        content.update(item)
    return [_numbers(series.bin.size().cast(pl.UInt64)), content.hexdigest()]
