"""One metric of whatever is predicted, over all rows or in the worst group: two outcomes, several classes, or a number.

Rates of decisions (fairness, flips) are asked of all three in the same way, since every decision is favourable or not; what is
measured differently is how right the answer is, and whether it can be read as what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from compliance_assets.metrics.calibration import measure_calibration
from compliance_assets.metrics.catalogue import METRICS
from compliance_assets.metrics.clustered import by_clusters
from compliance_assets.metrics.groups import expected_names, rows_by_group
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement
from compliance_assets.metrics.multiclass import NAMES as OF_CLASSES
from compliance_assets.metrics.multiclass import measure_multiclass
from compliance_assets.metrics.performance import measure_performance
from compliance_assets.metrics.regression import measure_regression
from compliance_assets.metrics.regression_calibration import prediction_slope
from compliance_assets.stages import outcomes
from compliance_assets.stages.s4_holdout import Holdout, one_of

Rows = npt.NDArray[np.bool_] | slice
ALL = slice(None)


def measured_on(seen: Holdout, metric: str, rows: Rows) -> Measurement:
    """One metric of performance, or of how far the answer can be taken at its word, on some rows of the holdout."""
    one = _by_rows(seen, metric, rows)
    return one if seen.sampled is None else by_clusters(one, seen.sampled.part(rows))


def _by_rows(seen: Holdout, metric: str, rows: Rows) -> Measurement:
    target = seen.system.data.target
    if metric == "prediction_slope":
        return prediction_slope(seen.outcome[rows], seen.score[rows])
    if target.task == "regression":
        return measure_regression((metric,), seen.outcome[rows], seen.score[rows])[0]
    if target.task == "multiclass" and metric in OF_CLASSES:
        return measure_multiclass((metric,), outcomes.as_text(seen.outcome[rows], target), seen.table[rows], target.classes or ())[0]
    if METRICS[metric].family == "calibration":
        return one_of(measure_calibration([metric], seen.label[rows], seen.score[rows]), metric, "all")
    costs = seen.system.evaluation.costs
    return measure_performance([metric], seen.label[rows], seen.score[rows], seen.threshold, costs=None if costs is None else costs.pair)[0]


def over_rows(seen: Holdout, metric: str, over: str) -> Measurement:
    """One metric over all rows, or the worst group's."""
    if over == "all":
        return measured_on(seen, metric, ALL)
    return worst_of_groups(seen, metric, over, lambda rows: measured_on(seen, metric, rows))


def worst_of_groups(seen: Holdout, metric: str, over: str, measure: Callable[[npt.NDArray[np.bool_]], Measurement]) -> Measurement:
    """The group that is worst off: lowest where higher is better, highest where lower is, else furthest from the ideal."""
    found = rows_by_group(over, seen.groups)
    names = sorted({*found, *expected_names(over, seen.expected)})
    counted = seen.system.data.target.task != "regression"
    parts: dict[str, tuple[Measurement, npt.NDArray[Any]]] = {}
    for name in names:
        # A declared group that nobody belongs to has no rows.
        rows = found[name] if name in found else np.zeros(len(seen.label), dtype=np.bool_)
        parts[name] = (measure(rows), seen.label[rows])
    groups = tuple(GroupMeasurement(name, one.value, one.lower, one.upper, one.n, int(y.sum()) if counted else None,
                                    len(y) - int(y.sum()) if counted else None) for name, (one, y) in parts.items())
    absent = [f"{name} ({one.note})" for name, (one, _) in parts.items() if one.value is None]
    info = METRICS[metric]
    if absent:
        return Measurement(metric, None, None, None, min(g.n for g in groups), "per group", over, groups,
                           note=f"not measurable in {', '.join(absent)}", direction=info.direction)

    worst = max(parts, key=lambda name: (worse(metric, cast(float, parts[name][0].value)), name))
    one = parts[worst][0]
    return replace(one, over=over, groups=groups, n=min(g.n for g in groups), method=f"worst group; {one.method}", note=f"worst {worst}")


def worse(metric: str, value: float) -> float:
    """The larger, the worse the value is: low where higher is better, high where lower is, else far from the ideal."""
    info = METRICS[metric]
    return abs(value - (info.ideal or 0.0)) if info.direction == "target" else -value if info.direction == "higher" else value
