"""Is the data recent enough, and was everything in it known at the moment it is used for?

Ages are counted on a declared day, not on the day of the run: the same rows get the same answer for ever. A row without a date
cannot show that it is recent, and a value without a time cannot show that it was known. ISO/IEC 25012 calls it currentness and
ISO/IEC 25024 defines the measure, not its limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.groups import expected_names, membership
from compliance_assets.metrics.intervals import wilson
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused

if TYPE_CHECKING:
    import polars as pl


def outdated_share(frame: pl.DataFrame, column: str, as_of: date, oldest: timedelta, over: str = "all",
                   attributes: Mapping[str, Any] | None = None, *,
                   expected_groups: Mapping[str, Sequence[str]] | None = None) -> Measurement:
    """Share of rows whose date lies more than `oldest` before `as_of`, or that have none; over an attribute the worst group's. Wilson.

    Detail: rows without a date, and rows dated after `as_of`, which are not outdated but cannot be true either.
    """
    days = moments(frame, column).dt.date()
    late = (days < as_of - oldest).fill_null(True).to_numpy()
    name, direction = "outdated_share", metric_info("outdated_share").direction
    detail = (("undated", float(days.null_count())), ("after_that_day", float((days > as_of).sum() or 0)))
    newest: Any = days.max()
    note = f"newest {newest!s}, counted on {as_of}" if newest is not None else f"no row has a date; counted on {as_of}"
    if over == "all":
        ends = wilson(int(late.sum()), len(late))
        lower, upper = (None, None) if ends is None else ends
        return Measurement(name, float(late.mean()) if len(late) else None, lower, upper, len(late), "Wilson", detail=detail,
                           note=note if len(late) else "no rows", direction=direction)
    member = membership(over, attributes or {})
    arrays.same_rows(frame=late, group=member)
    groups = []
    for group in sorted({*map(str, member.tolist()), *(() if expected_groups is None else expected_names(over, expected_groups))}):
        part = late[member == group]
        lower, upper = wilson(int(part.sum()), len(part)) or (None, None)
        groups.append(GroupMeasurement(group, float(part.mean()) if len(part) else None, lower, upper, len(part)))
    smallest, absent = min((group.n for group in groups), default=0), [group.name for group in groups if group.value is None]
    if absent or not groups:
        return Measurement(name, None, None, None, smallest, "Wilson per group", over, tuple(groups), detail,
                           f"no rows for {', '.join(absent)}" if absent else "no rows", direction=direction)
    worst = max(groups, key=lambda group: (group.value or 0.0, group.name))
    return Measurement(name, worst.value, worst.lower, worst.upper, smallest, "worst group; Wilson", over, tuple(groups), detail,
                       f"worst: {worst.name}; {note}", direction=direction)


def known_too_late(frame: pl.DataFrame, known_at: str, decided_at: str, values: Sequence[str]) -> Measurement:
    """Rows in which a value is there although it became known after the decision, or nobody says when; `values` are its columns.

    A row in which every one of `values` is missing has nothing that could have been known. Times are compared as they are; a day
    counts from its beginning, so what became known on the day of the decision was known.
    """
    import polars as pl

    known, decided = moments(frame, known_at), moments(frame, decided_at)
    if any(frame[name].dtype in (pl.Date, pl.String) for name in (known_at, decided_at)):
        known, decided = known.dt.truncate("1d"), decided.dt.truncate("1d")
    there = np.zeros(frame.height, dtype=np.bool_)
    for name in values:
        there |= frame[name].is_not_null().to_numpy()
    late = (known > decided).fill_null(True).to_numpy() & there
    return Measurement("rows_known_too_late", float(np.count_nonzero(late)), None, None, int(np.count_nonzero(there)), "count",
                       detail=(("untimed", float(np.count_nonzero((known.is_null() | decided.is_null()).to_numpy() & there))),),
                       direction=metric_info("rows_known_too_late").direction)


def moments(frame: pl.DataFrame, column: str) -> pl.Series:
    """A column of dates, moments (in UTC where it says a zone) or ISO 8601 text as moments; what cannot be read is null."""
    import polars as pl

    if column not in frame.columns:
        raise MeasurementRefused(f"Column {column} is not in the data.", rule="declared columns are measured", value=column,
                                 remedy="Declare a column of the prepared data.")
    series = frame[column]
    if series.dtype == pl.Datetime and getattr(series.dtype, "time_zone", None) is not None:
        return series.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(pl.Datetime("us"))
    if series.dtype.is_temporal() and series.dtype in (pl.Date, pl.Datetime):
        return series.cast(pl.Datetime("us"))
    if series.dtype == pl.String:
        return series.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    raise MeasurementRefused(f"Column {column} is {series.dtype}, not a date.", rule="ages are counted from dates", value=str(series.dtype),
                             remedy="Make it a date in prepare, or write it as YYYY-MM-DD.")
