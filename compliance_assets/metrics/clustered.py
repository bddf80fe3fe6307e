"""A measurement where rows belong together: the same value, its interval made again by resampling clusters.

The value of a metric does not depend on who its rows belong to; how sure we are of it does. Each function here takes what was
measured and gives it back with the interval of `clusters`, the method named. A metric that has none is given back without any
interval, and says so: one that counts rows would be too short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from compliance_assets.metrics import calibration, clusters, multiclass, performance
from compliance_assets.metrics.arrays import Counts, Floats
from compliance_assets.metrics.clusters import Clusters, Found
from compliance_assets.metrics.measurement import Measurement
from compliance_assets.metrics.reliability import BINS, curve_of


@dataclass(frozen=True)
class Sampled:
    """The rows behind a measurement, shape (n,) each: whose they are, the label (1 favourable), the score, what it decides.

    `outcome`: a number that was predicted, or the place among the classes; `table`: each class's probability, (n, classes).
    """

    clusters: Clusters
    y: Counts
    score: Floats
    threshold: float
    outcome: Any = None
    table: Any = None
    costs: tuple[float, float] | None = None

    @property
    def decision(self) -> Counts:
        return (self.score >= self.threshold).astype(np.int64)

    def part(self, rows: Any) -> Sampled:
        """These rows alone."""
        outcome, table = (None if one is None else one[rows] for one in (self.outcome, self.table))
        return replace(self, clusters=self.clusters.part(rows), y=self.y[rows], score=self.score[rows], outcome=outcome, table=table)


def by_clusters(one: Measurement, rows: Sampled) -> Measurement:
    """A metric over all of these rows."""
    if one.value is None:
        return one
    of_classes = rows.table is not None and one.metric in multiclass.NAMES
    made = (_OF_CLASSES if of_classes else _OF_NUMBERS if rows.outcome is not None and rows.table is None else _OF_SCORES)
    return with_interval(one, made[one.metric](rows)) if one.metric in made else without_interval(one, rows.clusters)


def known(metric: str) -> bool:
    """Whether a metric over all rows has an interval by clusters."""
    return metric in _OF_SCORES or metric in _OF_CLASSES or metric in _OF_NUMBERS


def with_interval(one: Measurement, found: Found) -> Measurement:
    """The measurement with this interval and method instead of its own; reaching to the value, as every interval does."""
    interval, method = found
    if interval is None or one.value is None:
        return replace(one, lower=None, upper=None, method=method, note="; ".join(filter(None, (one.note, "no interval"))))
    return replace(one, lower=min(interval[0], one.value), upper=max(interval[1], one.value), method=method,
                   note="" if "no interval" in one.note else one.note)


def without_interval(one: Measurement, rows: Clusters) -> Measurement:
    """The value alone, and why: rows that belong together make every interval that counts them too short."""
    why = f"no interval: rows belong together by {rows.by}, and this metric has none that resamples clusters"
    groups = tuple(replace(group, lower=None, upper=None) for group in one.groups)
    kept = tuple((name, value) for name, value in one.detail if not name.endswith(("_lower", "_upper", "_p")) and name != "permutations")
    told = one.note if one.lower is None and "no interval" in one.note else "; ".join(filter(None, (one.note, why)))
    return replace(one, lower=None, upper=None, method="the value alone", groups=groups, detail=kept, note=told)


# ---------------------------------------------------------------------------------------------------------- all metrics


def _rate(hits: Callable[[Sampled], Any], base: Callable[[Sampled], Any] | None = None) -> Callable[[Sampled], Found]:
    return lambda rows: clusters.rate(hits(rows), rows.clusters, None if base is None else base(rows))


def _mean(values: Callable[[Sampled], Any]) -> Callable[[Sampled], Found]:
    return lambda rows: clusters.mean(values(rows), rows.clusters)


def _confusion(statistic: Callable[[Floats], Floats]) -> Callable[[Sampled], Found]:
    """Of the counts of (label, decision)."""
    return lambda rows: clusters.resampled(rows.clusters.counts(2 * rows.y + rows.decision, (2, 2)), statistic, rows.clusters)


def _classes(statistic: Callable[[Floats], Floats]) -> Callable[[Sampled], Found]:
    """Of the confusion matrix of several classes."""
    def found(rows: Sampled) -> Found:
        k = rows.table.shape[1]
        return clusters.resampled(rows.clusters.counts(k * rows.outcome + rows.table.argmax(axis=1), (k, k)), statistic, rows.clusters)

    return found


def _cost(rows: Sampled) -> Found:
    of_favourable, of_unfavourable = rows.costs or (0.0, 0.0)
    return _mean(lambda rows: of_favourable * (rows.decision > rows.y) + of_unfavourable * (rows.decision < rows.y))(rows)


def _sums(statistic: Callable[..., Floats], columns: Callable[[Sampled], tuple[Any, ...]]) -> Callable[[Sampled], Found]:
    """Of sums of columns, the number of rows last."""
    def found(rows: Sampled) -> Found:
        table = rows.clusters.sums(*columns(rows), np.ones(len(rows.y)))
        return clusters.resampled(table, lambda drawn: statistic(*np.moveaxis(drawn, -1, 0)), rows.clusters, of_counts=False)

    return found


def binned(y: Counts, score: Floats, whose: Clusters) -> tuple[Floats, Floats]:
    """Rows by (block, bin of the score, label), and the bins' mean scores."""
    bins = curve_of(y, score, BINS).bins
    place = np.searchsorted(np.array([one.lowest for one in bins]), score, side="right") - 1
    return whose.counts(2 * place + y, (len(bins), 2)), np.array([one.mean_score for one in bins])


def _calibration(of: Callable[[Floats], Callable[[Floats], Floats]]) -> Callable[[Sampled], Found]:
    def found(rows: Sampled) -> Found:
        table, means = binned(rows.y, rows.score, rows.clusters)
        return clusters.resampled(table, of(means), rows.clusters)

    return found


def _debiased(rows: Sampled) -> Found:
    """Pivoted, as without clusters: the draws scatter around the plain error as that scatters around the truth."""
    interval, method = _calibration(calibration.expected_gap)(rows)
    if interval is None:
        return None, method
    plain = curve_of(rows.y, rows.score, BINS).expected_error()
    return (max(0.0, 2 * plain - interval[1]), max(0.0, 2 * plain - interval[0])), f"pivoted {method}"


def _top_label(rows: Sampled) -> Found:
    named = rows.table.argmax(axis=1)
    given = rows.table[np.arange(len(named)), named]
    return _calibration(calibration.expected_gap)(replace(rows, y=(named == rows.outcome).astype(np.int64), score=given))


def _macro_area(rows: Sampled) -> Found:
    """Mean of the classes' limits, which holds however the areas go together."""
    found = [clusters.area((rows.outcome == place).astype(np.int64), rows.table[:, place], rows.clusters)
             for place in range(rows.table.shape[1])]
    limits = [interval for interval, _ in found if interval is not None]
    if len(limits) < len(found):
        return None, next(method for interval, method in found if interval is None)
    lower, upper = (float(np.mean([limit[end] for limit in limits])) for end in (0, 1))
    return (lower, upper), f"mean of the limits of each class against the rest; {found[0][1]}"


def _given(rows: Sampled) -> Any:
    """The probability that was given to what happened, at least the smallest that a computer tells from 0."""
    given = np.where(rows.y == 1, rows.score, 1.0 - rows.score) if rows.table is None else rows.table[np.arange(len(rows.y)), rows.outcome]
    return np.maximum(given, float(np.finfo(np.float64).eps))


def _truth(rows: Sampled) -> Any:
    return np.eye(rows.table.shape[1])[rows.outcome]


def _error(rows: Sampled) -> Any:
    return rows.score - rows.outcome


def _relative(rows: Sampled) -> Found:
    there = rows.outcome != 0
    return clusters.mean(np.abs(_error(rows)[there]) / np.abs(rows.outcome[there]), rows.clusters.part(there))


def _explained(square: Floats, y: Floats, y_square: Floats, n: Floats) -> Floats:
    away = y_square - y * y / n
    return np.where(away > 0, 1 - square / np.where(away > 0, away, 1.0), np.nan)


def _slope(x: Floats, z: Floats, both: Floats, x_square: Floats, n: Floats) -> Floats:
    away = x_square - x * x / n
    return np.where(away > 0, (both - x * z / n) / np.where(away > 0, away, 1.0), np.nan)


def _from_its_mean(values: Any) -> Any:
    return values - float(np.mean(values))


_OF_SCORES: dict[str, Callable[[Sampled], Found]] = {
    "accuracy": _rate(lambda rows: rows.decision == rows.y),
    "precision": _rate(lambda rows: rows.y == 1, lambda rows: rows.decision == 1),
    "recall": _rate(lambda rows: rows.decision == 1, lambda rows: rows.y == 1),
    "specificity": _rate(lambda rows: rows.decision == 0, lambda rows: rows.y == 0),
    **{name: _confusion(statistic) for name, (statistic, _) in performance.OF_CELLS.items()},
    "cost_per_row": _cost,
    "roc_auc": lambda rows: clusters.area(rows.y, rows.score, rows.clusters),
    "brier_score": _mean(lambda rows: np.square(rows.score - rows.y)),
    "log_loss": _mean(lambda rows: -np.log(_given(rows))),
    "expected_calibration_error": _calibration(calibration.expected_gap),
    "maximum_calibration_error": _calibration(calibration.largest_gap),
    "expected_calibration_error_debiased": _debiased,
    "calibration_in_the_large": _mean(lambda rows: rows.y - rows.score),
}
_OF_CLASSES: dict[str, Callable[[Sampled], Found]] = {
    "accuracy": _rate(lambda rows: rows.table.argmax(axis=1) == rows.outcome),
    **{name: _classes(statistic) for name, statistic in multiclass.OF_CELLS.items()},
    "log_loss": _mean(lambda rows: -np.log(_given(rows))),
    "brier_score": _mean(lambda rows: np.square(rows.table - _truth(rows)).sum(axis=1)),
    "macro_roc_auc": _macro_area,
    "top_label_calibration_error": _top_label,
}
_OF_NUMBERS: dict[str, Callable[[Sampled], Found]] = {
    "mae": _mean(lambda rows: np.abs(_error(rows))),
    "bias": _mean(_error),
    "mape": _relative,
    "rmse": _sums(lambda square, n: np.sqrt(square / n), lambda rows: (np.square(_error(rows)),)),
    "r2": _sums(_explained, lambda rows: (np.square(_error(rows)), away := _from_its_mean(rows.outcome), np.square(away))),
    "prediction_slope": _sums(_slope, lambda rows: (x := _from_its_mean(rows.score), z := _from_its_mean(rows.outcome), x * z, x * x)),
}
