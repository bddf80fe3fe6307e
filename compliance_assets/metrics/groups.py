"""Who belongs to which group? Attributes and their intersections, and rows counted by group, label and decision.

An intersection is written "sex*age_band", its groups "female*under_25". A missing attribute value is a group of its
own, "unknown": leaving such rows out would hide people. A declared group that is absent is counted with 0 rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Counts
from compliance_assets.metrics.measurement import MeasurementRefused

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Cells:
    """Rows counted by group, label and decision. `counts` has shape (groups, 2, 2); groups are sorted by name."""

    over: str
    groups: tuple[str, ...]
    counts: Counts

    @classmethod
    def count(cls, over: str, y: Any, decision: Any, attributes: Mapping[str, Any],
              expected_groups: Mapping[str, Sequence[str]] | None = None) -> Cells:
        """Count once. `over` is "sex" or "sex*age_band"; `attributes` maps each name to a column of shape (n,), where
        null means unknown; `expected_groups` names the groups that must be there (with 0 rows if they are not)."""
        import polars as pl

        label, decided = arrays.labels(y), arrays.labels(decision, "decision")
        names = over.split("*")
        columns = {name: group_column(name, attributes) for name in names}
        arrays.same_rows(y=label, decision=decided, **{name: _places(c) for name, c in columns.items()})
        keys = [f"g{i}" for i in range(len(names))]
        frame = pl.DataFrame({**dict(zip(keys, columns.values(), strict=True)),
                              "place": pl.Series(2 * label + decided, dtype=pl.Int8)})
        counted: dict[tuple[str, ...], list[int]] = {}
        for *group, place, rows in frame.group_by([*keys, "place"]).len().rows():
            counted.setdefault(tuple(group), [0, 0, 0, 0])[place] = rows
        if expected_groups is not None:
            for absent in itertools.product(*(_expected(name, expected_groups) for name in names)):
                counted.setdefault(absent, [0, 0, 0, 0])
        ordered = sorted(counted)
        counts = np.array([counted[group] for group in ordered], dtype=np.int64).reshape(len(ordered), 2, 2)
        return cls(over, tuple("*".join(group) for group in ordered), counts)


def group_column(name: str, attributes: Mapping[str, Any]) -> Any:
    """The attribute as a polars String series; null and NaN are "unknown". shape (n,)."""
    import polars as pl

    if name not in attributes:
        raise MeasurementRefused(f"Attribute {name!r} is not in the data.", rule="declared attributes are measured",
                                 value=name, remedy=f"Available: {', '.join(sorted(attributes)) or 'none'}.")
    given = attributes[name]
    if isinstance(given, pl.Series):
        series = given
    elif isinstance(given, np.ndarray) and given.dtype.kind in "UiufbM":
        series = pl.Series(name, given)  # one type throughout: no need to look at every value
    else:
        series = pl.Series(name, list(given), strict=False)
    if series.dtype.is_float():
        series = series.fill_nan(None)
    return series.cast(pl.String).fill_null(UNKNOWN)


def _places(column: Any) -> npt.NDArray[np.int8]:
    """As many rows as the column has, without reading it: lengths are compared, not values."""
    return np.broadcast_to(np.int8(0), (len(column),))


def _expected(name: str, expected_groups: Mapping[str, Sequence[str]]) -> Sequence[str]:
    if name not in expected_groups:
        raise MeasurementRefused(f"No groups are declared for {name!r}.", rule="expected groups are declared",
                                 value=name, remedy="Name them, so that an absent group is noticed.")
    return expected_groups[name]


def membership(over: str, attributes: Mapping[str, Any]) -> npt.NDArray[Any]:
    """The group of each row, as its name; shape (n,)."""
    import polars as pl

    first, *others = (group_column(name, attributes) for name in over.split("*"))
    for other in others:
        arrays.same_rows(**{"first": _places(first), over: _places(other)})
        first = first + "*" + other
    # A few names and a number for each row: one text object for every row would take longer than what is then counted.
    names = first.unique().sort()
    members: npt.NDArray[Any] = np.asarray(names.to_list(), dtype=object)[first.cast(pl.Enum(names)).to_physical().to_numpy()]
    return members


def group_sizes(over: str, attributes: Mapping[str, Any], label: Counts | None = None) -> dict[str, tuple[int, int]]:
    """Rows and rows with label 1 (0 where no label of shape (n,) is given) of every group that is there."""
    import polars as pl

    columns = [group_column(name, attributes) for name in over.split("*")]
    arrays.same_rows(**{f"group {i}": _places(column) for i, column in enumerate(columns)}, y=label)
    keys = [f"g{i}" for i in range(len(columns))]
    positive = pl.Series(np.zeros(len(columns[0]), np.int8) if label is None else label).cast(pl.Int64)
    counted = pl.DataFrame({**dict(zip(keys, columns, strict=True)), "y": positive}).group_by(keys).agg(pl.len(), pl.col("y").sum())
    return {"*".join(group): (int(n), int(positives)) for *group, n, positives in counted.rows()}


def expected_names(over: str, expected_groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The names of all declared groups of an attribute or intersection."""
    parts = (_expected(name, expected_groups) for name in over.split("*"))
    return tuple("*".join(group) for group in itertools.product(*parts))
