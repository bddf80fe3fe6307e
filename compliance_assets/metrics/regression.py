"""How far off are predicted numbers? Errors of a regression with their 95 % intervals.

Errors are predicted minus observed, in the unit of y. Intervals: normal approximation for means (for rmse on the
squared scale), the influence function for r2, order statistics for the median: closed forms, nothing is drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.intervals import Z95, Interval, exact_mean, normal_mean
from compliance_assets.metrics.measurement import Measurement, MeasurementRefused


def measure_regression(names: Sequence[str], y: Any, predicted: Any) -> tuple[Measurement, ...]:
    """mae, rmse, r2, median_absolute_error, mape, p95_absolute_error or bias, in the order named.

    y, predicted: finite numbers, shape (n,).
    """
    observed, given = arrays.numbers(y, "y"), arrays.numbers(predicted, "predicted")
    n = arrays.same_rows(y=observed, predicted=given)
    measured = []
    for name in names:
        metric_info(name, "performance")
        if name not in _MEASURES:
            raise MeasurementRefused(f"{name} is not a metric of a regression.", rule="metrics fit the task",
                                     value=name, remedy=f"Choose one of: {', '.join(sorted(_MEASURES))}.")
        value, interval, method, note = (None, None, "none", "no rows") if n == 0 else \
            _MEASURES[name](observed, given - observed)
        lower, upper = (None, None) if interval is None else interval
        note = note if note or interval is not None else "too few rows, or no spread: no interval"
        measured.append(Measurement(name, value, lower, upper, n, method, note=note,
                                    direction=metric_info(name).direction))
    return tuple(measured)


_Measured = tuple[float | None, Interval | None, str, str]
_NORMAL = "normal approximation of the mean"


def _mae(y: Floats, error: Floats) -> _Measured:
    mean, interval = normal_mean(np.abs(error))
    return mean, None if interval is None else (max(0.0, interval[0]), interval[1]), _NORMAL, ""


def _bias(y: Floats, error: Floats) -> _Measured:
    return *normal_mean(error), _NORMAL, ""


def _rmse(y: Floats, error: Floats) -> _Measured:
    mean, interval = normal_mean(np.square(error))
    roots = None if interval is None else (math.sqrt(max(0.0, interval[0])), math.sqrt(interval[1]))
    return math.sqrt(mean), roots, "normal approximation of the mean square", ""


def _r2(y: Floats, error: Floats) -> _Measured:
    square, away = np.square(error), np.square(y - exact_mean(y))
    mse, variance, n = exact_mean(square), exact_mean(away), len(y)
    if variance == 0:
        return None, None, "influence function", "y is constant: nothing to explain"
    # r2 = 1 - mse / variance; its influence function gives the variance of the estimate (infinitesimal jackknife).
    influence = mse * away / (variance * variance) - square / variance
    half = Z95 * math.sqrt(math.fsum(np.square(influence).tolist())) / n
    value = 1 - mse / variance
    return value, None if n < 3 or half == 0 else (value - half, min(1.0, value + half)), "influence function", ""


def _mape(y: Floats, error: Floats) -> _Measured:
    there = y != 0
    if not there.any():
        return None, None, _NORMAL, "every observed value is 0: a relative error is undefined"
    mean, interval = normal_mean(np.abs(error[there]) / np.abs(y[there]))
    left_out = int(np.count_nonzero(~there))
    return mean, None if interval is None else (max(0.0, interval[0]), interval[1]), _NORMAL, \
        f"{left_out} rows with an observed 0 are left out" if left_out else ""


def _median(y: Floats, error: Floats) -> _Measured:
    sizes, n = np.sort(np.abs(error)), len(error)
    return _quantile(sizes, 0.5, float((sizes[(n - 1) // 2] + sizes[n // 2]) / 2))


def _p95(y: Floats, error: Floats) -> _Measured:
    sizes = np.sort(np.abs(error))
    return _quantile(sizes, 0.95, float(np.quantile(sizes, 0.95)))


def _quantile(sizes: Floats, share: float, value: float) -> _Measured:
    """A quantile of sorted values with its distribution-free interval: the order statistics that binomial counts allow."""
    n, method = len(sizes), "order statistics (binomial)"
    half = NormalDist().inv_cdf(0.975) * math.sqrt(n * share * (1 - share))
    first, last = math.floor(n * share - half), math.ceil(n * share + half)
    if first < 0 or last > n - 1:
        return value, None, method, "too few rows for an interval"
    return value, (float(sizes[first]), float(sizes[last])), method, ""


_MEASURES = {"mae": _mae, "rmse": _rmse, "r2": _r2, "median_absolute_error": _median, "mape": _mape,
             "p95_absolute_error": _p95, "bias": _bias}
