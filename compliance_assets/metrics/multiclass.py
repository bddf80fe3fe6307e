"""How good are the decisions of a classifier with more than two classes?

Accuracy (Wilson), macro f1 and balanced accuracy (multinomial resampling of the confusion matrix) and log loss (normal
approximation). A class that never occurs in y has no recall; it is not silently left out of a mean: the value is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.intervals import DRAWS, Interval, bootstrap_multinomial, normal_mean, wilson
from compliance_assets.metrics.measurement import Measurement, MeasurementRefused

NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")


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
        metric_info(name, "performance")
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
    statistic = _macro_f1 if name == "macro_f1" else _balanced
    value = float(statistic(confusion.astype(np.float64)))
    if not math.isfinite(value):
        return None, None, "confusion cells", "a declared class does not occur"
    interval, method = bootstrap_multinomial(confusion, statistic, draws=draws, seed=seed)
    return value, interval, method, ""


def _hits(cells: Floats) -> Floats:
    return np.asarray(np.diagonal(cells, axis1=-2, axis2=-1))


def _macro_f1(cells: Floats) -> Floats:
    return np.asarray(arrays.ratio(2 * _hits(cells), cells.sum(-1) + cells.sum(-2)).mean(-1))


def _balanced(cells: Floats) -> Floats:
    return np.asarray(arrays.ratio(_hits(cells), cells.sum(-1)).mean(-1))
