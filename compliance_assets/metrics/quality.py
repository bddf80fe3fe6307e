"""What is wrong with the data? Gaps, duplicates, groups that are missing or too small, rows that leaked between splits.

Counts only, so no measurement depends on row order or threads. The contract of single values (ranges, formats) is Great
Expectations' business; here is what a contract about one column cannot say. AI Act Art. 10(3): relevant, sufficiently
representative, and to the best extent possible free of errors and complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.groups import expected_names, group_sizes, rows_by_group
from compliance_assets.metrics.intervals import wilson
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray


def completeness(frame: pl.DataFrame, columns: Sequence[str]) -> Measurement:
    """Share of values that are there: the emptiest column's, every column in `groups` (NaN is missing). Wilson."""
    _columns_exist(frame, columns)
    groups = []
    for name in columns:
        present = frame.height - _missing(frame[name])
        groups.append(_share(name, present, frame.height))
    return _worst("completeness", "all", groups, frame.height, lowest=True)


def completeness_by_group(frame: pl.DataFrame, columns: Sequence[str], over: str, attributes: Mapping[str, Any], *,
                          expected_groups: Mapping[str, Sequence[str]] | None = None) -> Measurement:
    """Completeness of each group's emptiest column; the value is the emptiest group's. `detail` names the columns."""
    _columns_exist(frame, columns)
    if not columns:
        return _none("completeness", over, (), 0, "no columns")
    found = rows_by_group(over, attributes)
    arrays.same_rows(frame=np.empty(frame.height), group=next(iter(found.values()), np.empty(0)))
    groups, detail = [], []
    for group in sorted({*found, *(() if expected_groups is None else expected_names(over, expected_groups))}):
        part = frame.filter(found[group]) if group in found else frame.clear()
        present, emptiest = min((part.height - _missing(part[name]), name) for name in columns)
        groups.append(_share(group, present, part.height))
        if part.height:
            detail.append((f"{group}: {emptiest}", present / part.height))
    return _worst("completeness", over, groups, frame.height, lowest=True, detail=tuple(detail))


def duplicate_keys(frame: pl.DataFrame, key: str | Sequence[str]) -> Measurement:
    """Rows whose key stood in an earlier row already; a null key is a value like any other."""
    keys = [key] if isinstance(key, str) else list(key)
    _columns_exist(frame, keys)
    again = frame.height - (frame.select(keys).n_unique() if frame.height else 0)
    return _count("duplicate_keys", again, frame.height, f"rows less distinct {'*'.join(keys)}")


def group_share_deviation(over: str, attributes: Mapping[str, Any],
                          reference_population: Mapping[str, float]) -> Measurement:
    """Largest absolute gap between a group's share and its share in the reference population.

    `reference_population`: group name to share, together 1; rows of groups that it does not name (also "unknown") count
    against it with a reference share of 0. Each group's value is its share in the data, with Wilson's interval.
    """
    total = sum(reference_population.values())
    if not reference_population or abs(total - 1) > 1e-9 or min(reference_population.values()) < 0:
        raise MeasurementRefused(f"The reference population of {over} adds up to {total}, not to 1.",
                                 rule="shares add up to 1", value=str(total), remedy="Declare every group's share.")
    sizes, name = group_sizes(over, attributes), "group_share_deviation"
    rows = sum(n for n, _ in sizes.values())
    if rows == 0:
        return _none(name, over, (), 0, "no rows")
    # Not a default on a measurement: a declared group that nobody belongs to has no rows.
    counts = {group: sizes[group][0] if group in sizes else 0 for group in sorted({*sizes, *reference_population})}
    groups = tuple(_share(group, count, rows, n=count) for group, count in counts.items())
    # Not a default on a measurement: who is not in the reference population has, by definition, no share in it.
    declared = dict.fromkeys(counts, 0.0) | dict(reference_population)
    gaps = {group: abs(count / rows - declared[group]) for group, count in counts.items()}
    worst = max(gaps, key=lambda group: (gaps[group], group))
    return Measurement(name, gaps[worst], None, None, rows, "largest absolute gap of shares", over, groups,
                       tuple((f"{group}_gap", gap) for group, gap in gaps.items()), f"largest: {worst}",
                       direction=metric_info(name).direction)


def smallest_cell(over: str, attributes: Mapping[str, Any], *, y: Any = None,
                  expected_groups: Mapping[str, Sequence[str]]) -> Measurement:
    """Rows in the smallest of the declared groups or intersections; an absent one has 0. With y, positives too."""
    label = None if y is None else arrays.labels(y)
    sizes = group_sizes(over, attributes, label)
    rows = sum(n for n, _ in sizes.values())
    groups = []
    for group in sorted({*sizes, *expected_names(over, expected_groups)}):
        # Not a default on a measurement: a declared group that nobody belongs to has no rows.
        n, favourable = sizes[group] if group in sizes else (0, 0)
        positives = None if label is None else favourable
        groups.append(GroupMeasurement(group, float(n), n=n, positives=positives,
                                       negatives=None if positives is None else n - positives))
    declared = set(expected_names(over, expected_groups))
    counted = [group for group in groups if group.name in declared]
    if not counted:
        return _none("smallest_cell", over, tuple(groups), rows, "no group is declared")
    smallest = min(counted, key=lambda group: (group.n, group.name))
    return Measurement("smallest_cell", float(smallest.n), None, None, smallest.n, "count", over, tuple(groups),
                       note=f"smallest: {smallest.name}", direction=metric_info("smallest_cell").direction)


def split_key_overlap(splits: Mapping[str, pl.DataFrame], key: str | Sequence[str]) -> Measurement:
    """Keys that stand in more than one split: a person in training and in holdout is known already when tested."""
    keys = [key] if isinstance(key, str) else list(key)
    return _overlap("split_key_overlap", splits, keys, "keys")


def split_row_overlap(splits: Mapping[str, pl.DataFrame], features: Sequence[str]) -> Measurement:
    """Distinct feature rows that stand in more than one split, whoever they belong to."""
    return _overlap("split_row_overlap", splits, list(features), "feature rows")


def label_prevalence(y: Any, over: str = "all", attributes: Mapping[str, Any] | None = None) -> Measurement:
    """Share of the favourable label, Wilson; with `over`, each group's in `groups`."""
    label = arrays.labels(y)
    n, positives, name = len(label), int(label.sum()), "label_prevalence"
    groups: tuple[GroupMeasurement, ...] = ()
    if over != "all":
        found = rows_by_group(over, attributes or {})
        arrays.same_rows(y=label, group=next(iter(found.values()), np.empty(0)))
        parts = {group: label[rows] for group, rows in found.items()}
        groups = tuple(_share(group, int(part.sum()), len(part), positives=int(part.sum()))
                       for group, part in parts.items())
    interval = wilson(positives, n)
    if interval is None:
        return _none(name, over, groups, 0, "no rows")
    return Measurement(name, positives / n, *interval, n, "Wilson", over, groups, direction=metric_info(name).direction)


_SPLITS = "__splits"


def _overlap(name: str, splits: Mapping[str, pl.DataFrame], columns: Sequence[str], what: str) -> Measurement:
    import polars as pl

    if len(splits) < 2 or not columns:
        return _none(name, "all", (), 0, "fewer than two splits, or nothing to compare them by")
    for frame in splits.values():
        _columns_exist(frame, columns)
    ordered = sorted(splits)
    rows = sum(frame.height for frame in splits.values())
    splits = _perhaps_shared(splits, columns)
    # Each split's distinct rows once, and in how many and which splits each of them stands.
    found = pl.concat([splits[split].lazy().select(columns).unique().with_columns(pl.lit(1 << place, pl.UInt32).alias(_SPLITS))
                       for place, split in enumerate(ordered)]).group_by(columns).agg(pl.col(_SPLITS).sum()).select(_SPLITS).collect()
    held = dict(found[_SPLITS].value_counts().iter_rows())
    shared = sum((mask.bit_count() - 1) * count for mask, count in held.items())
    # A key in three splits is two too many; pairs say where.
    detail = []
    for i, first in enumerate(ordered):
        for j, second in enumerate(ordered[i + 1:], i + 1):
            both = 1 << i | 1 << j
            detail.append((f"{first}&{second}", float(sum(count for mask, count in held.items() if mask & both == both))))
    if rows == 0:
        return _none(name, "all", (), 0, "no rows")
    return Measurement(name, float(shared), None, None, rows, f"distinct {what} beyond the first split that holds them",
                       detail=tuple(detail), direction=metric_info(name).direction)


def _perhaps_shared(splits: Mapping[str, pl.DataFrame], columns: Sequence[str]) -> Mapping[str, pl.DataFrame]:
    """The rows that may stand in several splits: equal rows have equal hashes, so leaving out the others changes no count.

    Comparing wide rows is dear and nearly all of them stand in one split only. One column is its own hash.
    """
    import polars as pl

    schemas = {tuple(frame.select(columns).schema.items()) for frame in splits.values()}
    if len(columns) == 1 or len(schemas) != 1 or any(dtype.is_nested() or dtype == pl.Categorical for _, dtype in next(iter(schemas))):
        return splits
    hashes = {split: frame.select(columns).hash_rows(seed=0) for split, frame in splits.items()}
    # Sorting whole numbers takes a fraction of counting them in a table; each split's own repetitions are left out first.
    found = np.sort(np.concatenate([_distinct(np.sort(one.to_numpy())) for one in hashes.values()]))
    several = pl.Series(_distinct(found[1:][found[1:] == found[:-1]]))
    return {split: frame.filter(hashes[split].is_in(several.implode())) for split, frame in splits.items()}


def _distinct(ordered: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each of these sorted numbers once."""
    first = np.concatenate((np.ones(min(1, len(ordered)), dtype=np.bool_), ordered[1:] != ordered[:-1]))
    return np.asarray(ordered[first], dtype=np.uint64)


def _columns_exist(frame: pl.DataFrame, columns: Sequence[str]) -> None:
    absent = [name for name in columns if name not in frame.columns]
    if absent:
        raise MeasurementRefused(f"Columns to measure are not in the frame: {', '.join(absent)}.",
                                 rule="declared columns are measured", value=", ".join(absent),
                                 remedy="Declare columns of the frame.")


def _missing(series: pl.Series) -> int:
    nan = int(series.is_nan().sum() or 0) if series.dtype.is_float() else 0
    return series.null_count() + nan


def _share(name: str, count: int, rows: int, *, n: int | None = None, positives: int | None = None) -> GroupMeasurement:
    size = rows if n is None else n
    interval = wilson(count, rows)
    if interval is None:
        return GroupMeasurement(name, None, n=size, positives=positives)
    return GroupMeasurement(name, count / rows, *interval, size, positives,
                            None if positives is None else size - positives)


def _worst(name: str, over: str, groups: Sequence[GroupMeasurement], rows: int, *, lowest: bool,
           detail: tuple[tuple[str, float], ...] = ()) -> Measurement:
    missing = [group.name for group in groups if group.value is None]
    if missing or not groups:
        return _none(name, over, tuple(groups), rows, f"no rows for {', '.join(missing)}" if missing else "no columns")
    known = [(group.value, group) for group in groups if group.value is not None]
    value, worst = (min if lowest else max)(known, key=lambda pair: (pair[0], pair[1].name))
    return Measurement(name, value, worst.lower, worst.upper, min(group.n for group in groups), "Wilson", over,
                       tuple(groups), detail, f"worst: {worst.name}", direction=metric_info(name).direction)


def _count(name: str, count: int, rows: int, method: str) -> Measurement:
    if rows == 0:
        return _none(name, "all", (), 0, "no rows")
    return Measurement(name, float(count), None, None, rows, method, direction=metric_info(name).direction)


def _none(name: str, over: str, groups: tuple[GroupMeasurement, ...], rows: int, why: str) -> Measurement:
    return Measurement(name, None, None, None, rows, "count", over, groups, note=why,
                       direction=metric_info(name).direction)
