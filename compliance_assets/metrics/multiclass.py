"""How good are the decisions of a classifier with more than two classes?

Accuracy (Wilson); macro f1 and precision, balanced accuracy (which is macro recall) and mcc (multinomial resampling of the
confusion matrix); log loss and Brier score (normal approximation); the area under the curve of each class against the rest,
averaged (DeLong per class, averaged as if they moved together); and the calibration error of the class that was named. Fairness
of one class's decisions is `fairness`, with y and decision as "is it this class?". A class that
never occurs in y has no recall; it is not silently left out of a mean: the value is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.intervals import DRAWS, Interval, bootstrap_multinomial, delong, normal_mean, wilson
from compliance_assets.metrics.measurement import Measurement, MeasurementRefused

NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_precision", "mcc", "log_loss", "brier_score", "macro_roc_auc",
         "top_label_calibration_error")


def measure_multiclass(names: Sequence[str], y: Any, probabilities: Any, classes: Sequence[str], *, draws: int = DRAWS,
                       seed: int = 7) -> tuple[Measurement, ...]:
    """The named metrics. y: class names, shape (n,); probabilities: shape (n, classes), rows adding up to 1.

    The decision is the most probable class, the earlier one of `classes` in a tie.
    """
    place = {name: index for index, name in enumerate(classes)}
    given = [str(value) for value in y]
    unknown = sorted(set(given) - set(place))
    if unknown:
        raise MeasurementRefused(f"Labels outside the declared classes: {', '.join(unknown[:3])}.",
                                 rule="classes are declared", value=", ".join(unknown[:3]),
                                 remedy="Declare every class.")
    label = np.array([place[value] for value in given], dtype=np.int64)
    table = np.asarray(probabilities, dtype=np.float64)
    if table.shape != (len(label), len(classes)):
        raise MeasurementRefused(f"Probabilities have shape {table.shape}, not {(len(label), len(classes))}.",
                                 rule="one probability for each row and class", value=str(table.shape),
                                 remedy="Use predict_proba with the declared classes.")
    arrays.scores(table.reshape(-1), "probabilities")
    if len(label) and np.abs(table.sum(axis=1) - 1).max() > 1e-6:
        raise MeasurementRefused("Probabilities of a row do not add up to 1.", rule="scores are probabilities",
                                 value=str(float(table.sum(axis=1).min())), remedy="Use predict_proba.")
    decided = table.argmax(axis=1) if len(label) else label
    size = len(classes)
    confusion = np.bincount(size * label + decided, minlength=size * size).reshape(size, size).astype(np.int64)
    measured = []
    for name in names:
        metric_info(name, "performance", "calibration")
        if name not in NAMES:
            raise MeasurementRefused(f"{name} is not a metric of a multiclass model.", rule="metrics fit the task",
                                     value=name, remedy=f"Choose one of: {', '.join(NAMES)}.")
        value, interval, method, note = _measure(name, label, table, confusion, draws, seed)
        lower, upper = (None, None) if interval is None else interval
        measured.append(Measurement(name, value, lower, upper, len(label), method, note=note,
                                    direction=metric_info(name).direction))
    return tuple(measured)


def _measure(name: str, label: Any, table: Floats, confusion: Any, draws: int,
             seed: int) -> tuple[float | None, Interval | None, str, str]:
    n = len(label)
    if n == 0:
        return None, None, "none", "no rows"
    if name == "accuracy":
        right = int(np.trace(confusion))
        return right / n, wilson(right, n), "Wilson", ""
    if name == "log_loss":
        taken = np.maximum(table[np.arange(n), label], float(np.finfo(np.float64).eps))
        mean, interval = normal_mean(-np.log(taken))
        return mean, None if interval is None else (max(0.0, interval[0]), interval[1]), \
            "normal approximation of the mean", "" if interval else "no spread: no interval"
    if name == "brier_score":
        truth = np.zeros_like(table)
        truth[np.arange(n), label] = 1.0
        mean, interval = normal_mean(np.square(table - truth).sum(axis=1))
        return mean, None if interval is None else (max(0.0, interval[0]), min(2.0, interval[1])), \
            "sum over classes (0 to 2), normal approximation of the mean", "" if interval else "no spread: no interval"
    if name == "macro_roc_auc":
        return _macro_auc(label, table)
    if name == "top_label_calibration_error":
        from compliance_assets.metrics.calibration import measure_calibration

        named = table.argmax(axis=1)
        one = measure_calibration(("expected_calibration_error",), (named == label).astype(np.int64), table[np.arange(n), named],
                                  draws=draws, seed=seed)[0]
        return one.value, None if one.lower is None or one.upper is None else (one.lower, one.upper), one.method, one.note
    statistic = OF_CELLS[name]
    value = float(statistic(confusion.astype(np.float64)))
    if not math.isfinite(value):
        return None, None, "confusion cells", "only one class, or only one decision, is present" if name == "mcc" else \
            "a declared class was never decided" if name == "macro_precision" else "a declared class does not occur"
    interval, method = bootstrap_multinomial(confusion, statistic, draws=draws, seed=seed)
    return value, interval, method, ""


def _hits(cells: Floats) -> Floats:
    return np.asarray(np.diagonal(cells, axis1=-2, axis2=-1))


def _macro_f1(cells: Floats) -> Floats:
    return np.asarray(arrays.ratio(2 * _hits(cells), cells.sum(-1) + cells.sum(-2)).mean(-1))


def _balanced(cells: Floats) -> Floats:
    return np.asarray(arrays.ratio(_hits(cells), cells.sum(-1)).mean(-1))


def _macro_precision(cells: Floats) -> Floats:
    return np.asarray(arrays.ratio(_hits(cells), cells.sum(-2)).mean(-1))


def _mcc(cells: Floats) -> Floats:
    """Gorodkin 2004: the correlation of two class vectors; of two classes it is Matthews'."""
    n, right = cells.sum((-1, -2)), _hits(cells).sum(-1)
    true, decided = cells.sum(-1), cells.sum(-2)
    spread = np.sqrt(np.maximum(0.0, n * n - (true * true).sum(-1))) * np.sqrt(np.maximum(0.0, n * n - (decided * decided).sum(-1)))
    return arrays.ratio(np.asarray(right * n - (true * decided).sum(-1)), np.asarray(spread))


OF_CELLS = {"macro_f1": _macro_f1, "balanced_accuracy": _balanced, "macro_precision": _macro_precision, "mcc": _mcc}


def _macro_auc(label: Any, table: Floats) -> tuple[float | None, Interval | None, str, str]:
    """Mean over classes; the mean of the classes' limits, which holds however the areas are correlated."""
    method = "DeLong for each class against the rest, mean of the limits"
    areas = [delong((label == index).astype(np.int64), table[:, index]) for index in range(table.shape[1])]
    known = [area for area in areas if area is not None]
    if len(known) < len(areas):
        return None, None, method, "a declared class does not occur, or is the only one"
    limits = [area.interval() for area in known]
    value, there = math.fsum(area.value for area in known) / len(known), [limit for limit in limits if limit is not None]
    if len(there) < len(limits):
        return value, None, method, "a class has one row: no interval"
    lower, upper = (math.fsum(limit[end] for limit in there) / len(there) for end in (0, 1))
    return value, (lower, upper), method, ""
