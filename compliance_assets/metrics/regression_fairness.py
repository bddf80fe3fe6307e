"""Is a predicted number as right, and as high, for every group? Gaps and ratios of errors and of scores between groups.

Errors are predicted minus observed, in the unit of y. A ratio of errors divides the highest group's by the lowest group's (1 is
ideal, higher is worse); a ratio of scores divides the lowest by the highest. Intervals come from each group's own limits
(MOVER: Zou & Donner 2008 for differences, Donner & Zou 2012 for ratios), from counts (Katz) or from bands around
distributions; none draws rows. What cannot be compared is None with the reason, as in `fairness`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.fairness import largest_distance
from compliance_assets.metrics.groups import expected_names, membership
from compliance_assets.metrics.intervals import Interval, bootstrap_multinomial, mover_difference, normal_mean, wilson
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused
from compliance_assets.metrics.regression import measure_regression

_OF_ERRORS = {"mae_difference": "mae", "mae_ratio": "mae", "rmse_difference": "rmse", "rmse_ratio": "rmse", "bias_difference": "bias"}
_DISTANCES = ("error_distribution_distance", "maximum_statistical_parity")
NAMES = (*_OF_ERRORS, "average_score_ratio", "scoring_rate_ratio", *_DISTANCES)
_PERMUTATIONS = 200
_POINTS = 1000


def measure_regression_fairness(names: Sequence[str], y: Any, predicted: Any, attributes: Mapping[str, Any], over: Sequence[str], *,
                                expected_groups: Mapping[str, Sequence[str]] | None = None, seed: int = 7) -> tuple[Measurement, ...]:
    """Each named metric over each attribute or intersection, in that order. y, predicted: finite numbers, shape (n,)."""
    observed, given = arrays.numbers(y, "y"), arrays.numbers(predicted, "predicted")
    arrays.same_rows(y=observed, predicted=given)
    measured = []
    for attribute in over:
        member = membership(attribute, attributes)
        arrays.same_rows(y=observed, group=member)
        groups = sorted({*map(str, set(member.tolist())), *(() if expected_groups is None else expected_names(attribute, expected_groups))})
        rows = {group: np.asarray(member == group) for group in groups}
        for name in names:
            metric_info(name, "fairness")
            if name not in NAMES:
                raise MeasurementRefused(f"{name} is not a fairness metric of a regression.", rule="metrics fit the task", value=name,
                                         remedy=f"Choose one of: {', '.join(NAMES)}.")
            measured.append(_measure(name, attribute, observed, given, rows, seed))
    return tuple(measured)


def _measure(name: str, over: str, y: Floats, predicted: Floats, rows: Mapping[str, Any], seed: int) -> Measurement:
    if name in _DISTANCES:
        values = (predicted - y) if name.startswith("error") else predicted
        found = largest_distance(name, over, {group: values[part] for group, part in rows.items()},
                                 {group: (int(part.sum()), None) for group, part in rows.items()})
        return found if found.value is None or name != "error_distribution_distance" else replace(
            found, detail=(("permutation_p", _permuted(values, rows, seed)), ("permutations", float(_PERMUTATIONS))))
    if name == "scoring_rate_ratio":
        return _scoring_rate(name, over, predicted, rows)
    what = _OF_ERRORS[name] if name in _OF_ERRORS else "mean prediction"
    parts = {group: _part(what, y[part], predicted[part]) for group, part in rows.items()}
    groups = tuple(GroupMeasurement(group, value, *_ends(interval), n=int(rows[group].sum())) for group, (value, interval) in parts.items())
    smallest = min((group.n for group in groups), default=0)
    known = {group: (value, interval) for group, (value, interval) in parts.items() if value is not None}
    why = _why_not(rows)
    if why:
        return _none(name, over, groups, smallest, why)
    low, high = (pick(known, key=lambda group: (known[group][0], group)) for pick in (min, max))
    (lowest, under), (highest, above) = known[low], known[high]
    note, method = f"{what}: lowest {low}, highest {high}", "MOVER of the two groups' limits"
    if name.endswith("_difference"):
        interval = None if under is None or above is None else mover_difference(highest, above, lowest, under)
        ends = _ends(interval and (max(0.0, interval[0]), interval[1]))
        return Measurement(name, highest - lowest, *ends, smallest, method, over, groups, note=note,
                           direction=metric_info(name).direction)
    upward = name.endswith(("mae_ratio", "rmse_ratio"))
    if lowest <= 0:
        return _none(name, over, groups, smallest, f"{what} of {low} is not above 0: a ratio is undefined")
    top, bottom = ((highest, above), (lowest, under)) if upward else ((lowest, under), (highest, above))
    interval = None if under is None or above is None else _mover_ratio(top, bottom)
    return Measurement(name, top[0] / bottom[0], *_ends(interval), smallest, method, over, groups,
                       note=note if interval else f"{note}; no interval: a group's own limits reach 0 or are missing",
                       direction=metric_info(name).direction)


def _part(what: str, y: Floats, predicted: Floats) -> tuple[float | None, Interval | None]:
    if len(y) == 0:
        return None, None
    if what == "mean prediction":
        return normal_mean(predicted)
    one = measure_regression((what,), y, predicted)[0]
    return one.value, None if one.lower is None or one.upper is None else (one.lower, one.upper)


def _mover_ratio(top: tuple[float, Interval | None], bottom: tuple[float, Interval | None]) -> Interval | None:
    """Interval of top / bottom, both positive and independent, from their own limits (Donner & Zou 2012, equation 9)."""
    (a, of_a), (b, of_b) = top, bottom
    if of_a is None or of_b is None or of_b[0] <= 0:
        return None
    (la, ua), (lb, ub) = of_a, of_b
    lower = (a * b - math.sqrt(max(0.0, (a * b) ** 2 - la * ub * (2 * a - la) * (2 * b - ub)))) / (ub * (2 * b - ub)) \
        if 2 * b - ub > 0 else 0.0
    upper = (a * b + math.sqrt(max(0.0, (a * b) ** 2 - ua * lb * (2 * a - ua) * (2 * b - lb)))) / (lb * (2 * b - lb))
    return max(0.0, min(lower, a / b)), max(upper, a / b)


def _scoring_rate(name: str, over: str, predicted: Floats, rows: Mapping[str, Any]) -> Measurement:
    """Share of each group above the median of all, lowest / highest; resampled as counts."""
    counted = {group: (int(np.count_nonzero(predicted[part] > np.median(predicted))), int(part.sum())) for group, part in rows.items()}
    groups = tuple(GroupMeasurement(group, k / n if n else None, *_ends(wilson(k, n)), n=n) for group, (k, n) in counted.items())
    smallest, why = min((group.n for group in groups), default=0), _why_not(rows)
    if not why and not any(k for k, _ in counted.values()):
        why = "nobody is above the overall median: a ratio is undefined"
    if why:
        return _none(name, over, groups, smallest, why)
    cells = np.array([[k, n - k] for k, n in counted.values()], dtype=np.int64)

    def ratio(drawn: Floats) -> Floats:
        rate = arrays.ratio(drawn[..., 0], drawn.sum(-1))
        return arrays.ratio(np.asarray(rate.min(-1)), np.asarray(rate.max(-1)))

    interval, method = bootstrap_multinomial(cells, ratio, seed=7)
    value = float(ratio(cells[np.newaxis].astype(np.float64))[0])
    return Measurement(name, value, *_ends(interval), smallest, f"median held, {method}", over, groups,
                       note="share above the overall median", direction=metric_info(name).direction)


def _permuted(values: Floats, rows: Mapping[str, Any], seed: int) -> float:
    """Share of shuffles of group membership whose largest distance is at least the one seen (one added to both, Phipson & Smyth 2010).

    Shuffling who belongs where draws each group's rows from the values without replacement: a multivariate hypergeometric draw of
    counts, so no row is moved. Beyond a thousand distinct values both the distance seen and the drawn ones are taken at a
    thousand quantiles, which makes it a test of that distance, at any size.
    """
    points = np.unique(values)
    if len(points) > _POINTS:
        points = np.unique(np.quantile(points, np.linspace(0, 1, _POINTS)))
    place = np.minimum(np.searchsorted(points, values), len(points) - 1)
    counts = np.stack([np.bincount(place[part], minlength=len(points)) for part in rows.values()])
    sizes, generator = counts.sum(axis=1), np.random.default_rng(seed)

    def distance(cells: Any) -> float:
        below = np.cumsum(cells, axis=1) / sizes[:, np.newaxis]
        return float((below.max(axis=0) - below.min(axis=0)).max())

    seen, above = distance(counts), 0
    for _ in range(_PERMUTATIONS):
        left, drawn = counts.sum(axis=0), []
        for size in sizes[:-1]:
            drawn.append(generator.multivariate_hypergeometric(left, int(size), method="marginals"))
            left = left - drawn[-1]
        above += distance(np.stack([*drawn, left])) >= seen - 1e-12
    return (above + 1) / (_PERMUTATIONS + 1)


def _why_not(rows: Mapping[str, Any]) -> str:
    absent = [group for group, part in rows.items() if not part.any()]
    if absent:
        return f"no rows for {', '.join(absent)}"
    return "fewer than two groups: nothing to compare" if len(rows) < 2 else ""


def _none(name: str, over: str, groups: tuple[GroupMeasurement, ...], smallest: int, why: str) -> Measurement:
    return Measurement(name, None, None, None, smallest, "per group", over, groups, note=why, direction=metric_info(name).direction)


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else interval
