"""Does a predicted number keep its own promises? Whether intervals hold what they say, and whether predictions are stretched.

`prediction_interval_coverage` is the share of observed values inside their prediction interval: of intervals that promise 90 %
about nine in ten, in every group. `prediction_slope` is the least-squares slope of observed on predicted: below 1, predictions
are too extreme. The mean of predicted minus observed is `bias` of `regression`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.groups import expected_names, membership
from compliance_assets.metrics.intervals import Z95, exact_mean, wilson
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused


def interval_coverage(y: Any, lower: Any, upper: Any, promised: float, attributes: Mapping[str, Any] | None = None,
                      over: Sequence[str] = (), *,
                      expected_groups: Mapping[str, Sequence[str]] | None = None) -> tuple[Measurement, ...]:
    """Coverage over all rows, then over each attribute: the group whose coverage is furthest from `promised`. Wilson.

    y, lower, upper: finite numbers, shape (n,), ends included. `promised` in (0, 1) only says which group is worst.
    """
    observed, low, high = arrays.numbers(y, "y"), arrays.numbers(lower, "lower"), arrays.numbers(upper, "upper")
    arrays.same_rows(y=observed, lower=low, upper=high)
    if not 0 < promised < 1 or (low > high).any():
        raise MeasurementRefused("Prediction intervals have a promised share in (0, 1) and their ends in order.",
                                 rule="intervals are intervals", value=str(promised), remedy="Hand in lower and upper ends.")
    inside = (low <= observed) & (observed <= high)
    name, info = "prediction_interval_coverage", metric_info("prediction_interval_coverage")
    n, hits = len(inside), int(np.count_nonzero(inside))
    ends = _ends(hits, n)
    measured = [Measurement(name, hits / n if n else None, *ends, n, "Wilson", note="" if n else "no rows", direction=info.direction,
                            detail=(("promised", promised),))]
    for attribute in over:
        member = membership(attribute, attributes or {})
        arrays.same_rows(y=observed, group=member)
        names = sorted({*map(str, set(member.tolist())), *(() if expected_groups is None else expected_names(attribute, expected_groups))})
        groups = tuple(_group(group, inside[member == group]) for group in names)
        absent = [group.name for group in groups if group.value is None]
        smallest = min((group.n for group in groups), default=0)
        if absent or not groups:
            measured.append(Measurement(name, None, None, None, smallest, "Wilson per group", attribute, groups, direction=info.direction,
                                        note=f"no rows for {', '.join(absent)}" if absent else "no rows"))
            continue
        worst = max(groups, key=lambda one: (abs((one.value or 0.0) - promised), one.name))
        measured.append(Measurement(name, worst.value, worst.lower, worst.upper, smallest, "worst group; Wilson", attribute, groups,
                                    (("promised", promised),), f"worst {worst.name}", direction=info.direction))
    return tuple(measured)


def prediction_slope(y: Any, predicted: Any) -> Measurement:
    """Slope of observed on predicted with a normal interval that allows unequal spread (White 1980); detail: the intercept."""
    observed, given = arrays.numbers(y, "y"), arrays.numbers(predicted, "predicted")
    n, name, method = arrays.same_rows(y=observed, predicted=given), "prediction_slope", "least squares, errors robust to unequal spread"
    direction = metric_info(name).direction
    if n < 3 or given.min() == given.max():
        return Measurement(name, None, None, None, n, method, direction=direction,
                           note="too few rows" if n < 3 else "every prediction is the same: a slope is undefined")
    x, z = given - exact_mean(given), observed - exact_mean(observed)
    spread = math.fsum(np.square(x).tolist())
    slope = math.fsum((x * z).tolist()) / spread
    half = Z95 * math.sqrt(math.fsum(np.square(x * (z - slope * x)).tolist())) / spread
    intercept = exact_mean(observed) - slope * exact_mean(given)
    return Measurement(name, slope, slope - half, slope + half, n, method, detail=(("intercept", intercept),), direction=direction)


def _group(name: str, inside: Any) -> GroupMeasurement:
    n, hits = len(inside), int(np.count_nonzero(inside))
    return GroupMeasurement(name, hits / n if n else None, *_ends(hits, n), n=n)


def _ends(hits: int, n: int) -> tuple[float | None, float | None]:
    interval = wilson(hits, n)
    return (None, None) if interval is None else interval
