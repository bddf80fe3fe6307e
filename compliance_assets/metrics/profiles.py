"""A frame in numbers, small enough to keep: what later data is compared with.

Exact and serialisable: integer counts, and edges as decimal strings. Edges are values that were observed, so nothing is
interpolated, and they stay fixed: later frames are counted into the same bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compliance_assets.metrics.arrays import Counts, Floats
from compliance_assets.metrics.measurement import MeasurementRefused

if TYPE_CHECKING:
    import polars as pl

BINS = 10
# Fine points of the reference: the Kolmogorov-Smirnov distance is exact to 1/400, Wasserstein's integral has 400 nodes.
POINTS = 400
NUMERIC, CATEGORICAL = "numeric", "categorical"


@dataclass(frozen=True)
class ColumnProfile:
    """One column of the reference.

    numeric: `edges` are the inner edges of the bins (value <= edge belongs left), `counts` the rows per bin (one more
    than edges), `points` fine quantiles, `below` and `upto` the rows < and <= each point, `deviation` the standard
    deviation. categorical: `edges` are the categories in order, `counts` their rows, the rest is empty. `nulls` are
    counted apart; NaN counts as null. All numbers with a fraction are decimal strings.
    """

    name: str
    kind: str
    edges: tuple[str, ...]
    counts: tuple[int, ...]
    nulls: int
    points: tuple[str, ...] = ()
    below: tuple[int, ...] = ()
    upto: tuple[int, ...] = ()
    deviation: str = ""

    @property
    def known(self) -> int:
        """Rows with a value."""
        return sum(self.counts)


@dataclass(frozen=True)
class Profile:
    """A frame in numbers: what `measure_drift` compares later frames with."""

    rows: int
    columns: tuple[ColumnProfile, ...]

    @classmethod
    def of(cls, frame: pl.DataFrame, *, numeric: Sequence[str], categorical: Sequence[str],
           bins: int = BINS) -> Profile:
        """Profile the named columns. Which columns are numbers is said, not guessed: a code like 1..4 may be either."""
        absent = [name for name in (*numeric, *categorical) if name not in frame.columns]
        if absent:
            raise MeasurementRefused(f"Columns to profile are not in the frame: {', '.join(absent)}.",
                                     rule="declared columns are measured", value=", ".join(absent),
                                     remedy="Declare columns of the frame.")
        made = [_numeric(name, values_of(frame, name), frame.height, bins) for name in numeric]
        made += [_categorical(name, categories_of(frame, name), frame.height) for name in categorical]
        return cls(frame.height, tuple(sorted(made, key=lambda column: column.name)))

    def as_json(self) -> dict[str, Any]:
        """Plain values for canonical JSON: strings, integers, lists."""
        return {"rows": self.rows, "columns": [
            {"name": c.name, "kind": c.kind, "edges": list(c.edges), "counts": list(c.counts), "nulls": c.nulls,
             "points": list(c.points), "below": list(c.below), "upto": list(c.upto), "deviation": c.deviation}
            for c in self.columns]}

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Profile:
        """The profile that `as_json` wrote; a missing part is a `KeyError`, for there is no default."""
        return cls(int(read["rows"]), tuple(
            ColumnProfile(str(c["name"]), str(c["kind"]), tuple(c["edges"]), tuple(c["counts"]), int(c["nulls"]),
                          tuple(c["points"]), tuple(c["below"]), tuple(c["upto"]), str(c["deviation"]))
            for c in read["columns"]))


def values_of(frame: pl.DataFrame, name: str) -> Floats:
    """The finite values of a numeric column, sorted: nothing after this can depend on row order."""
    import polars as pl

    series = frame[name].cast(pl.Float64).fill_nan(None).drop_nulls()
    values = np.sort(series.to_numpy().astype(np.float64))
    if len(values) and not (math.isfinite(values[0]) and math.isfinite(values[-1])):
        raise MeasurementRefused(f"Column {name} holds infinite values.", rule="only finite numbers are measured",
                                 value=name, remedy="Find out where they come from.")
    return values


def categories_of(frame: pl.DataFrame, name: str) -> dict[str, int]:
    import polars as pl

    counted = frame[name].cast(pl.String).drop_nulls().value_counts(sort=False)
    return {str(value): int(rows) for value, rows in sorted(counted.rows())}


def _numeric(name: str, values: Floats, rows: int, bins: int) -> ColumnProfile:
    n = len(values)
    if n == 0:
        return ColumnProfile(name, NUMERIC, (), (), rows)
    # Observed values as edges (inverse of the empirical distribution): no interpolation, so no rounding to argue about.
    edges = np.unique(values[[max(0, -(-n * i // bins) - 1) for i in range(1, bins)]])
    edges = edges[edges < values[-1]]
    points = np.unique(values[[0, *node_rows(n), n - 1]])
    mean = math.fsum(values.tolist()) / n
    deviation = math.sqrt(math.fsum(np.square(values - mean).tolist()) / n)
    return ColumnProfile(
        name, NUMERIC, tuple(repr(e) for e in edges.tolist()), tuple(binned(values, edges).tolist()), rows - n,
        tuple(repr(p) for p in points.tolist()), tuple(np.searchsorted(values, points, side="left").tolist()),
        tuple(np.searchsorted(values, points, side="right").tolist()), repr(deviation))


def _categorical(name: str, counted: Mapping[str, int], rows: int) -> ColumnProfile:
    return ColumnProfile(name, CATEGORICAL, tuple(counted), tuple(counted.values()), rows - sum(counted.values()))


def node_rows(n: int) -> list[int]:
    """The rows of n sorted ones that stand at the middles of POINTS equal parts, in integers: no rounding."""
    return [-(-n * (2 * i + 1) // (2 * POINTS)) - 1 for i in range(POINTS)]


def binned(values: Floats, edges: Floats) -> Counts:
    """Rows per bin of sorted values; value <= edge belongs left. shape (edges + 1,)."""
    return np.diff(np.concatenate(([0], np.searchsorted(values, edges, side="right"), [len(values)]))).astype(np.int64)
