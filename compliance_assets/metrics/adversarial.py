"""How many of those who were refused would be accepted after small changes that they can make or claim?

Only features that people can move are moved, each by at most a declared step inside its declared range; every direction is tried by
itself, then the best of each together (a greedy search, Kireev, Kulynych, Troncoso 2023 ask the same of tables with costs). It is a
lower bound of what somebody who knows the model reaches. AI Act Art. 15(5): inputs made to mislead the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.clusters import Clusters, share_of
from compliance_assets.metrics.groups import expected_names, membership
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused
from compliance_assets.metrics.robustness import Inputs

if TYPE_CHECKING:
    import polars as pl

_NAME = "adversarial_success_rate"


def measure_adversarial(predict: Callable[[pl.DataFrame], Any], frame: pl.DataFrame, score: Any, threshold: float, mutable: Sequence[str],
                        level: float, inputs: Inputs, *, attributes: Mapping[str, Any] | None = None, over: Sequence[str] = (),
                        expected_groups: Mapping[str, Sequence[str]] | None = None, seed: int = 7,
                        max_rows: int = 20_000, whose: Clusters | None = None) -> tuple[Measurement, ...]:
    """Share of the rows below `threshold` that a change of `mutable` features brings above it; over an attribute the worst group's.

    score: what the model gave the rows, shape (n,). `level`: the step, in standard deviations of the column; a category may become
    any other, a truth its opposite. At most `max_rows` refused rows are asked, drawn by `seed`. Wilson; where rows belong together
    (`whose`), clusters are resampled. Detail: the step and how many were accepted by one feature alone.
    """
    absent = sorted(set(mutable) - set(frame.columns))
    if absent or not mutable:
        raise MeasurementRefused(f"Features to move are not in the frame: {', '.join(absent) or 'none is named'}.",
                                 rule="declared inputs are measured", value=", ".join(absent), remedy="Name features of the model.")
    given = arrays.numbers(score, "score")
    arrays.same_rows(frame=np.empty(frame.height), score=given)
    members = {attribute: membership(attribute, attributes or {}) for attribute in over}
    rows = np.flatnonzero(given < threshold)
    if len(rows) > max_rows:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size=max_rows, replace=False))
    asked, alone, together = frame[rows], np.zeros(len(rows), dtype=np.bool_), np.zeros(len(rows), dtype=np.bool_)
    if len(rows):
        moved = asked
        for name in sorted(mutable):
            column, best = asked[name], given[rows].copy()
            for other in _moves(frame[name], asked[name], level, inputs):
                reached = arrays.numbers(predict(asked.with_columns(other)), "the model's score")
                column = _where(reached > best, other, column)
                best = np.maximum(best, reached)
            alone |= best >= threshold
            moved = moved.with_columns(column)
        together = arrays.numbers(predict(moved), "the model's score") >= threshold
    success = alone | together
    detail = (("level", level), ("accepted_by_one_feature", float(alone.sum())))
    everybody = np.ones(len(rows), dtype=np.bool_)
    own = None if whose is None else whose.part(rows)
    method = share_of(success, own, everybody)[1]
    measured = [_over("all", [_group("all", success, own, everybody)], detail, method)]
    for attribute, member in members.items():
        names = sorted({*map(str, member.tolist()), *(() if expected_groups is None else expected_names(attribute, expected_groups))})
        measured.append(_over(attribute, [_group(name, success, own, member[rows] == name) for name in names], detail, method))
    return tuple(measured)


def _moves(whole: pl.Series, series: pl.Series, level: float, inputs: Inputs) -> Iterator[pl.Series]:
    """The column after each change that is allowed; missing values stay missing."""
    import polars as pl

    if series.dtype == pl.Boolean:
        yield (~series).alias(series.name)
    elif not series.dtype.is_numeric():
        for word in dict(inputs.categories).get(series.name, ()):
            yield pl.select(pl.when(series.is_null()).then(None).otherwise(pl.lit(word)).cast(series.dtype).alias(series.name)).to_series()
    else:
        present = whole.drop_nulls().cast(pl.Float64).to_numpy()
        present = present[np.isfinite(present)]
        if not len(present):
            return
        mean = math.fsum(present.tolist()) / len(present)
        step = level * math.sqrt(math.fsum(np.square(present - mean).tolist()) / len(present))
        step = max(1.0, float(round(step))) if series.dtype.is_integer() else step
        lowest, highest = dict(inputs.ranges).get(series.name, (float(present.min()), float(present.max())))
        for sign in (-1.0, 1.0):
            values: Floats = series.cast(pl.Float64).to_numpy()
            known = np.isfinite(values)
            # A value that already lies outside the declared range is moved, not pulled inside.
            after = np.clip(values + sign * step, np.minimum(values, lowest), np.maximum(values, highest))
            yield _where(known, pl.Series(series.name, np.where(known, after, 0.0)).cast(series.dtype), series)


def _where(condition: npt.NDArray[np.bool_], chosen: pl.Series, other: pl.Series) -> pl.Series:
    import polars as pl

    return pl.select(pl.when(pl.Series(condition)).then(chosen).otherwise(other).alias(other.name)).to_series()


def _group(name: str, success: npt.NDArray[np.bool_], whose: Clusters | None, rows: npt.NDArray[np.bool_]) -> GroupMeasurement:
    hits = success[rows]
    lower, upper = share_of(hits, whose, rows)[0] or (None, None)
    return GroupMeasurement(name, float(hits.mean()) if len(hits) else None, lower, upper, len(hits))


def _over(over: str, groups: list[GroupMeasurement], detail: tuple[tuple[str, float], ...], method: str) -> Measurement:
    smallest, direction = min((group.n for group in groups), default=0), metric_info(_NAME).direction
    absent = [group.name for group in groups if group.value is None]
    shown = () if over == "all" else tuple(groups)
    if absent or not groups:
        note = "nobody was refused" + ("" if over == "all" else f" in {', '.join(absent)}")
        return Measurement(_NAME, None, None, None, smallest, method, over, shown, detail, note, direction=direction)
    worst = max(groups, key=lambda group: (group.value or 0.0, group.name))
    return Measurement(_NAME, worst.value, worst.lower, worst.upper, smallest, method if over == "all" else f"worst group; {method}", over,
                       shown, detail, "" if over == "all" else f"worst {worst.name}", direction=direction)
