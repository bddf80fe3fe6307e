"""Does anybody fare worse than under the model in use? The candidate's decisions beside the incumbent's, on the same people.

Two questions that an average hides: does one group lose (`worst_..._change`: each group's rate under the candidate less its
rate under the incumbent, and of these the lowest), and do the groups move apart (`..._difference_change`,
`..._ratio_change`: the comparison of groups under the candidate less the same comparison under the incumbent)?

One pass counts rows by (group, label, incumbent's decision, candidate's decision). Rows are people that both models decided,
so they are drawn together: intervals are percentile intervals of multinomial draws of these cells, which keeps the pairing.
Because the worst group is looked for in every draw, noise alone makes it look worse: the interval errs towards finding harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Counts, Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.fairness import COMPARISONS, extreme_rates, group_rates, is_ratio, rate_of, rates_of, why_not
from compliance_assets.metrics.groups import Cells
from compliance_assets.metrics.intervals import DRAWS, Interval, bootstrap_multinomial, normal_mean
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused

_OWN = {f"worst_{rate}_change": rate
        for rate in ("selection_rate", "true_positive_rate", "positive_predictive_value", "accuracy")}
_GAPS = {f"{name}_change": name for name in COMPARISONS}
NAMES = (*_OWN, *_GAPS)


def measure_against_incumbent(names: Sequence[str], y: Any, decision: Any, incumbent: Any, attributes: Mapping[str, Any],
                              over: Sequence[str], *, expected_groups: Mapping[str, Sequence[str]] | None = None,
                              draws: int = DRAWS, seed: int = 7) -> tuple[Measurement, ...]:
    """Each named change over each attribute or intersection, in that order.

    y, decision and incumbent in {0, 1}, shape (n,), 1 = favourable: the label, what the candidate decides and what the model in
    use decides of the same rows. What `fairness` leaves unmeasured under either model is unmeasured here, with the reason.
    """
    for name in names:
        metric_info(name, "fairness")
        if name not in NAMES:
            raise MeasurementRefused(f"{name} compares no two models.", rule="metrics get their inputs", value=name,
                                     remedy=f"Choose one of: {', '.join(NAMES)}.")
    label, now, before = arrays.labels(y), arrays.labels(decision, "decision"), arrays.labels(incumbent, "incumbent")
    arrays.same_rows(y=label, decision=now, incumbent=before)
    measured = []
    for attribute in over:
        # Rows that the incumbent refused, then rows that it accepted: each half counted as `fairness` counts.
        halves = [Cells.count(attribute, label[before == one], now[before == one],
                              {name: _part(column, before == one) for name, column in attributes.items()}, expected_groups)
                  for one in (0, 1)]
        names_of_groups = tuple(sorted({*halves[0].groups, *halves[1].groups}))
        counts = np.stack([_aligned(half, names_of_groups) for half in halves], axis=2)  # (groups, label, before, now)
        both = Cells(attribute, names_of_groups, counts.sum(axis=3)), Cells(attribute, names_of_groups, counts.sum(axis=2))
        for name in names:
            measured.append(_own(name, counts, *both, draws, seed) if name in _OWN else _gap(name, counts, *both, draws, seed))
    return tuple(measured)


def accuracy_change(y: Any, decision: Any, incumbent: Any, *, draws: int = DRAWS, seed: int = 7) -> Measurement:
    """Share that the candidate decides rightly less the incumbent's share, on the same rows."""
    label, now, before = arrays.labels(y), arrays.labels(decision, "decision"), arrays.labels(incumbent, "incumbent")
    n, direction = arrays.same_rows(y=label, decision=now, incumbent=before), metric_info("accuracy_change").direction
    if n == 0:
        return Measurement("accuracy_change", None, None, None, 0, "none", note="no rows", direction=direction)
    counts = np.bincount(2 * (before == label) + (now == label), minlength=4).reshape(2, 2).astype(np.int64)
    interval, method = bootstrap_multinomial(counts, lambda cells: (cells[..., 0, 1] - cells[..., 1, 0]) / cells.sum((-1, -2)),
                                             draws=draws, seed=seed)
    value = int(counts[0, 1] - counts[1, 0]) / n
    return Measurement("accuracy_change", value, *_ends(interval), n, f"paired, {method}", direction=direction,
                       detail=(("won", float(counts[0, 1])), ("lost", float(counts[1, 0]))))


def brier_score_change(y: Any, score: Any, previous_score: Any) -> Measurement:
    """Brier score less the incumbent's, on the same rows; the normal approximation of the mean of paired differences."""
    label, now, before = arrays.labels(y), arrays.scores(score), arrays.scores(previous_score, "previous_score")
    arrays.same_rows(y=label, score=now, previous_score=before)
    return _mean_change("brier_score_change", np.square(now - label) - np.square(before - label))


def mae_change(y: Any, predicted: Any, previous: Any) -> Measurement:
    """Mean absolute error less the incumbent's, on the same rows; the normal approximation of the mean of paired differences."""
    observed, now, before = arrays.numbers(y, "y"), arrays.numbers(predicted, "predicted"), arrays.numbers(previous, "previous")
    arrays.same_rows(y=observed, predicted=now, previous=before)
    return _mean_change("mae_change", np.abs(now - observed) - np.abs(before - observed))


def _mean_change(name: str, change: Floats) -> Measurement:
    """The mean of paired differences, shape (n,)."""
    n, direction, method = len(change), metric_info(name).direction, "paired, normal approximation of the mean"
    if n == 0:
        return Measurement(name, None, None, None, 0, method, note="no rows", direction=direction)
    mean, interval = normal_mean(change)
    if interval is None and not change.any():
        interval = 0.0, 0.0  # the same answer for every row is no sample of a difference: there is none
    return Measurement(name, mean, *_ends(interval), n, method, direction=direction,
                       note="" if interval else "too few rows, or no spread: no interval")


def statistic_of(name: str) -> Callable[[Floats], Floats]:
    """The change as a function of counts: shape (draws, groups, label, incumbent's decision, candidate's) to (draws,)."""
    if name in _OWN:
        return lambda cells: np.asarray((rate_of(_OWN[name], cells.sum(axis=-2)) - rate_of(_OWN[name], cells.sum(axis=-1))).min(-1))
    of = extreme_rates(_GAPS[name])
    return lambda cells: np.asarray(of(cells.sum(axis=-2)) - of(cells.sum(axis=-1)))


def _own(name: str, counts: Counts, before: Cells, now: Cells, draws: int, seed: int) -> Measurement:
    rate = _OWN[name]
    rates = group_rates(rate, before), group_rates(rate, now)

    def changes(cells: Floats) -> Floats:
        return np.asarray(rate_of(rate, cells.sum(axis=-2)) - rate_of(rate, cells.sum(axis=-1)))

    parts = [None if old is None or new is None else new - old for old, new in zip(*rates, strict=True)]
    own = [bootstrap_multinomial(cell, lambda drawn: changes(drawn), draws=draws, seed=seed)[0] if part is not None else None
           for cell, part in zip(counts, parts, strict=True)]
    groups = tuple(_group(group, part, interval, cell) for group, part, interval, cell in zip(now.groups, parts, own, counts, strict=True))
    smallest, direction = min((group.n for group in groups), default=0), metric_info(name).direction
    why = _undefined(now.groups, rate, rates) or ("" if groups else "no groups")
    if why:
        return Measurement(name, None, None, None, smallest, "paired cell counts", now.over, groups, note=why, direction=direction)
    interval, method = bootstrap_multinomial(counts, lambda drawn: np.asarray(changes(drawn).min(-1)), draws=draws, seed=seed)
    lost, value = min(((group.name, part) for group, part in zip(groups, parts, strict=True) if part is not None),
                      key=lambda one: (one[1], one[0]))
    return Measurement(name, value, *_ends(interval), smallest, f"paired, {method}", now.over, groups,
                       note=f"{rate.replace('_', ' ')}: changed least favourably for {lost}", direction=direction)


def _gap(name: str, counts: Counts, before: Cells, now: Cells, draws: int, seed: int) -> Measurement:
    base = _GAPS[name]
    shown, of = rates_of(base)[0], extreme_rates(base)
    rates = group_rates(shown, before), group_rates(shown, now)
    groups = tuple(
        _group(group, None if old is None or new is None else new - old, None, cell)
        for group, old, new, cell in zip(now.groups, *rates, counts, strict=True))
    smallest, direction = min((group.n for group in groups), default=0), metric_info(name).direction
    for model, cells in (("the incumbent", before), ("the candidate", now)):
        why = why_not(cells, {rate: group_rates(rate, cells) for rate in rates_of(base)}, ratio=is_ratio(base))
        if why:
            return Measurement(name, None, None, None, smallest, "paired cell counts", now.over, groups,
                               note=f"under {model}: {why}", direction=direction)

    def change(cells: Floats) -> Floats:
        return np.asarray(of(cells.sum(axis=-2)) - of(cells.sum(axis=-1)))

    old, new = (float(of(cells.counts[np.newaxis].astype(np.float64))[0]) for cells in (before, now))
    interval, method = bootstrap_multinomial(counts, change, draws=draws, seed=seed)
    return Measurement(name, new - old, *_ends(interval), smallest, f"paired, {method}", now.over, groups,
                       (("incumbent", old), ("candidate", new)), f"{base} was {old:.4g} and is {new:.4g}", direction=direction)


def _undefined(groups: Sequence[str], rate: str, rates: tuple[Sequence[float | None], Sequence[float | None]]) -> str:
    missing = [f"{group} under the {model}" for model, known in zip(("incumbent", "candidate"), rates, strict=True)
               for group, value in zip(groups, known, strict=True) if value is None]
    return f"no {rate.replace('_', ' ')} in {', '.join(missing)}" if missing else ""


def _aligned(half: Cells, groups: Sequence[str]) -> Counts:
    """Counts (groups, label, decision) of one half; a group without rows in it has zeros."""
    place = {name: index for index, name in enumerate(half.groups)}
    empty = np.zeros((2, 2), dtype=np.int64)
    return np.stack([half.counts[place[group]] if group in place else empty for group in groups]) if groups else \
        np.zeros((0, 2, 2), dtype=np.int64)


def _part(column: Any, rows: Any) -> Any:
    import polars as pl

    return column.filter(pl.Series(rows)) if isinstance(column, pl.Series) else np.asarray(column, dtype=object)[rows]


def _group(name: str, value: float | None, interval: Interval | None, cell: Counts) -> GroupMeasurement:
    positives, rows = int(cell[1].sum()), int(cell.sum())
    lower, upper = _ends(interval if value is not None else None)
    return GroupMeasurement(name, value, lower, upper, rows, positives, rows - positives)


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None or not all(map(math.isfinite, interval)) else interval


