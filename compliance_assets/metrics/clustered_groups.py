"""Comparisons of groups, and of two models, where rows belong together: the same values, the intervals by resampling clusters.

A cluster is drawn with all its rows, in whatever group they stand, so that what one person's rows share is drawn with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from compliance_assets.metrics import arrays, calibration, clusters, fairness, incumbent
from compliance_assets.metrics.arrays import Counts, Floats
from compliance_assets.metrics.clustered import Sampled, binned, with_interval, without_interval
from compliance_assets.metrics.clusters import Clusters, Found
from compliance_assets.metrics.intervals import mover_difference
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement


def compared_by_clusters(one: Measurement, rows: Sampled, member: Any) -> Measurement:
    """A comparison of groups. `member`: the group of each row, as its name, shape (n,)."""
    if one.value is None:
        return without_interval(one, rows.clusters)
    place = _places(one, member)
    if one.metric in fairness.COMPARISONS:
        rate = fairness.rates_of(one.metric)[0]
        cell = (place, 2 * rows.y + rows.decision)
        found = _between(rows.clusters, cell, (2, 2), fairness.extreme_rates(one.metric), len(one.groups))
        return _told(one, found, place, rows, lambda part: _own_rate(rate, part))
    if one.metric == "scoring_rate_ratio":
        above = rows.score > np.median(rows.score)
        found = _between(rows.clusters, (place, above.astype(np.int64)), (2,), _lowest_by_highest_share, len(one.groups))
        return _told(one, found, place, replace(rows, outcome=above), lambda part: clusters.rate(part.outcome, part.clusters))
    if one.metric in _OF_MEANS:
        value, statistic = _OF_MEANS[one.metric]
        found = _of_means(rows, place, value, statistic, len(one.groups))
        return _told(one, found, place, rows, lambda part: clusters.mean(value(part), part.clusters), root=one.metric.startswith("rmse"))
    if one.metric in ("calibration_error_difference", "worst_group_calibration_error"):
        return _of_calibration(one, rows, place)
    if one.metric == "roc_auc_difference":
        return _of_areas(one, rows, place)
    return without_interval(one, rows.clusters)


def changed_by_clusters(one: Measurement, rows: Sampled, before: Any, member: Any = None) -> Measurement:
    """A change against another model on the same rows. `before`: that model's scores; `member`: groups, where they are compared."""
    if one.value is None:
        return without_interval(one, rows.clusters)
    whose, name, y = rows.clusters, one.metric, rows.y
    now, then = rows.decision, (before >= rows.threshold).astype(np.int64)
    if name == "roc_auc_change":
        return with_interval(one, clusters.area_change(y, rows.score, [before], whose))
    if name == "prediction_flip_rate":
        return with_interval(one, clusters.rate(now != then, whose))
    means = {"accuracy_change": lambda: (now == y).astype(float) - (then == y),
             "brier_score_change": lambda: np.square(rows.score - y) - np.square(before - y),
             "mae_change": lambda: np.abs(rows.score - rows.outcome) - np.abs(before - rows.outcome)}
    if name in means:
        change = means[name]()
        found = clusters.mean(change, whose)
        return with_interval(one, found if change.any() else ((0.0, 0.0), found[1]))
    if name in incumbent.NAMES:
        statistic, place = incumbent.statistic_of(name), _places(one, member)
        return _told(one, _between(whose, (place, 4 * y + 2 * then + now), (2, 2, 2), statistic, len(one.groups)), place, rows, None)
    return without_interval(one, whose)


def known(metric: str) -> bool:
    """Whether a comparison of groups, or of two models, has an interval by clusters."""
    return metric in (*fairness.COMPARISONS, *incumbent.NAMES, *_OF_MEANS, *_CHANGES, *_OF_GROUPS)


_CHANGES = ("roc_auc_change", "prediction_flip_rate", "accuracy_change", "brier_score_change", "mae_change")
_OF_GROUPS = ("scoring_rate_ratio", "calibration_error_difference", "worst_group_calibration_error", "roc_auc_difference")


def _places(one: Measurement, member: Any) -> Counts:
    """The number of each row's group, in the order of the measurement."""
    import polars as pl

    names = pl.Enum([group.name for group in one.groups])
    return pl.Series(np.asarray(member, dtype=object), dtype=pl.String).cast(names).to_physical().to_numpy().astype(np.int64)


def _between(whose: Clusters, cell: tuple[Counts, Counts], shape: tuple[int, ...], statistic: Callable[[Floats], Floats],
             groups: int) -> Found:
    """A function of counts (group, *shape); `cell`: each row's group, and its place in `shape`."""
    place, within = cell
    size = int(np.prod(shape))
    return clusters.resampled(whose.counts(size * place + within, (groups, *shape)), statistic, whose,
                              scarcest=_scarcest(whose, place, groups))


def _scarcest(whose: Clusters, place: Counts, groups: int) -> int:
    return min(int(np.count_nonzero(np.bincount(whose.number[place == group]))) for group in range(groups))


def _told(one: Measurement, found: Found, place: Counts, rows: Sampled, own: Callable[[Sampled], Found] | None, *,
          root: bool = False) -> Measurement:
    """The comparison and each group's own number with their intervals; closed forms for counted rows are left out."""
    groups = tuple(_group(group, None if own is None else own(rows.part(place == number)), root=root)
                   for number, group in enumerate(one.groups))
    kept = tuple((name, value) for name, value in one.detail if not name.endswith(("_lower", "_upper")))
    return replace(with_interval(one, found), groups=groups, detail=kept)


def _group(group: GroupMeasurement, found: Found | None, *, root: bool) -> GroupMeasurement:
    interval = None if found is None else found[0]
    if interval is None or group.value is None:
        return replace(group, lower=None, upper=None)
    lower, upper = (float(np.sqrt(max(0.0, end))) for end in interval) if root else interval
    return replace(group, lower=min(lower, group.value), upper=max(upper, group.value))


def _own_rate(rate: str, part: Sampled) -> Found:
    above, below = fairness.RATES[rate]
    cell = 2 * part.y + part.decision
    return clusters.rate(np.isin(cell, [2 * y + d for y, d in above]), part.clusters, np.isin(cell, [2 * y + d for y, d in below]))


def _lowest_by_highest_share(drawn: Floats) -> Floats:
    share = arrays.ratio(drawn[..., 1], drawn.sum(-1))
    return arrays.ratio(np.asarray(share.min(-1)), np.asarray(share.max(-1)))


def _gap(means: Floats) -> Floats:
    return np.asarray(means.max(-1) - means.min(-1))


def _highest_by_lowest(means: Floats) -> Floats:
    return arrays.ratio(np.asarray(means.max(-1)), np.asarray(means.min(-1)))


_Value = Callable[[Sampled], Any]


def _absolute(rows: Sampled) -> Any:
    return np.abs(rows.score - rows.outcome)


def _square(rows: Sampled) -> Any:
    return np.square(rows.score - rows.outcome)


_OF_MEANS: dict[str, tuple[_Value, Callable[[Floats], Floats]]] = {
    "mae_difference": (_absolute, _gap), "mae_ratio": (_absolute, _highest_by_lowest),
    "rmse_difference": (_square, lambda means: _gap(np.sqrt(means))),
    "rmse_ratio": (_square, lambda means: _highest_by_lowest(np.sqrt(means))),
    "bias_difference": (lambda rows: rows.score - rows.outcome, _gap),
    "average_score_ratio": (lambda rows: rows.score, lambda means: arrays.ratio(np.asarray(means.min(-1)), np.asarray(means.max(-1)))),
}


def _of_means(rows: Sampled, place: Counts, value: _Value, statistic: Callable[[Floats], Floats], groups: int) -> Found:
    whose = rows.clusters
    table = np.stack([whose.sums_by(place, groups, value(rows)), whose.sums_by(place, groups, np.ones(len(place)))], axis=-1)

    def of(drawn: Floats) -> Floats:
        means = arrays.ratio(drawn[..., 0], drawn[..., 1])
        return np.where(np.isfinite(means).all(-1), statistic(means), np.nan)

    return clusters.resampled(table, of, whose, scarcest=_scarcest(whose, place, groups), of_counts=False)


def _of_calibration(one: Measurement, rows: Sampled, place: Counts) -> Measurement:
    """Groups have bins of their own; one draw of clusters fills all of them."""
    tables, errors = [], []
    for group in range(len(one.groups)):
        inside = np.where(place == group)[0]
        of_group, means = binned(rows.y[inside], rows.score[inside], replace(rows.clusters, number=rows.clusters.number[inside]))
        tables.append(of_group.reshape(len(of_group), -1))
        errors.append(calibration.expected_gap(means))
    ends = np.cumsum([0, *(table.shape[1] for table in tables)])

    def statistic(drawn: Floats) -> Floats:
        each = np.stack([error(drawn[:, start:end].reshape(len(drawn), -1, 2))
                         for error, start, end in zip(errors, ends[:-1], ends[1:], strict=True)], axis=-1)
        return _gap(each) if one.metric.endswith("difference") else np.asarray(each.max(-1))

    whose = rows.clusters
    found = clusters.resampled(np.concatenate(tables, axis=1), statistic, whose, scarcest=_scarcest(whose, place, len(one.groups)))
    return _told(one, found, place, rows, lambda part: clusters.resampled(
        *_table_and_error(part), part.clusters))


def _table_and_error(part: Sampled) -> tuple[Floats, Callable[[Floats], Floats]]:
    table, means = binned(part.y, part.score, part.clusters)
    return table, calibration.expected_gap(means)


def _of_areas(one: Measurement, rows: Sampled, place: Counts) -> Measurement:
    """From each group's own limits: as if groups shared nobody, which where they do makes the interval longer."""
    told = _told(one, (None, ""), place, rows, lambda part: clusters.area(part.y, part.score, part.clusters))
    known = sorted(told.groups, key=lambda group: (group.value or 0.0, group.name))
    low, high = known[0], known[-1]
    method = f"cluster DeLong per group (Obuchowski 1997), MOVER of the two, {rows.clusters.count:,} of {rows.clusters.by}"
    if any(group.lower is None or group.upper is None for group in (low, high)):
        return replace(with_interval(one, (None, f"{method}: too few clusters in a group")), groups=told.groups)
    assert low.value is not None and low.lower is not None and low.upper is not None  # noqa: PT018  # known, by the line above
    assert high.value is not None and high.lower is not None and high.upper is not None  # noqa: PT018
    lower, upper = mover_difference(high.value, (high.lower, high.upper), low.value, (low.lower, low.upper))
    return replace(with_interval(one, ((max(0.0, lower), min(1.0, upper)), method)), groups=told.groups)
