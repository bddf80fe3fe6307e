"""Are groups treated alike? Rates per group, the gap or ratio between groups, and how sure we are of both.

One pass counts rows by (group, label, decision); every metric is a function of these counts. Each group's rate is
computed by fairlearn's own MetricFrame, fed the counted cells as weights, and again from the counts: the two must
agree. The reference is always the *highest* group (lowest / highest, highest - lowest), as in 29 CFR 1607.4(D).

What cannot be compared is not compared: a group without rows, a rate without a denominator, no selections at all, or
one group only make the value None, with the reason. A missing attribute value is a group of its own, "unknown". How
many rows are enough is a promise, not a measurement: every group carries its rows, positives and negatives, and the
caller judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Counts, Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.groups import UNKNOWN, Cells, coded, rows_by_group
from compliance_assets.metrics.intervals import (
    DRAWS,
    Interval,
    bootstrap_multinomial,
    delong,
    log_ratio,
    mover_difference,
    newcombe_difference,
    wilson,
)
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused

# rate: (numerator, denominator) as (label, decision) cells
RATES: Mapping[str, tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]] = {
    "selection_rate": (((0, 1), (1, 1)), ((0, 0), (0, 1), (1, 0), (1, 1))),
    "true_positive_rate": (((1, 1),), ((1, 0), (1, 1))),
    "false_positive_rate": (((0, 1),), ((0, 0), (0, 1))),
    "positive_predictive_value": (((1, 1),), ((0, 1), (1, 1))),
    "accuracy": (((0, 0), (1, 1)), ((0, 0), (0, 1), (1, 0), (1, 1))),
    "false_negative_rate": (((1, 0),), ((1, 0), (1, 1))),
    "negative_predictive_value": (((0, 0),), ((0, 0), (1, 0))),
}
_NO_DENOMINATOR = {
    "true_positive_rate": "no row with label 1", "false_positive_rate": "no row with label 0",
    "positive_predictive_value": "nobody selected", "selection_rate": "no rows", "accuracy": "no rows",
    "false_negative_rate": "no row with label 1", "negative_predictive_value": "everybody selected",
}
_OF_SCORES = ("roc_auc_difference", "score_distribution_distance")


def measure_fairness(names: Sequence[str], y: Any, decision: Any, attributes: Mapping[str, Any], over: Sequence[str], *,
                     expected_groups: Mapping[str, Sequence[str]] | None = None, score: Any = None, draws: int = DRAWS,
                     seed: int = 7) -> tuple[Measurement, ...]:
    """Each named metric over each attribute or intersection, in that order.

    y and decision in {0, 1}, shape (n,), 1 = favourable; `score` is needed for roc_auc_difference and
    score_distribution_distance only. Intervals are
    percentile intervals of 1000 multinomial draws of the cells, per group Wilson's. Because highest and lowest are
    looked for in every draw, noise alone widens a gap: the interval errs towards finding unfairness.
    """
    for name in names:
        metric_info(name, "fairness")
    measured = []
    used = {name for attribute in over for name in attribute.split("*")}
    columns = {name: coded(name, attributes) if name in used else column for name, column in attributes.items()}
    for attribute in over:
        cells = Cells.count(attribute, y, decision, columns, expected_groups)
        for name in names:
            if name in _OF_SCORES:
                measured.append(_of_scores(name, cells, y, score, columns))
            else:
                measured.append(measure_cells(name, cells, draws=draws, seed=seed))
    return tuple(measured)


def measure_cells(name: str, cells: Cells, *, draws: int = DRAWS, seed: int = 7) -> Measurement:
    """One metric from counted cells; see `measure_fairness`."""
    comparison = _COMPARISONS[metric_info(name, "fairness").name]
    rates = {rate: group_rates(rate, cells) for rate in comparison.rates}
    shown = comparison.rates[0]
    groups = tuple(
        _group(group, rates[shown][i], _wilson_of(shown, cells.counts[i]), cells.counts[i])
        for i, group in enumerate(cells.groups)
    )
    smallest = min((g.n for g in groups), default=0)
    why = why_not(cells, rates, ratio=comparison.is_ratio)
    if why:
        return Measurement(name, None, None, None, smallest, "cell counts", cells.over, groups, note=why,
                           direction=metric_info(name).direction)
    exact = {rate: np.array(values, dtype=np.float64) for rate, values in rates.items()}
    value = float(comparison.of(exact))
    interval, method = bootstrap_multinomial(cells.counts, extreme_rates(name), draws=draws, seed=seed)
    lower, upper = (None, None) if interval is None else interval
    low, high = int(np.argmin(exact[shown])), int(np.argmax(exact[shown]))
    detail = [("known_share", _known_share(cells))]
    for rate in comparison.rates[1:]:
        detail.append((f"{rate}_gap", float(exact[rate].max() - exact[rate].min())))
    detail.extend(_pair_interval(shown, cells, low, high, ratio=comparison.is_ratio))
    return Measurement(
        name, value, lower, upper, smallest, method, cells.over, groups, tuple(detail),
        f"{shown.replace('_', ' ')}: lowest {cells.groups[low]}, highest {cells.groups[high]} (the reference)",
        direction=metric_info(name).direction,
    )


def extreme_rates(name: str) -> Callable[[Floats], Floats]:
    """The comparison as a function of counts: shape (draws, groups, 2 labels, 2 decisions) to (draws,), NaN where undefined."""
    comparison = _COMPARISONS[metric_info(name, "fairness").name]
    return lambda counts: comparison.of({rate: rate_of(rate, counts) for rate in comparison.rates})


def group_rates(rate: str, cells: Cells) -> tuple[float | None, ...]:
    """One rate for each group, by fairlearn's MetricFrame on the weighted cells; None where it has no denominator.

    fairlearn itself answers 0 for, say, the true positive rate of a group without positives. Absence is not a rate of
    zero, so such groups are None here, by the counts. Where both are defined they must agree to 1e-12.
    """
    counted = rate_of(rate, cells.counts.astype(np.float64))
    by_fairlearn = dict(_fairlearn_rates(cells.groups, cells.counts.astype(np.int64).tobytes())[rate])
    rates: list[float | None] = []
    for group, own in zip(cells.groups, counted, strict=True):
        if not math.isfinite(own):
            rates.append(None)
            continue
        if not abs(by_fairlearn[group] - own) <= 1e-12:
            raise MeasurementRefused(
                f"fairlearn gives {by_fairlearn[group]} and the counts {own} for {rate} of {cells.over}={group}.",
                rule="two computations of a rate agree", value=str(own),
                remedy="A library changed its definition: pin the version of the lock and report this.")
        rates.append(by_fairlearn[group])
    return tuple(rates)


@lru_cache(maxsize=64)
def _fairlearn_rates(groups: tuple[str, ...], cells: bytes) -> Mapping[str, tuple[tuple[str, float], ...]]:
    """Every rate by group as fairlearn gives it, in one MetricFrame; a pure function of the counts, which several bounds ask."""
    from fairlearn.metrics import (
        MetricFrame,
        false_negative_rate,
        false_positive_rate,
        selection_rate,
        true_positive_rate,
    )
    from sklearn.metrics import accuracy_score, precision_score

    def precision(y_true: Any, y_pred: Any, sample_weight: Any) -> float:
        return float(precision_score(y_true, y_pred, sample_weight=sample_weight, zero_division=0.0))

    def negative_precision(y_true: Any, y_pred: Any, sample_weight: Any) -> float:
        return float(precision_score(y_true, y_pred, pos_label=0, sample_weight=sample_weight, zero_division=0.0))

    functions: dict[str, Callable[..., float]] = {
        "selection_rate": selection_rate, "true_positive_rate": true_positive_rate,
        "false_positive_rate": false_positive_rate, "positive_predictive_value": precision, "accuracy": accuracy_score,
        "false_negative_rate": false_negative_rate, "negative_predictive_value": negative_precision,
    }
    counts = np.frombuffer(cells, dtype=np.int64).reshape(len(groups), 2, 2)
    group, label, decision = np.nonzero(counts)
    if len(group) == 0:
        return dict.fromkeys(functions, ())
    if len(group) == 1:
        # fairlearn squeezes a single row to a scalar and refuses it; the same cell twice has the same rates.
        group, label, decision = (np.repeat(column, 2) for column in (group, label, decision))
    weights = {"sample_weight": counts[group, label, decision].astype(np.float64)}
    frame = MetricFrame(metrics=functions, y_true=label, y_pred=decision, sensitive_features=group,
                        sample_params=dict.fromkeys(functions, weights))
    return {rate: tuple((groups[int(index)], float(value)) for index, value in frame.by_group[rate].items()) for rate in functions}


def rate_of(rate: str, counts: Floats) -> Floats:
    """The rate for counts of shape (..., groups, 2 labels, 2 decisions); NaN where the denominator is 0."""
    above, below = (np.stack([counts[..., label, decision] for label, decision in part]).sum(axis=0)
                    for part in RATES[rate])
    return arrays.ratio(above, below)


@dataclass(frozen=True)
class _Comparison:
    """How rates of shape (..., groups) become one number; the first rate is the one shown per group."""

    rates: tuple[str, ...]
    of: Callable[[Mapping[str, Floats]], Floats]
    is_ratio: bool = False


def _gap(values: Floats) -> Floats:
    return np.asarray(values.max(-1) - values.min(-1))


def _lowest_by_highest(values: Floats) -> Floats:
    return arrays.ratio(np.asarray(values.min(-1)), np.asarray(values.max(-1)))


def _gap_of(rate: str) -> _Comparison:
    return _Comparison((rate,), lambda rates: _gap(rates[rate]))


def _ratio_of(rate: str) -> _Comparison:
    return _Comparison((rate,), lambda rates: _lowest_by_highest(rates[rate]), is_ratio=True)


_TPR, _FPR = "true_positive_rate", "false_positive_rate"
_COMPARISONS: Mapping[str, _Comparison] = {
    "selection_rate_ratio": _ratio_of("selection_rate"),
    "selection_rate_difference": _gap_of("selection_rate"),
    "equal_opportunity_difference": _gap_of(_TPR),
    "false_positive_rate_difference": _gap_of(_FPR),
    "equalized_odds_difference": _Comparison((_TPR, _FPR), lambda r: np.maximum(_gap(r[_TPR]), _gap(r[_FPR]))),
    "average_odds_difference": _Comparison((_TPR, _FPR), lambda r: (_gap(r[_TPR]) + _gap(r[_FPR])) / 2),
    "predictive_parity_difference": _gap_of("positive_predictive_value"),
    "negative_predictive_value_difference": _gap_of("negative_predictive_value"),
    "accuracy_difference": _gap_of("accuracy"),
    "equal_opportunity_ratio": _ratio_of(_TPR),
    "false_positive_rate_ratio": _ratio_of(_FPR),
    "false_negative_rate_ratio": _ratio_of("false_negative_rate"),
    "equalized_odds_ratio": _Comparison(
        (_TPR, _FPR), lambda r: np.minimum(_lowest_by_highest(r[_TPR]), _lowest_by_highest(r[_FPR])), is_ratio=True),
}
COMPARISONS = tuple(_COMPARISONS)
"""The comparisons of groups that are functions of counts."""


def rates_of(name: str) -> tuple[str, ...]:
    """The rates that a comparison rests on; the first is the one shown per group."""
    return _COMPARISONS[name].rates


def is_ratio(name: str) -> bool:
    """Whether a comparison divides the lowest rate by the highest."""
    return _COMPARISONS[name].is_ratio


def why_not(cells: Cells, rates: Mapping[str, tuple[float | None, ...]], *, ratio: bool) -> str:
    """Why groups cannot be compared; empty if they can."""
    absent = [group for group, counts in zip(cells.groups, cells.counts, strict=True) if counts.sum() == 0]
    if absent:
        return f"no rows for {', '.join(absent)}"
    if len(cells.groups) < 2:
        return "fewer than two groups: nothing to compare"
    for rate, values in rates.items():
        missing = [group for group, value in zip(cells.groups, values, strict=True) if value is None]
        if missing:
            return f"{_NO_DENOMINATOR[rate]} in {', '.join(missing)}"
        if ratio and not any(values):
            return "nobody was selected in any group: a ratio is undefined" if rate == "selection_rate" else \
                f"the {rate.replace('_', ' ')} is 0 in every group: a ratio is undefined"
    return ""


def _numerator_denominator(rate: str, counts: Counts) -> tuple[int, int]:
    above, below = (sum(int(counts[cell]) for cell in part) for part in RATES[rate])
    return above, below


def _wilson_of(rate: str, counts: Counts) -> Interval | None:
    return wilson(*_numerator_denominator(rate, counts))


def _pair_interval(rate: str, cells: Cells, low: int, high: int, *, ratio: bool) -> list[tuple[str, float]]:
    """A second opinion in closed form on the extreme pair: Katz for a ratio, Newcombe for a difference."""
    first, second = (_numerator_denominator(rate, cells.counts[i]) for i in (low, high))
    name, interval = ("log_ratio", log_ratio(*first, *second)) if ratio else \
        ("newcombe", newcombe_difference(*second, *first))
    return [] if interval is None else [(f"{name}_lower", interval[0]), (f"{name}_upper", interval[1])]


def _group(name: str, value: float | None, interval: Interval | None, counts: Counts) -> GroupMeasurement:
    lower, upper = (None, None) if interval is None or value is None else interval
    return GroupMeasurement(name, value, lower, upper, int(counts.sum()), int(counts[1].sum()), int(counts[0].sum()))


def _known_share(cells: Cells) -> float:
    known = sum(int(c.sum()) for g, c in zip(cells.groups, cells.counts, strict=True) if UNKNOWN not in g.split("*"))
    return known / int(cells.counts.sum())


def _of_scores(name: str, cells: Cells, y: Any, score: Any, attributes: Mapping[str, Any]) -> Measurement:
    if score is None:
        raise MeasurementRefused(f"{name} needs scores.", rule="ranking metrics need scores",
                                 value="score=None", remedy="Hand in the scores beside the decisions.")
    label, checked = arrays.labels(y), arrays.scores(score)
    arrays.same_rows(y=label, score=checked)
    found = rows_by_group(cells.over, attributes)
    # A declared group that nobody belongs to has no rows.
    rows = {group: found[group] if group in found else np.zeros(len(label), dtype=np.bool_) for group in cells.groups}
    if name == "score_distribution_distance":
        return largest_distance(name, cells.over, {group: checked[rows[group]] for group in cells.groups},
                                {group: (int(c.sum()), int(c[1].sum())) for group, c in zip(cells.groups, cells.counts, strict=True)})
    return _auc_difference(cells, label, checked, rows)


def largest_distance(name: str, over: str, values: Mapping[str, Floats], sizes: Mapping[str, tuple[int, int | None]]) -> Measurement:
    """The largest Kolmogorov-Smirnov distance between two groups' values; `sizes`: rows and, where there are labels, positives.

    A group's own number is its largest distance to another one. The interval is the band of Dvoretzky, Kiefer and Wolfowitz
    (Massart 1990) around both groups' distributions, each at 97.5 %: wide, but right at any size.
    """
    smallest, direction, method = min((rows for rows, _ in sizes.values()), default=0), metric_info(name).direction, \
        "two bands of Dvoretzky-Kiefer-Wolfowitz, Bonferroni"
    absent = [group for group, rows in values.items() if len(rows) == 0]
    why = f"no rows for {', '.join(absent)}" if absent else "fewer than two groups: nothing to compare" if len(values) < 2 else ""
    known = {group: np.sort(rows) for group, rows in values.items() if len(rows)}
    pairs = {(a, b): _ks(known[a], known[b]) for a in known for b in known if a < b}
    groups = tuple(
        GroupMeasurement(group, max((gap for pair, gap in pairs.items() if group in pair), default=None), n=rows, positives=positives,
                         negatives=None if positives is None else rows - positives)
        for group, (rows, positives) in sorted(sizes.items()))
    if why:
        return Measurement(name, None, None, None, smallest, method, over, groups, note=why, direction=direction)
    (first, second), gap = max(pairs.items(), key=lambda one: (one[1], one[0]))
    half = sum(math.sqrt(math.log(2 / 0.025) / (2 * len(known[group]))) for group in (first, second))
    return Measurement(name, gap, max(0.0, gap - half), min(1.0, gap + half), smallest, method, over, groups,
                       note=f"furthest apart: {first} and {second}", direction=direction)


def _ks(first: Floats, second: Floats) -> float:
    """Largest vertical distance of two empirical distributions; both sorted. An exact fraction, divided once."""
    points = np.union1d(first, second)
    below = np.searchsorted(first, points, side="right"), np.searchsorted(second, points, side="right")
    n, m = len(first), len(second)
    return int(np.abs(below[0].astype(np.int64) * m - below[1].astype(np.int64) * n).max()) / (n * m)


def _auc_difference(cells: Cells, label: Counts, checked: Floats, rows: Mapping[str, npt.NDArray[np.bool_]]) -> Measurement:
    """Highest minus lowest group's AUC; the interval treats the two groups as independent samples.

    Made from each group's own limits, so that two groups of a few rows, each sorted perfectly, are not surely equal.
    """
    aucs = {group: delong(label[rows[group]], checked[rows[group]]) for group in cells.groups}
    groups = tuple(
        _group(group, None if (auc := aucs[group]) is None else auc.value, None if auc is None else auc.interval(),
               cells.counts[i])
        for i, group in enumerate(cells.groups)
    )
    smallest, direction = min((g.n for g in groups), default=0), metric_info("roc_auc_difference").direction
    method = "DeLong per group, MOVER of the two"
    missing = [g.name for g in groups if g.value is None]
    why = f"only one class, or no rows, in {', '.join(missing)}" if missing else \
        "fewer than two groups: nothing to compare" if len(groups) < 2 else ""
    if why:
        return Measurement("roc_auc_difference", None, None, None, smallest, method, cells.over, groups, note=why,
                           direction=direction)
    known = sorted(((auc, group) for group, auc in aucs.items() if auc is not None), key=lambda pair: pair[0].value)
    (low, lowest), (high, highest) = known[0], known[-1]
    gap, note, lower, upper = high.value - low.value, f"lowest {lowest}, highest {highest}", None, None
    intervals = high.interval(), low.interval()
    if any(group.lower is None for group in groups) or intervals[0] is None or intervals[1] is None:
        note += "; no interval: a class has one row"
    else:
        lower, upper = mover_difference(high.value, intervals[0], low.value, intervals[1])
        lower, upper = max(0.0, lower), min(1.0, upper)
    return Measurement("roc_auc_difference", gap, lower, upper, smallest, method, cells.over, groups, note=note,
                       direction=direction)
