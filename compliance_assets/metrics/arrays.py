"""What may be measured: labels in {0, 1}, scores that are probabilities, one of each per row. Anything else is refused.

A score that is NaN is not a low score, and a label that is 2 is not a negative: measuring them anyway would turn a
broken model into a number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from compliance_assets.metrics.measurement import MeasurementRefused

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def labels(y: Any, name: str = "y") -> Counts:
    """Labels in {0, 1} (or booleans) as int64, shape (n,). 1 is the favourable outcome."""
    array = _numbers(y, name)
    if not np.isin(array, (0.0, 1.0)).all():
        wrong = sorted({float(v) for v in array[~np.isin(array, (0.0, 1.0))]})[:3]
        raise MeasurementRefused(f"{name} holds {wrong}, labels are 0 or 1.", rule="labels are 0 or 1",
                                 value=str(wrong), remedy="Map the favourable outcome to 1 and the other to 0.")
    return array.astype(np.int64)


def scores(score: Any, name: str = "score") -> Floats:
    """Probabilities of the favourable outcome in [0, 1], shape (n,)."""
    array = _numbers(score, name)
    outside = int(np.count_nonzero((array < 0.0) | (array > 1.0)))
    if outside:
        raise MeasurementRefused(f"{outside} of {len(array)} values of {name} lie outside [0, 1].",
                                 rule="scores are probabilities", value=str(outside),
                                 remedy="Score with predict_proba, not with a decision function.")
    return array


def numbers(values: Any, name: str) -> Floats:
    """Finite numbers, shape (n,)."""
    return _numbers(values, name)


def weights_of(weights: Any) -> Floats:
    """Row weights: finite, not negative, not all zero; shape (n,)."""
    array = _numbers(weights, "weights")
    if len(array) and (array.min() < 0 or array.max() <= 0):
        raise MeasurementRefused("Weights must not be negative, nor all zero.", rule="weights are not negative",
                                 value=str(float(array.min())), remedy="Drop the rows instead.")
    return array


def same_rows(**arrays: npt.NDArray[Any] | None) -> int:
    """The common number of rows, or a refusal that names the lengths."""
    lengths = {name: len(array) for name, array in arrays.items() if array is not None}
    if len(set(lengths.values())) != 1:
        raise MeasurementRefused(f"These do not belong to the same rows: {lengths}.", rule="one value for each row",
                                 value=str(lengths), remedy="Hand in columns of one frame.")
    return next(iter(lengths.values()))


def ratio(above: Floats, below: Floats) -> Floats:
    """above / below, NaN where below is not positive: undefined must stay visible."""
    result: Floats = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=result, where=np.asarray(below) > 0)
    return result


def _numbers(values: Any, name: str) -> Floats:
    raw = np.asarray(values)
    if raw.ndim != 1:
        raise MeasurementRefused(f"{name} has shape {raw.shape}, one column is measured at a time.",
                                 rule="one value for each row", value=str(raw.shape), remedy="Hand in one column.")
    try:
        array = raw.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise MeasurementRefused(f"{name} is not a column of numbers ({raw.dtype}).", rule="numbers are measured",
                                 value=str(raw.dtype), remedy="Encode it, and treat nulls, first.") from error
    broken = int(np.count_nonzero(~np.isfinite(array)))
    if broken:
        raise MeasurementRefused(f"{broken} of {len(array)} values of {name} are not finite numbers.",
                                 rule="only finite numbers are measured", value=str(broken),
                                 remedy="Find out why the model or the data gives NaN; do not fill it in.")
    return array
