"""The holdout by declared slices of time: is it as right and as fair in every stretch, or is the average carried by one?

Each slice is measured by itself, as the whole holdout is, and the worst one is held against the bound (J.4). A slice below the
declared minimum, or one that nobody belongs to, is INSUFFICIENT_DATA, never left out; so is a comparison with too small a group in a
slice. Rows without a date are a slice of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compliance_assets.errors import StageError
from compliance_assets.metrics.catalogue import METRICS
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused
from compliance_assets.policy.gates import Finding, Verdict
from compliance_assets.policy.system import Bound, MinimumGroup, TimeSlices
from compliance_assets.stages.evaluation_report import as_json
from compliance_assets.stages.s4_gates import compared
from compliance_assets.stages.s4_holdout import Holdout, finding_id, found
from compliance_assets.stages.s4_tasks import measured_on, worse

if TYPE_CHECKING:
    import polars as pl

NAME = "time_slices"
UNDATED = "undated"
_REPORTED = {"binary": ("roc_auc", "accuracy", "brier_score", "expected_calibration_error"), "multiclass": ("accuracy", "brier_score"),
             "regression": ("mae", "rmse", "bias")}

Rows = npt.NDArray[np.bool_]


def held(seen: Holdout, family: str) -> Iterator[Finding]:
    """The bounds of this family that the worst slice must keep; nothing where no slices are declared."""
    declared = seen.system.evaluation.time_slices
    for bound in declared.bounds if declared is not None else ():
        if METRICS[bound.metric].family == family:
            for over in bound.over or ("all",):
                yield _held(seen, declared, bound, over)  # type: ignore[arg-type]  # there are bounds only where it is declared


def _held(seen: Holdout, declared: TimeSlices, bound: Bound, over: str) -> Finding:
    within: dict[str, Measurement] = {}
    place = NAME if over == "all" else f"{NAME}*{over}"
    one = found(finding_id(METRICS[bound.metric].family, place, bound.metric), bound,
                lambda: over_slices(seen, declared, bound.metric, over, within), minimum=declared.minimum, three_valued=over != "all")
    small = () if declared.minimum_group is None or one.verdict is Verdict.INSUFFICIENT_DATA else _small(within, declared.minimum_group)
    return one if not small else replace(one, verdict=Verdict.INSUFFICIENT_DATA, note=(
        f"below the declared minimum of {declared.minimum_group.text} within a slice: {', '.join(small)}"))  # type: ignore[union-attr]


def _small(within: Mapping[str, Measurement], minimum: MinimumGroup) -> list[str]:
    return [f"{group.name} {name}" for name, one in within.items() for group in one.groups
            if group.n < minimum.rows or (group.positives is not None and group.positives < minimum.positives)
            or (group.negatives is not None and group.negatives < minimum.negatives)]


def slices_of(column: pl.Series, declared: TimeSlices) -> dict[str, Rows]:
    """The rows of each declared slice, in order of time; then those without a date, if there are any. `StageError` if it holds no dates."""
    import polars as pl

    if column.dtype not in (pl.Date, pl.Datetime):
        raise StageError(f"Column {column.name} holds {column.dtype}, not days or moments.", rule="slices are of time",
                         value=str(column.dtype), remedy="Give the column a date or datetime type in data.prepare.")
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone not in (None, "UTC"):
        column = column.dt.convert_time_zone("UTC")
    day = column.cast(pl.Date)
    known = day.is_not_null().to_numpy()
    number = sum(((day >= cut).fill_null(False).to_numpy().astype(np.int64) for cut in declared.cuts), np.zeros(len(day), np.int64))
    slices = {name: known & (number == place) for place, name in enumerate(declared.names)}
    return slices if known.all() else {**slices, UNDATED: ~known}


def over_slices(seen: Holdout, declared: TimeSlices, metric: str, over: str, within: dict[str, Measurement] | None = None) -> Measurement:
    """One metric in each slice, and the worst one's as the value. `within` takes what was measured in each slice."""
    slices = slices_of(seen.column(declared.column), declared)
    measure: Callable[[Any], Measurement] = (lambda rows: measured_on(seen, metric, rows)) if over == "all" else (
        lambda rows: compared(seen, metric, over, rows))
    parts = {name: _measured(seen, metric, rows, measure) for name, rows in slices.items()}
    if within is not None:
        within.update(parts)
    counted = seen.system.data.target.task != "regression"
    groups = tuple(
        GroupMeasurement(name, one.value, one.lower, one.upper, int(slices[name].sum()),
                         int(seen.label[slices[name]].sum()) if counted else None,
                         int(slices[name].sum()) - int(seen.label[slices[name]].sum()) if counted else None)
        for name, one in parts.items())
    smallest, direction = min(group.n for group in groups), METRICS[metric].direction
    place = NAME if over == "all" else f"{NAME}*{over}"
    absent = [f"{name} ({one.note})" for name, one in parts.items() if one.value is None]
    if absent:
        return Measurement(metric, None, None, None, smallest, "slice by slice", place, groups, direction=direction,
                           note=f"not measurable in {', '.join(absent)}")
    values = {name: one.value for name, one in parts.items() if one.value is not None}
    name = max(values, key=lambda slice_: (worse(metric, values[slice_]), slice_))
    return replace(parts[name], over=place, groups=groups, n=smallest, method=f"worst slice; {parts[name].method}",
                   detail=(("range", max(values.values()) - min(values.values())),),
                   note="; ".join(part for part in (f"worst {name}", parts[name].note) if part))


def _measured(seen: Holdout, metric: str, rows: Rows, measure: Callable[[Any], Measurement]) -> Measurement:
    if not rows.any():
        return Measurement(metric, None, None, None, 0, "none", note="no rows", direction=METRICS[metric].direction)
    return measure(rows)


def reported(seen: Holdout) -> dict[str, Any]:
    """Every slice with its rows, and of each the usual measures, what is bounded, and how alike groups are treated; nothing is judged."""
    declared = seen.system.evaluation.time_slices
    assert declared is not None  # asked only where it is declared
    body: dict[str, Any] = {"column": declared.column, "because": declared.because}
    try:
        body["slices"] = [{"name": name, "rows": int(rows.sum()), "favourable": int(seen.label[rows].sum())}
                          for name, rows in slices_of(seen.column(declared.column), declared).items()]
        wanted = [(name, "all") for name in _REPORTED[seen.system.data.target.task]]
        wanted += [("selection_rate_ratio", over) for over in seen.system.data.protected]
        wanted += [(bound.metric, over) for bound in declared.bounds for over in bound.over or ("all",)]
        body["measurements"] = [as_json(over_slices(seen, declared, metric, over)) for metric, over in dict.fromkeys(wanted)]
    except (MeasurementRefused, StageError) as refused:
        body["refused"] = str(refused)
    return body
