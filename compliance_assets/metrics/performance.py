"""How good are the scores and the decisions of a binary classifier? Each metric with its 95 % interval.

y is 1 for the favourable outcome, `score` is the probability of it, and a row is decided favourably when
score >= threshold. Intervals: DeLong for the AUC, Wilson for rates, normal approximation for mean losses, multinomial
resampling of the confusion cells for f1, mcc and balanced accuracy. Regression and more than two classes: `regression`
and `multiclass`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Counts, Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.intervals import (
    DRAWS,
    Z95,
    Interval,
    bootstrap_multinomial,
    delong,
    delong_paired,
    normal_mean,
    wilson,
)
from compliance_assets.metrics.measurement import Measurement, MeasurementRefused

# numerator and denominator of each rate, as (y, decision) cells
_RATES = {
    "accuracy": (((0, 0), (1, 1)), ((0, 0), (0, 1), (1, 0), (1, 1)), "no rows"),
    "precision": (((1, 1),), ((0, 1), (1, 1)), "nothing was decided favourably"),
    "recall": (((1, 1),), ((1, 0), (1, 1)), "no row has label 1"),
    "specificity": (((0, 0),), ((0, 0), (0, 1)), "no row has label 0"),
}
_SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class _Scored:
    """Checked inputs of one measurement."""

    y: Counts
    score: Floats
    weights: Floats | None
    cells: Floats  # (2, 2): label, decision; weighted if weights are given
    effective_n: float  # n, or Kish's effective sample size
    draws: int
    seed: int
    costs: tuple[float, float] | None = None  # of a row decided favourably that should not be, and of the opposite


def measure_performance(names: Sequence[str], y: Any, score: Any, threshold: float, weights: Any = None, *,
                        draws: int = DRAWS, seed: int = 7, costs: tuple[float, float] | None = None) -> tuple[Measurement, ...]:
    """The named metrics, in the order named.

    y, score, weights: shape (n,). Refuses (`MeasurementRefused`) labels outside {0, 1}, scores outside [0, 1] or not
    finite, lengths that differ and unknown names. A metric that is undefined here (one class only, no rows, nothing
    selected) has value None and a note. With weights, rates use Kish's effective sample size; metrics whose interval
    method knows no weights come without an interval, and AUC and average precision are refused. `costs`, for cost_per_row only:
    of a false positive and of a false negative, 1 being the favourable outcome.
    """
    checked_y, checked_score = arrays.labels(y), arrays.scores(score)
    checked_weights = None if weights is None else arrays.weights_of(weights)
    n = arrays.same_rows(y=checked_y, score=checked_score, weights=checked_weights)
    decision = (checked_score >= threshold).astype(np.int64)
    place = 2 * checked_y + decision
    if checked_weights is None:
        cells, effective = np.bincount(place, minlength=4).astype(np.float64), float(n)
    else:
        cells = np.array([math.fsum(checked_weights[place == cell].tolist()) for cell in range(4)])
        total = math.fsum(checked_weights.tolist())
        effective = total * total / math.fsum(np.square(checked_weights).tolist()) if n else 0.0
    scored = _Scored(checked_y, checked_score, checked_weights, cells.reshape(2, 2), effective, draws, seed, costs)
    return tuple(_measure(name, scored) for name in names)


def roc_auc_change(y: Any, score: Any, previous_score: Any) -> Measurement:
    """AUC of `score` minus AUC of `previous_score` on the same rows; paired DeLong interval. Negative is worse."""
    checked_y, new, old = arrays.labels(y), arrays.scores(score), arrays.scores(previous_score, "previous_score")
    n = arrays.same_rows(y=checked_y, score=new, previous_score=old)
    paired = delong_paired(checked_y, new, old)
    if paired is None:
        return _measurement("roc_auc_change", None, None, n, "paired DeLong", "only one class is present")
    change, variance = paired
    if min(int(checked_y.sum()), n - int(checked_y.sum())) < 2:
        return _measurement("roc_auc_change", change, None, n, "paired DeLong", "a class has one row: no interval")
    half = Z95 * math.sqrt(variance)
    interval = (max(-1.0, change - half), min(1.0, change + half))
    return _measurement("roc_auc_change", change, interval, n, "paired DeLong")


def _measure(name: str, scored: _Scored) -> Measurement:
    metric_info(name, "performance")
    n = len(scored.y)
    if n == 0:
        return _measurement(name, None, None, 0, "none", "no rows")
    if name in _RATES:
        return _rate(name, scored)
    if name == "roc_auc":
        return _roc_auc(scored)
    if name == "average_precision":
        return _average_precision(scored)
    if name == "brier_score":
        mean, interval = normal_mean(np.square(scored.score - scored.y), scored.weights)
        if interval is None:
            # No spread to go by. No variable on [0, 1] spreads more than a yes-or-no one, so Wilson's interval is safe.
            return _measurement(name, mean, wilson(mean * n, n), n, "Wilson, as all losses are equal")
        return _measurement(name, mean, _cut(interval, 0.0, 1.0), n, "normal approximation of the mean")
    if name == "log_loss":
        return _log_loss(scored)
    if name == "cost_per_row":
        return _cost(scored)
    if name in OF_CELLS:
        return _of_cells(name, scored)
    raise MeasurementRefused(f"{name} is not a metric of a binary classifier.", rule="metrics fit the task", value=name,
                             remedy="Use it with the task it belongs to.")


def _rate(name: str, scored: _Scored) -> Measurement:
    above, below, why_none = _RATES[name]
    numerator = math.fsum(float(scored.cells[cell]) for cell in above)
    denominator = math.fsum(float(scored.cells[cell]) for cell in below)
    if denominator == 0:
        return _measurement(name, None, None, len(scored.y), "Wilson", why_none)
    share = numerator / denominator
    total = float(scored.cells.sum())
    base = denominator if scored.weights is None else scored.effective_n * denominator / total
    method = "Wilson" if scored.weights is None else "Wilson on Kish's effective sample size"
    return _measurement(name, share, wilson(share * base if scored.weights is not None else numerator, base),
                        len(scored.y), method)


def _roc_auc(scored: _Scored) -> Measurement:
    _no_weights("roc_auc", scored)
    auc = delong(scored.y, scored.score)
    if auc is None:
        return _measurement("roc_auc", None, None, len(scored.y), "DeLong", "only one class is present")
    interval = auc.interval()
    perfect = auc.variance == 0.0 and auc.value in (0.0, 1.0)
    return _measurement(
        "roc_auc", auc.value, interval, len(scored.y),
        "DeLong; Wilson on the smaller class, as separation is perfect" if perfect and interval else "DeLong",
        "" if interval else "a class has one row: no interval",
    )


def _average_precision(scored: _Scored) -> Measurement:
    _no_weights("average_precision", scored)
    positives = int(scored.y.sum())
    if positives == 0:
        return _measurement("average_precision", None, None, len(scored.y), "logit", "no row has label 1")
    levels, place = np.unique(scored.score, return_inverse=True)
    hits = np.bincount(place[scored.y == 1], minlength=len(levels))[::-1]
    found, taken = np.cumsum(hits), np.cumsum(np.bincount(place, minlength=len(levels))[::-1])
    value = min(1.0, math.fsum((hits / positives * (found / taken)).tolist()))
    if value == 1.0:
        interval, method = wilson(positives, positives), "Wilson on the positives, as separation is perfect"
    else:
        # Boyd, Eng, Page 2013: normal on the logit scale, with the positives as the sample size.
        centre, half = math.log(value / (1 - value)), Z95 / math.sqrt(positives * value * (1 - value))
        interval, method = (_expit(centre - half), _expit(centre + half)), "logit (Boyd et al. 2013)"
    return _measurement("average_precision", value, interval, len(scored.y), method)


def _log_loss(scored: _Scored) -> Measurement:
    given = np.where(scored.y == 1, scored.score, 1.0 - scored.score)
    mean, interval = normal_mean(-np.log(np.maximum(given, _SMALLEST_PROBABILITY)), scored.weights)
    impossible = int(np.count_nonzero(given < _SMALLEST_PROBABILITY))
    note = f"{impossible} rows came out as the score called impossible (loss capped at 36.04)" if impossible else \
        "" if interval else "no spread: no interval"
    return _measurement("log_loss", mean, _cut(interval, 0.0, math.inf), len(scored.y),
                        "normal approximation of the mean", note)


def _f1(cells: Floats) -> Floats:
    hit = 2 * cells[..., 1, 1]
    return arrays.ratio(hit, hit + cells[..., 0, 1] + cells[..., 1, 0])


def _balanced(cells: Floats) -> Floats:
    recall = arrays.ratio(cells[..., 1, 1], cells[..., 1, :].sum(-1))
    return (recall + arrays.ratio(cells[..., 0, 0], cells[..., 0, :].sum(-1))) / 2


def _mcc(cells: Floats) -> Floats:
    tn, fp, fn, tp = cells[..., 0, 0], cells[..., 0, 1], cells[..., 1, 0], cells[..., 1, 1]
    return arrays.ratio(tp * tn - fp * fn, np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn))


OF_CELLS = {
    "f1": (_f1, "nothing is positive, neither by label nor by decision"),
    "balanced_accuracy": (_balanced, "only one class is present"),
    "mcc": (_mcc, "only one class, or only one decision, is present"),
}


def _cost(scored: _Scored) -> Measurement:
    """Mean cost of the rows decided wrongly, from the confusion cells."""
    if scored.costs is None or min(scored.costs) < 0 or not all(map(math.isfinite, scored.costs)):
        raise MeasurementRefused("cost_per_row needs what each kind of error costs.", rule="costs are declared", value=str(scored.costs),
                                 remedy="Declare evaluation.costs: false_positive and false_negative, none below 0.")
    n, total = len(scored.y), float(scored.cells.sum())
    wrong = float(scored.cells[0, 1]), float(scored.cells[1, 0])
    value = math.fsum(cost * rows for cost, rows in zip(scored.costs, wrong, strict=True)) / total
    if scored.weights is not None:
        return _measurement("cost_per_row", value, None, n, "weighted confusion cells", "no interval with weights")
    of_favourable, of_unfavourable = scored.costs
    interval, method = bootstrap_multinomial(
        scored.cells.astype(np.int64), draws=scored.draws, seed=scored.seed,
        statistic=lambda cells: np.asarray((cells[..., 0, 1] * of_favourable + cells[..., 1, 0] * of_unfavourable) / cells.sum((-1, -2))))
    return _measurement("cost_per_row", value, interval, n, method)


def _of_cells(name: str, scored: _Scored) -> Measurement:
    statistic, why_none = OF_CELLS[name]
    value = float(statistic(scored.cells))
    if not math.isfinite(value):
        return _measurement(name, None, None, len(scored.y), "confusion cells", why_none)
    if scored.weights is not None:
        return _measurement(name, value, None, len(scored.y), "weighted confusion cells", "no interval with weights")
    interval, method = bootstrap_multinomial(scored.cells.astype(np.int64), statistic, draws=scored.draws,
                                             seed=scored.seed)
    return _measurement(name, value, interval, len(scored.y), method)


def _no_weights(name: str, scored: _Scored) -> None:
    if scored.weights is not None:
        raise MeasurementRefused(f"{name} is not measured with weights here.", rule="ranking metrics take whole rows",
                                 value=name, remedy="Measure it without weights.")


def _cut(interval: Interval | None, lowest: float, highest: float) -> Interval | None:
    return None if interval is None else (max(lowest, interval[0]), min(highest, interval[1]))


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _measurement(name: str, value: float | None, interval: Interval | None, n: int, method: str,
                 note: str = "") -> Measurement:
    lower, upper = (None, None) if interval is None or value is None else interval
    return Measurement(name, value, lower, upper, n, method, note=note, direction=metric_info(name).direction)
