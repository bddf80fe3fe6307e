"""What is predicted: one of two outcomes, one of several classes, or a number; and which of it is good for the person concerned.

Labels are kept as the model learns them. Two outcomes: 1 the favourable one, 0 the other. Several classes: whole numbers, the
favourable classes 1, 2, … and the others 0, −1, … in the order of their declaration, so that the sign says what is good. A
number: as it is; it is favourable from `favourable_from` on. A decision is favourable or not in all three, so everybody can ask
whether it is so for everyone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compliance_assets.errors import StageError
from compliance_assets.policy.system import Target
from compliance_assets.sources.partition import favourable

if TYPE_CHECKING:
    import polars as pl


def class_codes(target: Target) -> dict[str, int]:
    """The number that a class is learned as."""
    good = [name for name in target.classes or () if name in (target.favourable_classes or ())]
    others = [name for name in target.classes or () if name not in good]
    return {**{name: place + 1 for place, name in enumerate(good)}, **{name: -place for place, name in enumerate(others)}}


def learned(column: pl.Series, target: Target) -> pl.Series:
    """The target as it is learned: int8, or float64 for a number; null where there is no label, or one that nobody declared."""
    import polars as pl

    if target.task == "regression":
        if not column.dtype.is_numeric():
            raise StageError(f"The target {column.name} is {column.dtype}, but a number is to be predicted.", rule="favourable label",
                             value=str(column.dtype), remedy="Give the column a numeric type in the contract.")
        values = column.cast(pl.Float64)
        return pl.select(pl.when(values.is_finite()).then(values)).to_series().rename("label")
    if target.task == "multiclass":
        codes = class_codes(target)
        return column.cast(pl.String).replace_strict(codes, default=None, return_dtype=pl.Int8).rename("label")
    assert target.favourable is not None  # the declaration refuses two outcomes without it
    return favourable(column, target.favourable).cast(pl.Int8).rename("label")


def is_good(column: pl.Series, target: Target) -> pl.Series:
    """Whether each label is favourable; null where there is none."""
    labels = learned(column, target)
    return labels >= target.favourable_from if target.favourable_from is not None else labels > 0


def good(labels: npt.NDArray[Any], target: Target) -> npt.NDArray[np.int8]:
    """1 where a learned label is favourable, else 0; (n,)."""
    return np.asarray(labels >= target.favourable_from if target.favourable_from is not None else labels > 0, dtype=np.int8)


def aimed_at(labels: npt.NDArray[Any], target: Target) -> npt.NDArray[Any]:
    """What a score is an estimate of: a number as it is, else 1 where a learned label is favourable; (n,)."""
    return labels if target.task == "regression" else good(labels, target)


def said(target: Target) -> str:
    """What counts as favourable, in words."""
    if target.favourable_from is not None:
        return f"labels from {target.favourable_from:g} on"
    return f"labels equal to {target.favourable!r}" if target.favourable_classes is None else \
        f"labels among {', '.join(target.favourable_classes)}"


def as_text(labels: npt.NDArray[Any], target: Target) -> npt.NDArray[Any]:
    """Learned labels of several classes by their names; (n,)."""
    names = {code: name for name, code in class_codes(target).items()}
    lowest = min(names)
    table = np.array([names[code] for code in range(lowest, max(names) + 1)], dtype=object)
    found: npt.NDArray[Any] = table[np.asarray(labels, dtype=np.int64) - lowest]
    return found


def class_table(estimator: Any, frame: pl.DataFrame, target: Target) -> npt.NDArray[np.float64]:
    """The probability of each class, in the order of declaration; (n, classes). A class that was never learned is refused."""
    from compliance_assets.modelfile import probabilities

    table, learned_as = probabilities(estimator, frame)
    codes: Mapping[str, int] = class_codes(target)
    absent = [name for name, code in codes.items() if code not in learned_as]
    if absent:
        raise StageError(f"The model never saw the class {', '.join(absent)}.", rule="every class is learned", value=", ".join(absent),
                         remedy="Train on data with every declared class.")
    order: Sequence[str] = target.classes or ()
    return np.ascontiguousarray(table[:, [learned_as.index(codes[name]) for name in order]])


def refuse_other_task(estimator: Any, target: Target) -> None:
    """A number needs a regressor, outcomes need a classifier."""
    from sklearn.base import is_regressor

    kind = f"{type(estimator).__module__}.{type(estimator).__qualname__}"
    if target.task == "regression" and not is_regressor(estimator):
        raise StageError(f"{kind} does not predict numbers.", rule="the estimator fits the task", value=kind,
                         remedy="Choose a regressor, or declare what is favourable as an outcome or as classes.")
    if target.task != "regression" and is_regressor(estimator):
        raise StageError(f"{kind} gives no probabilities.", rule="scores are probabilities", value=kind,
                         remedy="Choose a classifier with predict_proba; or declare favourable_from, if a number is predicted.")
