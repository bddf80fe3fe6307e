"""Can a score be read as a probability? Calibration error, slope, intercept, reliability curves; overall and by group.

Bins are equal-mass (15 unless told otherwise) and never part equal scores, so heavily tied scores fill fewer bins; the
method says how many. Scores that mislead the people who read them undermine their oversight (AI Act Art. 14(4)), and a
score that means something else for one group is unfair however it is thresholded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Counts, Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.groups import expected_names, rows_by_group
from compliance_assets.metrics.intervals import (
    DRAWS,
    Z95,
    Interval,
    bootstrap_multinomial,
    mover_difference,
    normal_mean,
)
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused
from compliance_assets.metrics.reliability import BINS, ReliabilityCurve, checked, curve_of

_GROUPED = ("calibration_error_difference", "worst_group_calibration_error")
_SMALLEST_PROBABILITY = 1e-12
_MOST_STEPS = 50


def measure_calibration(names: Sequence[str], y: Any, score: Any, attributes: Mapping[str, Any] | None = None,
                        over: Sequence[str] = (), *, expected_groups: Mapping[str, Sequence[str]] | None = None,
                        bins: int = BINS, draws: int = DRAWS, seed: int = 7) -> tuple[Measurement, ...]:
    """The named metrics over all rows, and each over every attribute or intersection of `over`.

    y, score and each attribute: shape (n,). Over an attribute, a metric's value is the worst group's (furthest from its
    ideal) and `groups` holds every group's; `calibration_error_difference` and `worst_group_calibration_error` exist
    over attributes only. Intervals of binned errors resample (bin, label) cells with the bins and their mean scores
    held; noise widens these errors, so the interval errs towards finding miscalibration.
    """
    checked_y, checked_score = checked(y, score)
    for name in names:
        if "binary" not in metric_info(name, "calibration").task:
            raise MeasurementRefused(f"{name} is not about the score of a favourable outcome.", rule="metrics fit the task", value=name,
                                     remedy="Measure it with the classes, or with the predicted number.")
    whole = _Rows(checked_y, checked_score, bins)
    measured = [_measure(name, whole, draws, seed) for name in names if name not in _GROUPED]
    for attribute in over:
        found = rows_by_group(attribute, {} if attributes is None else attributes)
        arrays.same_rows(y=checked_y, group=next(iter(found.values()), np.zeros(0)))
        for group in () if expected_groups is None else expected_names(attribute, expected_groups):
            found.setdefault(group, np.zeros(len(checked_y), dtype=np.bool_))
        of_group = {group: _Rows(checked_y[rows], checked_score[rows], bins) for group, rows in sorted(found.items())}
        labels = {group: rows.y for group, rows in of_group.items()}
        for name in names:
            each = "expected_calibration_error" if name in _GROUPED else name
            parts = {group: _measure(each, rows, draws, seed) for group, rows in of_group.items()}
            measured.append(_over_groups(name, attribute, parts, labels))
    return tuple(measured)


@dataclass(frozen=True)
class _Rows:
    """Labels and scores of the same rows; their curve is sorted for once, however many metrics read it."""

    y: Counts
    score: Floats
    bins: int

    @cached_property
    def curve(self) -> ReliabilityCurve:
        return curve_of(self.y, self.score, self.bins)


def _measure(name: str, rows: _Rows, draws: int, seed: int) -> Measurement:
    y, score, bins, n = rows.y, rows.score, rows.bins, len(rows.y)
    if n == 0:
        return _measurement(name, None, None, 0, "none", "no rows")
    if name == "calibration_in_the_large":
        mean, interval = normal_mean(y - score)
        return _measurement(name, mean, interval, n, "mean of observed minus score, normal approximation",
                            "" if interval else "no spread: no interval")
    if name == "calibration_slope":
        return _slope(y, score)
    curve = rows.curve
    binning = f"{bins} equal-mass bins" + (f" ({len(curve.bins)} after ties)" if len(curve.bins) < bins else "")
    if name == "brier_reliability":
        return _murphy(curve, y, score, binning)
    cells = np.array([[one.n - one.positives, one.positives] for one in curve.bins], dtype=np.int64)
    means = np.array([one.mean_score for one in curve.bins], dtype=np.float64)

    if name == "maximum_calibration_error":
        value = float(curve.gaps().max())
        interval, method = bootstrap_multinomial(cells, largest_gap(means), draws=draws, seed=seed)
    else:
        debiased = name == "expected_calibration_error_debiased"
        value = curve.debiased_error() if debiased else curve.expected_error()
        interval, method = bootstrap_multinomial(cells, expected_gap(means), draws=draws, seed=seed)
        if debiased and interval is not None:
            # Pivoted: the draws scatter around the plain error as that scatters around the truth.
            plain = curve.expected_error()
            interval = max(0.0, 2 * plain - interval[1]), max(0.0, 2 * plain - interval[0])
            method = f"pivoted {method}"
    if interval is not None:
        interval = min(interval[0], value), max(interval[1], value)
    return _measurement(name, value, interval, n, f"{binning}; {method}")


def expected_gap(means: Floats) -> Callable[[Floats], Floats]:
    """The expected calibration error as a function of counts (draws, bins, 2 labels), the bins' mean scores held."""
    def statistic(drawn: Floats) -> Floats:
        size = drawn.sum(-1)
        return np.asarray((_gaps(means, drawn) * size).sum(-1) / size.sum(-1))

    return statistic


def largest_gap(means: Floats) -> Callable[[Floats], Floats]:
    """The maximum calibration error as a function of counts."""
    return lambda drawn: np.asarray(_gaps(means, drawn).max(-1))


def _gaps(means: Floats, drawn: Floats) -> Floats:
    # A bin that a draw left empty has no gap and no weight.
    return np.nan_to_num(np.abs(means - arrays.ratio(drawn[..., 1], drawn.sum(-1))), nan=0.0)


def _murphy(curve: ReliabilityCurve, y: Counts, score: Floats, binning: str) -> Measurement:
    """Brier = reliability - resolution + uncertainty + what binning hides (Murphy 1973; Stephenson et al. 2008)."""
    n, base = len(y), int(y.sum()) / len(y)
    reliability = math.fsum(one.n * (one.mean_score - one.observed) ** 2 for one in curve.bins) / n
    resolution = math.fsum(one.n * (one.observed - base) ** 2 for one in curve.bins) / n
    brier = math.fsum(np.square(score - y).tolist()) / n
    uncertainty = base * (1 - base)
    found = _measurement("brier_reliability", reliability, None, n, f"Murphy decomposition, {binning}",
                         "the decomposition has no interval here")
    return _with_detail(found, (("brier_score", brier), ("resolution", resolution), ("uncertainty", uncertainty),
                                ("within_bins", brier - (reliability - resolution + uncertainty))))


def _slope(y: Counts, score: Floats) -> Measurement:
    """Slope of a logistic regression of y on logit(score) (Cox 1958), by Newton's method; Wald interval."""
    name, n, method = "calibration_slope", len(y), "logistic recalibration (Newton), Wald"
    if int(y.sum()) in (0, n):
        return _measurement(name, None, None, n, method, "only one class is present")
    order = np.lexsort((y, score))
    label = y[order].astype(np.float64)
    given = np.clip(score[order], _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    if given[0] == given[-1]:
        return _measurement(name, None, None, n, method, "all scores are equal: a slope is undefined")
    x = np.log(given / (1 - given))
    intercept, slope = 0.0, 1.0
    for _ in range(_MOST_STEPS):
        fitted = 1 / (1 + np.exp(-np.clip(intercept + slope * x, -700.0, 700.0)))
        # Sums over sorted rows by one thread (no BLAS): the same bits whatever the row order and the threads.
        weight, residual = fitted * (1 - fitted), label - fitted
        w, wx, wxx = float(weight.sum()), float((weight * x).sum()), float((weight * x * x).sum())
        determinant = w * wxx - wx * wx
        if not determinant > 1e-12 * max(1.0, w * wxx):
            break
        g, gx = float(residual.sum()), float((residual * x).sum())
        intercept, slope = intercept + (wxx * g - wx * gx) / determinant, slope + (w * gx - wx * g) / determinant
        if not (math.isfinite(slope) and math.isfinite(intercept)):
            break
        if abs(g) + abs(gx) < 1e-9 * n:
            half = Z95 * math.sqrt(w / determinant)
            found = _measurement(name, slope, (slope - half, slope + half), n, method)
            return _with_detail(found, (("intercept", intercept),))
    return _measurement(name, None, None, n, method, "the fit did not converge (labels separated by the score)")


def _over_groups(name: str, over: str, parts: Mapping[str, Measurement], labels: Mapping[str, Counts]) -> Measurement:
    info = metric_info(name)
    groups = tuple(
        GroupMeasurement(group, part.value, part.lower, part.upper, part.n, int(labels[group].sum()),
                         len(labels[group]) - int(labels[group].sum()))
        for group, part in parts.items())
    smallest = min((group.n for group in groups), default=0)
    missing = [f"{group} ({part.note})" for group, part in parts.items() if part.value is None]
    known = [(group, part, part.value) for group, part in parts.items() if part.value is not None]
    if missing or not known:
        why = f"not measurable in {', '.join(missing)}" if missing else "no rows"
        return Measurement(name, None, None, None, smallest, "per group", over, groups, note=why,
                           direction=info.direction)
    ideal = 0.0 if info.ideal is None else info.ideal
    worst_name, worst, worst_value = max(known, key=lambda one: (abs(one[2] - ideal), one[0]))
    if name == "calibration_error_difference":
        best_name, best, best_value = min(known, key=lambda one: (one[2], one[0]))
        if len(known) < 2:
            return Measurement(name, None, None, None, smallest, "per group", over, groups, direction=info.direction,
                               note="fewer than two groups: nothing to compare")
        value, interval = worst_value - best_value, _gap_interval(worst, best)
        lower, upper = interval if interval is not None else (None, None)
        return Measurement(name, value, lower, upper, smallest, f"highest minus lowest, MOVER; {worst.method}",
                           over, groups, note=f"lowest {best_name}, highest {worst_name}", direction=info.direction)
    return Measurement(name, worst_value, worst.lower, worst.upper, smallest, f"worst group; {worst.method}", over,
                       groups, note=f"worst {worst_name}", direction=info.direction)


def _gap_interval(high: Measurement, low: Measurement) -> Interval | None:
    if high.value is None or high.lower is None or high.upper is None:
        return None
    if low.value is None or low.lower is None or low.upper is None:
        return None
    lower, upper = mover_difference(high.value, (high.lower, high.upper), low.value, (low.lower, low.upper))
    return max(0.0, lower), min(1.0, upper)


def _measurement(name: str, value: float | None, interval: Interval | None, n: int, method: str,
                 note: str = "") -> Measurement:
    lower, upper = (None, None) if interval is None or value is None else interval
    return Measurement(name, value, lower, upper, n, method, note=note, direction=metric_info(name).direction)


def _with_detail(found: Measurement, detail: tuple[tuple[str, float], ...]) -> Measurement:
    return replace(found, detail=detail)
