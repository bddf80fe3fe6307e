"""Do people who look the same have different labels? Rows with equal features of which some are favourable and some are not.

Some of it is life: two people who look alike may turn out differently. Much of it says that labels were given by chance, changed or
planted, or that what made the difference is not among the features (AI Act Art. 10(3), Art. 15(5): data poisoning).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.groups import expected_names, membership
from compliance_assets.metrics.intervals import wilson
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused

if TYPE_CHECKING:
    import polars as pl

_NAME = "conflicting_label_share"


def conflicting_labels(frame: pl.DataFrame, features: Sequence[str], y: Any, over: str = "all",
                       attributes: Mapping[str, Any] | None = None, *,
                       expected_groups: Mapping[str, Sequence[str]] | None = None) -> Measurement:
    """Share of rows that equal another row in every feature and have the other label; over an attribute the worst group's. Wilson.

    y in {0, 1}, shape (n,). A missing value equals a missing value. Detail: how many combinations of features are meant.
    """
    import polars as pl

    label = arrays.labels(y)
    arrays.same_rows(y=label, frame=np.empty(frame.height))
    absent = [name for name in features if name not in frame.columns]
    if absent or not features:
        raise MeasurementRefused(f"Columns to compare are not in the frame: {', '.join(absent) or 'none is named'}.",
                                 rule="declared columns are measured", value=", ".join(absent), remedy="Declare columns of the frame.")
    # Equal rows have equal hashes: most rows are ruled out by a number, and only the others are compared in full.
    keyed = pl.DataFrame({"hash": frame.select(features).hash_rows(seed=0), "label": pl.Series(label), "row": np.arange(frame.height)})
    apart = keyed.group_by("hash").agg(low=pl.col("label").min(), high=pl.col("label").max()).filter(pl.col("low") < pl.col("high"))
    near = keyed.join(apart.select("hash"), on="hash", how="semi").sort("row")
    rows = near["row"].to_numpy()
    compared = frame.select(features)[rows].with_columns(pl.Series("__label", label[rows]), pl.Series("__row", rows))
    found = compared.group_by(list(features)).agg(low=pl.col("__label").min(), high=pl.col("__label").max(), rows=pl.col("__row")).filter(
        pl.col("low") < pl.col("high"))
    conflicting = np.zeros(frame.height, dtype=np.bool_)
    if found.height:
        conflicting[found["rows"].explode().to_numpy()] = True
    detail, direction = (("combinations", float(found.height)),), metric_info(_NAME).direction
    if over == "all":
        one = _group("all", conflicting)
        return Measurement(_NAME, one.value, one.lower, one.upper, one.n, "Wilson", detail=detail, note="" if one.n else "no rows",
                           direction=direction)
    member = membership(over, attributes or {})
    arrays.same_rows(y=label, group=member)
    names = sorted({*map(str, member.tolist()), *(() if expected_groups is None else expected_names(over, expected_groups))})
    groups = tuple(_group(name, conflicting[member == name]) for name in names)
    smallest, gone = min((group.n for group in groups), default=0), [group.name for group in groups if group.value is None]
    if gone or not groups:
        return Measurement(_NAME, None, None, None, smallest, "Wilson per group", over, groups, detail,
                           f"no rows for {', '.join(gone)}" if gone else "no rows", direction=direction)
    worst = max(groups, key=lambda group: (group.value or 0.0, group.name))
    return Measurement(_NAME, worst.value, worst.lower, worst.upper, smallest, "worst group; Wilson", over, groups, detail,
                       f"worst: {worst.name}", direction=direction)


def _group(name: str, conflicting: Any) -> GroupMeasurement:
    lower, upper = wilson(int(conflicting.sum()), len(conflicting)) or (None, None)
    return GroupMeasurement(name, float(conflicting.mean()) if len(conflicting) else None, lower, upper, len(conflicting))
