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
        label, decided = arrays.labels(y), arrays.labels(decision, "decision")
        found, place = _combined(over, attributes, y=label, decision=decided)
        table = np.bincount(4 * place + 2 * label + decided, minlength=4 * len(found)).reshape(-1, 4)
        counted = dict(zip(found, table.tolist(), strict=True))
        if expected_groups is not None:
            for absent in itertools.product(*(_expected(name, expected_groups) for name in over.split("*"))):
                counted.setdefault(absent, [0, 0, 0, 0])
        ordered = sorted(counted)
        counts = np.array([counted[group] for group in ordered], dtype=np.int64).reshape(len(ordered), 2, 2)
        return cls(over, tuple("*".join(group) for group in ordered), counts)


def coded(name: str, attributes: Mapping[str, Any]) -> Any:
    """The attribute as a polars Enum of the names that it has; null and NaN are "unknown". shape (n,).

    A few names and a number for each row: one text for every row would take longer to look at than what is then counted.
    """
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
    if isinstance(series.dtype, pl.Enum) and not series.null_count():
        return series
    if series.dtype.is_float():
        series = series.fill_nan(None)
    text = series.cast(pl.String).fill_null(UNKNOWN)
    return text.cast(pl.Enum(text.unique().sort()))


def _combined(over: str, attributes: Mapping[str, Any],
              **beside: npt.NDArray[Any] | None) -> tuple[list[tuple[str, ...]], npt.NDArray[np.int64]]:
    """The groups that somebody belongs to, one name for each attribute, and each row's place among them; shape (n,).

    `beside`: what must have as many rows.
    """
    names = over.split("*")
    columns = {name: coded(name, attributes) for name in names}
    rows = arrays.same_rows(**{f"group {name}": _places(column) for name, column in columns.items()}, **beside)
    place = np.zeros(rows, dtype=np.int64)
    groups: list[tuple[str, ...]] = [()]
    for column in columns.values():
        categories = column.dtype.categories.to_list()
        place = place * len(categories) + column.to_physical().to_numpy()
        groups = [(*before, one) for before in groups for one in categories]
    there = np.bincount(place, minlength=len(groups)) > 0
    return [group for group, present in zip(groups, there.tolist(), strict=True) if present], (np.cumsum(there) - 1)[place]


def _places(column: Any) -> npt.NDArray[np.int8]:
    """As many rows as the column has, without reading it: lengths are compared, not values."""
    return np.broadcast_to(np.int8(0), (len(column),))


def _expected(name: str, expected_groups: Mapping[str, Sequence[str]]) -> Sequence[str]:
    if name not in expected_groups:
        raise MeasurementRefused(f"No groups are declared for {name!r}.", rule="expected groups are declared",
                                 value=name, remedy="Name them, so that an absent group is noticed.")
    return expected_groups[name]


def rows_by_group(over: str, attributes: Mapping[str, Any]) -> dict[str, npt.NDArray[np.bool_]]:
    """Which rows belong to each group that somebody belongs to, sorted by name; each (n,)."""
    groups, place = _combined(over, attributes)
    return {name: place == number for name, number in sorted(zip(map("*".join, groups), range(len(groups)), strict=True))}


def membership(over: str, attributes: Mapping[str, Any]) -> npt.NDArray[Any]:
    """The group of each row, as its name; shape (n,)."""
    groups, place = _combined(over, attributes)
    members: npt.NDArray[Any] = np.array([*map("*".join, groups), None], dtype=object)[:-1][place]
    return members


def group_sizes(over: str, attributes: Mapping[str, Any], label: Counts | None = None) -> dict[str, tuple[int, int]]:
    """Rows and rows with label 1 (0 where no label of shape (n,) is given) of every group that is there."""
    groups, place = _combined(over, attributes, y=label)
    rows = np.bincount(place, minlength=len(groups)).tolist()
    positives = [0] * len(groups) if label is None else np.bincount(place[label == 1], minlength=len(groups)).tolist()
    return dict(zip(map("*".join, groups), zip(rows, positives, strict=True), strict=True))


def expected_names(over: str, expected_groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The names of all declared groups of an attribute or intersection."""
    parts = (_expected(name, expected_groups) for name in over.split("*"))
    return tuple("*".join(group) for group in itertools.product(*parts))
