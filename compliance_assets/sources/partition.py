"""Who belongs to which protected group, and who is kept for which purpose: train, validation or holdout.

Groups come from the declaration alone: a missing value is the group `unknown`, a value nobody declared is `undeclared` (and
fails a gate); nobody disappears. The part of a row follows from a hash of its `split.by` value and the declared seed, so a
person stays in the same part when rows are added, removed or reordered, on any machine and with any version of a library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from compliance_assets.errors import StageError
from compliance_assets.policy.system import Bands, Groups, Split

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

PARTS = ("train", "validation", "holdout")
UNKNOWN = "unknown"
UNDECLARED = "undeclared"

_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_ROWS_AT_ONCE = 1 << 18
_BITS = 53


def group_column(attribute: str) -> str:
    """The column of a dataset that holds each row's group; the dot keeps it apart from columns of the source."""
    return f"group.{attribute}"


def group_names(declared: Groups | Bands) -> tuple[str, ...]:
    """The declared groups, as text."""
    return tuple(_text(group) for group in declared.groups)


def with_groups(frame: pl.DataFrame, protected: Mapping[str, Groups | Bands]) -> pl.DataFrame:
    """`frame` with one text column per protected attribute. StageError if the column it comes from is missing."""
    return frame.with_columns([derived(frame, attribute, declared) for attribute, declared in protected.items()])


def derived(frame: pl.DataFrame, attribute: str, declared: Groups | Bands) -> pl.Series:
    """The group of every row, none missing: a declared group, `unknown` or `undeclared`."""
    import polars as pl

    source = declared.from_ if isinstance(declared, Bands) else declared.column or attribute
    if source not in frame.columns:
        raise StageError(f"The protected attribute {attribute} comes from column {source}, which is not in the data.",
                         rule="protected attributes are in the data", value=source,
                         remedy="Declare the column that holds it, or keep it in prepare.")
    column = frame[source]
    if isinstance(declared, Bands):
        if not column.dtype.is_numeric():
            raise StageError(f"The protected attribute {attribute} is cut from {source}, which is {column.dtype}.",
                             rule="bands are cut from numbers", value=str(column.dtype),
                             remedy="Give the column a numeric type in the contract.")
        value = pl.col(source)
        missing = value.is_null() | value.is_nan() if column.dtype.is_float() else value.is_null()
        named: pl.Expr = pl.lit(declared.groups[-1])
        for cut, name in zip(reversed(declared.cuts), reversed(declared.groups[:-1]), strict=True):
            named = pl.when(value < cut).then(pl.lit(name)).otherwise(named)
        banded = pl.when(missing).then(pl.lit(UNKNOWN)).otherwise(named)
        return frame.select(banded.alias(group_column(attribute))).to_series()
    text = column.cast(pl.String)
    known = text.is_in(list(group_names(declared)))
    return (pl.select(pl.when(text.is_null()).then(pl.lit(UNKNOWN)).when(known).then(text).otherwise(pl.lit(UNDECLARED)))
            .to_series().rename(group_column(attribute)))


def favourable(target: pl.Series, value: bool | int | str) -> pl.Series:
    """Whether each label is the favourable one; null where there is no label."""
    import polars as pl

    if target.dtype == pl.Boolean and not isinstance(value, bool):
        raise StageError(f"The target {target.name} is true or false, its favourable value is declared as {value!r}.",
                         rule="favourable label", value=repr(value), remedy="Declare true or false.")
    if target.dtype == pl.String:
        return target == str(value)
    return target.cast(pl.Int64) == int(value)


def counts(groups: pl.Series) -> dict[str, int]:
    """Rows per group, sorted by group."""
    return {str(group): int(rows) for group, rows in sorted(groups.value_counts().iter_rows())}


def part_of_each(values: pl.Series, split: Split) -> NDArray[np.int8]:
    """0, 1 or 2 (an index into `PARTS`) for every value: (n,). A missing value goes by the empty text.

    FNV-1a over the seed and the UTF-8 bytes, then the 64-bit finaliser of MurmurHash3; the upper 53 bits against the
    declared shares. Same value, same part, wherever it stands.
    """
    import polars as pl

    text = values.cast(pl.String).fill_null("")
    # Some rows at a time: as Python strings, all of them would weigh more than the table.
    pieces = [_hash(text.slice(start, _ROWS_AT_ONCE), split.seed) for start in range(0, len(text), _ROWS_AT_ONCE)]
    hashed = (np.concatenate(pieces) if pieces else np.zeros(0, np.uint64)) >> np.uint64(64 - _BITS)
    first = np.uint64(round(split.train * 2**_BITS))
    second = np.uint64(round((split.train + split.validation) * 2**_BITS))
    return ((hashed >= first).astype(np.int8) + (hashed >= second).astype(np.int8)).astype(np.int8)


def _hash(text: pl.Series, seed: int) -> NDArray[np.uint64]:
    lengths = text.str.len_bytes().to_numpy()
    letters = np.frombuffer(text.str.join("").item().encode(), dtype=np.uint8)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    seeded = np.full(1, _FNV_OFFSET, dtype=np.uint64)
    for octet in seed.to_bytes(16, "little"):
        seeded = (seeded ^ np.uint64(octet)) * _FNV_PRIME
    state = np.repeat(seeded, len(text))
    for place in range(int(lengths.max(initial=0))):
        there = np.flatnonzero(lengths > place)
        state[there] = (state[there] ^ letters[starts[there] + place].astype(np.uint64)) * _FNV_PRIME
    return _finalise(state)


def _finalise(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    state = (state ^ (state >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.asarray(state ^ (state >> np.uint64(33)), dtype=np.uint64)


def _text(value: Any) -> str:
    """A group's declared value as polars writes it as text."""
    return str(value).lower() if isinstance(value, bool) else str(value)
