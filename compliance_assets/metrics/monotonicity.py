"""Does the score go the way that it must? One feature is raised by a step, everything else stays, and rows that answer wrongly count.

A directional rule is a promise about the world ("more late payments never help"), and an invariance ("the branch's number changes
nothing") is one too. Every row asks about itself, so a rule that holds on average and fails for a few is found (metamorphic
testing, Chen et al. 2018; ISO/IEC 25058 ch. 10 gives methods, not limits).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.clusters import Clusters, share_of
from compliance_assets.metrics.groups import expected_names, membership
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused

if TYPE_CHECKING:
    import polars as pl

_NAME = "monotonicity_violation_rate"


@dataclass(frozen=True)
class Rule:
    """What a feature may do to the score.

    `step` is in standard deviations of the column; a category goes to the next of `categories` as declared, a truth from false to
    true. `expected`: the score must not fall (`rising`), not rise (`falling`), or not move (`constant`), by more than `tolerance`.
    """

    feature: str
    expected: Literal["rising", "falling", "constant"]
    step: float
    tolerance: float
    highest: float | None = None
    categories: tuple[str, ...] = ()


def measure_monotonicity(rule: Rule, predict: Callable[[pl.DataFrame], Any], frame: pl.DataFrame, *,
                         attributes: Mapping[str, Any] | None = None, over: Sequence[str] = (),
                         expected_groups: Mapping[str, Sequence[str]] | None = None, seed: int = 7,
                         max_rows: int = 20_000, whose: Clusters | None = None) -> tuple[Measurement, ...]:
    """Share of rows that break the rule, over all rows and over each attribute (the worst group's). Wilson; where rows belong together
    (`whose`), clusters are resampled.

    A row whose value is missing, or cannot be raised any further, asks nothing and is not in `n`. Detail: the largest breach.
    """
    if rule.feature not in frame.columns:
        raise MeasurementRefused(f"{rule.feature} is not among the model's features.", rule="declared inputs are measured",
                                 value=rule.feature, remedy="Name a registered feature.")
    members = {attribute: membership(attribute, attributes or {}) for attribute in over}
    if frame.height > max_rows:
        chosen = np.sort(np.random.default_rng(seed).choice(frame.height, size=max_rows, replace=False))
        frame, members = frame[chosen], {name: member[chosen] for name, member in members.items()}
        whose = None if whose is None else whose.part(chosen)
    raised, asked = _raised(frame[rule.feature], rule)
    moved = np.zeros(frame.height)
    if asked.any():
        rows = np.flatnonzero(asked)
        before, after = (arrays.numbers(predict(one[rows]), "the model's score") for one in (frame, frame.with_columns(raised)))
        moved[rows] = after - before
    breach = {"rising": -moved, "falling": moved, "constant": np.abs(moved)}[rule.expected]
    detail = (("level", rule.step), ("tolerance", rule.tolerance), ("largest_breach", max(0.0, float(breach.max(initial=0.0)))))
    wrong = breach > rule.tolerance
    measured = [_rate("all", wrong[asked], detail, whose, asked)]
    for attribute, member in members.items():
        names = sorted({*map(str, member.tolist()), *(() if expected_groups is None else expected_names(attribute, expected_groups))})
        groups = tuple(_group(name, wrong, whose, asked & (member == name)) for name in names)
        measured.append(_worst(attribute, groups, detail, measured[0].method))
    return tuple(measured)


def _raised(series: pl.Series, rule: Rule) -> tuple[pl.Series, npt.NDArray[np.bool_]]:
    """The column with every value that can be raised, raised; and which those are."""
    import polars as pl

    if series.dtype == pl.Boolean:
        can = series.is_not_null() if rule.expected == "constant" else (~series).fill_null(False)
        return (~series).alias(series.name), can.to_numpy().astype(np.bool_)
    if not series.dtype.is_numeric():
        words, given = list(rule.categories), series.cast(pl.String)
        following = dict(zip(words, [*words[1:], words[0]], strict=True)) if rule.expected == "constant" else \
            dict(pairwise(words))
        after = given.replace_strict(following, default=None, return_dtype=pl.String)
        return after.fill_null(given).cast(series.dtype), after.is_not_null().to_numpy().astype(np.bool_)
    values: Floats = series.cast(pl.Float64).to_numpy()
    known = np.isfinite(values)
    present = values[known]
    if not len(present):
        return series, known
    mean = math.fsum(present.tolist()) / len(present)
    step = rule.step * math.sqrt(math.fsum(np.square(present - mean).tolist()) / len(present))
    whole = series.dtype.is_integer()
    step = max(1.0, float(round(step))) if whole else step
    top = rule.highest if rule.highest is not None else float(present.max())
    higher = np.where(known, np.minimum(values + step, np.maximum(values, top)), values)
    asked = known & (higher > values)
    changed = pl.Series(series.name, np.where(asked, higher, 0.0)).cast(series.dtype)
    return pl.select(pl.when(pl.Series(asked)).then(changed).otherwise(series).alias(series.name)).to_series(), asked


def _rate(over: str, wrong: npt.NDArray[np.bool_], detail: tuple[tuple[str, float], ...], whose: Clusters | None,
          rows: npt.NDArray[np.bool_]) -> Measurement:
    n, direction = len(wrong), metric_info(_NAME).direction
    interval, method = share_of(wrong, whose, rows)
    lower, upper = interval or (None, None)
    return Measurement(_NAME, float(wrong.mean()) if n else None, lower, upper, n, method, over, detail=detail,
                       note="" if n else "no row has a value that can be raised", direction=direction)


def _group(name: str, wrong: npt.NDArray[np.bool_], whose: Clusters | None, rows: npt.NDArray[np.bool_]) -> GroupMeasurement:
    hits = wrong[rows]
    lower, upper = share_of(hits, whose, rows)[0] or (None, None)
    return GroupMeasurement(name, float(hits.mean()) if len(hits) else None, lower, upper, len(hits))


def _worst(over: str, groups: tuple[GroupMeasurement, ...], detail: tuple[tuple[str, float], ...], method: str) -> Measurement:
    smallest, direction = min((group.n for group in groups), default=0), metric_info(_NAME).direction
    absent = [group.name for group in groups if group.value is None]
    if absent or not groups:
        return Measurement(_NAME, None, None, None, smallest, f"{method} per group", over, groups, detail, direction=direction,
                           note=f"no row that can be raised in {', '.join(absent)}" if absent else "no rows")
    worst = max(groups, key=lambda group: (group.value or 0.0, group.name))
    return Measurement(_NAME, worst.value, worst.lower, worst.upper, smallest, f"worst group; {method}", over, groups, detail,
                       f"worst {worst.name}", direction=direction)
