"""Does today's data still look like the data that was assessed?

Distances between a `Profile`, made once from the reference (the production model's data, or the assessed baseline's),
and a frame. To watch predictions, put the score into both frames as a column; to watch one group, filter both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Counts, Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.intervals import DRAWS, bootstrap_multinomial, wilson
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused
from compliance_assets.metrics.profiles import (
    NUMERIC,
    POINTS,
    ColumnProfile,
    Profile,
    binned,
    categories_of,
    node_rows,
    values_of,
)

if TYPE_CHECKING:
    import polars as pl

# Added to the divergence's shares where a bin is (nearly) empty: the logarithm of 0 is not a distance.
FLOOR = 1e-4
# Half-width of the Dvoretzky-Kiefer-Wolfowitz band at 95 %, times the square root of n.
_BAND = math.sqrt(math.log(2 / 0.05) / 2)


def measure_drift(names: Sequence[str], reference: Profile, frame: pl.DataFrame, *, draws: int = DRAWS,
                  seed: int = 7) -> tuple[Measurement, ...]:
    """Each named distance: its value is the largest of all columns, `groups` holds every column's.

    psi and jensen_shannon compare bins (nulls are a bin of their own) and have a percentile interval that resamples
    today's rows; ks has the band of Dvoretzky-Kiefer-Wolfowitz (Massart 1990) for today's rows; wasserstein has none.
    ks and wasserstein exist for numeric columns only. A column without a value on one side makes the whole None.
    """
    for name in names:
        if metric_info(name, "drift").needs != ("profile", "frame"):
            raise MeasurementRefused(f"{name} compares two scores, not a profile with a frame.",
                                     rule="metrics get their inputs", value=name, remedy="Use prediction_flip_rate.")
    absent = [c.name for c in reference.columns if c.name not in frame.columns]
    if absent:
        raise MeasurementRefused(f"Profiled columns are not in the frame: {', '.join(absent)}.",
                                 rule="profiled columns are measured", value=", ".join(absent),
                                 remedy="Hand in a frame with the reference's columns.")
    return tuple(_largest(name, reference, frame, draws, seed) for name in names)


def drifted_feature_share(distance: str, above: float, reference: Profile, frame: pl.DataFrame, *, draws: int = DRAWS,
                          seed: int = 7) -> Measurement:
    """Share of the profiled columns whose `distance` (psi, jensen_shannon, ks, wasserstein) is above `above`.

    Its interval counts columns: from those whose own interval lies above as a whole to those whose interval reaches above. A column
    without an interval counts by its value. `groups`: every column's distance; a column without values makes the whole None.
    """
    one = measure_drift([distance], reference, frame, draws=draws, seed=seed)[0]
    name, direction = "drifted_feature_share", metric_info("drifted_feature_share").direction
    method = f"columns with {distance} above {above:g}; {one.method}"
    if one.value is None:
        return Measurement(name, None, None, None, one.n, method, groups=one.groups, note=one.note, direction=direction)
    ends = [[value > above for value in (group.lower, group.value, group.upper) if value is not None] for group in one.groups]
    drifted = [group.name for group in one.groups if group.value is not None and group.value > above]
    lower, upper = (sum(above_it[end] for above_it in ends) / len(ends) for end in (0, -1))
    return Measurement(name, len(drifted) / len(ends), lower, upper, one.n, method, groups=one.groups,
                       detail=(("columns", float(len(ends))),), note=f"drifted: {', '.join(drifted) or 'none'}", direction=direction)


def prediction_flip_rate(score: Any, previous_score: Any, threshold: float, *, probabilities: bool = True) -> Measurement:
    """Share of the same rows that the two models decide differently; Wilson. Detail: rank correlation of the scores.

    `probabilities` False: scores are predicted numbers, and the threshold is one.
    """
    of = arrays.scores if probabilities else arrays.numbers
    new, old = of(score, "score"), of(previous_score, "previous_score")
    n = arrays.same_rows(score=new, previous_score=old)
    flipped = int(np.count_nonzero((new >= threshold) != (old >= threshold)))
    interval = wilson(flipped, n)
    direction = metric_info("prediction_flip_rate").direction
    if interval is None:
        return Measurement("prediction_flip_rate", None, None, None, 0, "Wilson", note="no rows", direction=direction)
    detail = [("favourable_before", float(np.count_nonzero(old >= threshold) / n)),
              ("favourable_now", float(np.count_nonzero(new >= threshold) / n))]
    correlation = _rank_correlation(new, old)
    if correlation is not None:
        detail.append(("rank_correlation", correlation))
    return Measurement("prediction_flip_rate", flipped / n, *interval, n, "Wilson", detail=tuple(detail),
                       direction=direction)


def _largest(name: str, reference: Profile, frame: pl.DataFrame, draws: int, seed: int) -> Measurement:
    direction, numeric_only = metric_info(name).direction, name in ("ks", "wasserstein")
    columns = [c for c in reference.columns if c.kind == NUMERIC or not numeric_only]
    measured = [_MEASURES[name](column, frame, draws, seed) for column in columns]
    methods = sorted({method for _, method in measured})
    method, groups = "; ".join(methods) or "none", tuple(group for group, _ in measured)
    missing = [group.name for group in groups if group.value is None]
    if missing or not groups:
        why = f"no values to compare in {', '.join(missing)}" if missing else "no column to compare"
        return Measurement(name, None, None, None, frame.height, method, groups=groups, note=why, direction=direction)
    worst = max((group for group in groups if group.value is not None), key=lambda g: (cast(float, g.value), g.name))
    return Measurement(name, worst.value, worst.lower, worst.upper, min(group.n for group in groups), method,
                       groups=groups, note=f"largest: {worst.name}", direction=direction)


def _shares(column: ColumnProfile, frame: pl.DataFrame) -> tuple[Floats, Counts]:
    """The reference's shares and today's counts over the same bins: the bins, any other value, null."""
    if column.kind == NUMERIC:
        values = values_of(frame, column.name)
        today = [*binned(values, np.array([float(e) for e in column.edges])).tolist(), 0, frame.height - len(values)]
    else:
        counted = categories_of(frame, column.name)
        seen = [counted.pop(category) if category in counted else 0 for category in column.edges]
        other = sum(counted.values())
        today = [*seen, other, frame.height - sum(seen) - other]
    before = np.array([*column.counts, 0, column.nulls], dtype=np.int64)
    now = np.array(today, dtype=np.int64)
    used = (before > 0) | (now > 0)
    return before[used] / before.sum(), now[used]


def _binned_distance(name: str, column: ColumnProfile, frame: pl.DataFrame, draws: int,
                     seed: int) -> tuple[GroupMeasurement, str]:
    if column.known == 0 or frame.height == 0 or frame[column.name].null_count() == frame.height:
        return GroupMeasurement(column.name, None, n=frame.height), "none"
    before, now = _shares(column, frame)
    distance = _psi if name == "psi" else _jensen_shannon

    def statistic(drawn: Floats) -> Floats:
        return distance(before, drawn / drawn.sum(-1, keepdims=True))

    value = float(statistic(now[np.newaxis].astype(np.float64))[0])
    interval, method = bootstrap_multinomial(now, statistic, draws=draws, seed=seed)
    lower, upper = (None, None) if interval is None else interval
    kind = f"{len(column.counts)} equal-mass bins of the reference" if column.kind == NUMERIC else "categories"
    method = f"{kind}, shares floored at {FLOOR}, {method}" if name == "psi" else f"{kind}, {method}"
    return GroupMeasurement(column.name, value, lower, upper, frame.height), method


def _psi(before: Floats, now: Floats) -> Floats:
    p, q = np.maximum(before, FLOOR), np.maximum(now, FLOOR)
    return np.asarray(((q - p) * np.log(q / p)).sum(-1))


def _jensen_shannon(before: Floats, now: Floats) -> Floats:
    middle = (before + now) / 2

    def divergence(p: Floats) -> Floats:
        broad = np.broadcast_to(p, middle.shape)
        logs = np.log2(arrays.ratio(broad, middle), out=np.zeros(middle.shape), where=broad > 0)
        return np.asarray((broad * logs).sum(-1))

    return np.sqrt(np.maximum(0.0, (divergence(before) + divergence(now)) / 2))


def _ks(column: ColumnProfile, frame: pl.DataFrame, draws: int, seed: int) -> tuple[GroupMeasurement, str]:
    values, method = values_of(frame, column.name), "Dvoretzky-Kiefer-Wolfowitz band of today's rows"
    n = len(values)
    if column.known == 0 or n == 0:
        return GroupMeasurement(column.name, None, n=n), method
    points = np.array([float(p) for p in column.points])
    before = np.array([column.below, column.upto]) / column.known
    now = np.array([np.searchsorted(values, points, side="left"), np.searchsorted(values, points, side="right")]) / n
    value, half = float(np.abs(before - now).max()), _BAND / math.sqrt(n)
    return GroupMeasurement(column.name, value, max(0.0, value - half), min(1.0, value + half), n), method


def _wasserstein(column: ColumnProfile, frame: pl.DataFrame, draws: int, seed: int) -> tuple[GroupMeasurement, str]:
    values, method = values_of(frame, column.name), f"quantile form on {POINTS} nodes, in reference standard deviations"
    n, deviation = len(values), float(column.deviation) if column.deviation else 0.0
    if column.known == 0 or n == 0:
        return GroupMeasurement(column.name, None, n=n), method
    if deviation == 0.0:
        # A constant has no unit to measure by: still the same constant is no drift, anything else is not measurable.
        same = values[0] == values[-1] == float(column.points[0])
        return GroupMeasurement(column.name, 0.0 if same else None, n=n), method
    points = np.array([float(p) for p in column.points])
    before = points[np.searchsorted(np.array(column.upto), np.array(node_rows(column.known)), side="right")]
    now = values[node_rows(n)]
    return GroupMeasurement(column.name, math.fsum(np.abs(before - now).tolist()) / POINTS / deviation, n=n), method


_MEASURES = {
    "psi": lambda column, frame, draws, seed: _binned_distance("psi", column, frame, draws, seed),
    "jensen_shannon": lambda column, frame, draws, seed: _binned_distance("jensen_shannon", column, frame, draws, seed),
    "ks": _ks,
    "wasserstein": _wasserstein,
}


def _rank_correlation(first: Floats, second: Floats) -> float | None:
    """Spearman's, with mid-ranks; None if either is constant."""
    ranks = []
    for values in (first, second):
        _, place, rows = np.unique(values, return_inverse=True, return_counts=True)
        middle = (np.cumsum(rows) - (rows - 1) / 2)[place]
        ranks.append(middle - (len(values) + 1) / 2)
    scale = math.sqrt(math.fsum(np.square(ranks[0]).tolist()) * math.fsum(np.square(ranks[1]).tolist()))
    return None if scale == 0 else math.fsum((ranks[0] * ranks[1]).tolist()) / scale
