"""Does a small change of the input change the decision? Perturb a sample, score it again, count what flipped.

The scoring function is handed in; nothing here knows a model. The sample, the noise and the rows hit come from seeded
generators, each seeded by the perturbation's own words, so adding one perturbation does not move another. Perturbed
values stay inside the declared (or observed) range and keep their type: the question is about inputs that can occur.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Counts, Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.clustered import with_interval
from compliance_assets.metrics.clusters import Clusters, area_change, mean, rate
from compliance_assets.metrics.groups import expected_names, membership
from compliance_assets.metrics.intervals import Z95, delong_paired, normal_mean, wilson
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused

if TYPE_CHECKING:
    import polars as pl

Predict = Callable[["pl.DataFrame"], Any]
Kind = Literal["numeric_noise", "relative_shift", "category_flip", "missing_values", "missing_block"]
KINDS: tuple[Kind, ...] = ("numeric_noise", "relative_shift", "category_flip", "missing_values", "missing_block")


@dataclass(frozen=True)
class Perturbation:
    """One way to disturb inputs.

    `level`: numeric_noise, standard deviation of the noise as a fraction of the column's; relative_shift, the fraction
    by which every value is moved up or down; category_flip and missing_values, the share of values hit; missing_block, the share
    of rows that lose every value that may be missing. `repeats` draws
    are made and averaged.
    """

    kind: Kind
    level: float
    repeats: int = 3

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise MeasurementRefused(f"{self.kind!r} is not a perturbation.", rule="perturbations are known by name",
                                     value=str(self.kind), remedy=f"Choose one of: {', '.join(KINDS)}.")
        if not 0 < self.level <= 1 or self.repeats < 1:
            raise MeasurementRefused(f"{self.kind} at level {self.level} with {self.repeats} repeats disturbs nothing.",
                                     rule="a level lies in (0, 1]", value=str(self.level), remedy="Declare a real one.")


@dataclass(frozen=True)
class Inputs:
    """Which columns may be disturbed, and how far.

    `numeric`: columns of numbers. `categories`: the values a categorical column may take. `nullable`: features that may
    be missing. `ranges`: declared (lowest, highest) of numeric columns; where none is declared, the sample's own.
    """

    numeric: tuple[str, ...] = ()
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()
    nullable: tuple[str, ...] = ()
    ranges: tuple[tuple[str, tuple[float, float]], ...] = ()


@dataclass(frozen=True)
class _Before:
    frame: pl.DataFrame
    y: Counts
    score: Floats
    threshold: float
    attributes: Mapping[str, Any]
    observed: Floats | None = None  # where scores are predicted numbers: what they should have been
    whose: Clusters | None = None  # where rows belong together


def measure_robustness(perturbations: Sequence[Perturbation], predict: Predict, frame: pl.DataFrame, y: Any,
                       threshold: float, inputs: Inputs, *, attributes: Mapping[str, Any] | None = None,
                       over: Sequence[str] = (), expected_groups: Mapping[str, Sequence[str]] | None = None,
                       seed: int = 7, max_rows: int = 20_000, score: Any = None, observed: Any = None,
                       whose: Clusters | None = None) -> tuple[Measurement, ...]:
    """For each perturbation `<kind>_decision_flip_rate` and `<kind>_auc_drop`, over all rows and over each attribute.

    frame: the model's inputs, n rows; y: labels, shape (n,); predict: frame to probabilities, shape (rows,). At most
    `max_rows` rows are used, drawn by `seed` (20,000 bound the error of a flip rate by 0.35 percentage points). `score`,
    shape (n,): what the model gave these rows undisturbed, where that is known. A row that a draw left as it was keeps its
    score; only the others are scored again. Over an attribute the value is the worst group's. Where numbers are predicted,
    `observed` (n,) is what they should have been, and `<kind>_mae_rise` takes the place of the AUC drop. What no column allows
    (no nullable feature, say) has value None, with a note. `whose`: rows that belong together; intervals then resample clusters.
    """
    label = arrays.labels(y)
    rows = arrays.same_rows(y=label, frame=np.empty(frame.height))
    for name, column in (attributes or {}).items():
        arrays.same_rows(y=label, **{name: np.empty(len(column))})
    chosen = np.arange(rows) if rows <= max_rows else np.sort(
        np.random.default_rng(seed).choice(rows, size=max_rows, replace=False))
    sample = frame[chosen]
    members = {attribute: membership(attribute, attributes or {})[chosen] for attribute in over}
    truth = None if observed is None else arrays.numbers(observed, "observed")[chosen]
    known = None if score is None else _given(score, label, numbers=truth is not None)[chosen]
    before = _Before(sample, label[chosen], _scored(predict, sample, numbers=truth is not None) if known is None else known,
                     threshold, members, truth, None if whose is None else whose.part(chosen))
    measured: list[Measurement] = []
    for perturbation in perturbations:
        why, after = _after(perturbation, predict, before, inputs, seed)
        detail = (("level", perturbation.level), ("repeats", float(perturbation.repeats)))
        measured.extend(_everywhere(perturbation.kind, detail, before, after, why, expected_groups))
    return tuple(measured)


def measure_changed_scores(kind: str, y: Any, score: Any, others: Sequence[Any], threshold: float, *,
                           attributes: Mapping[str, Any] | None = None, over: Sequence[str] = (),
                           expected_groups: Mapping[str, Sequence[str]] | None = None,
                           detail: tuple[tuple[str, float], ...] = (), why: str = "",
                           observed: Any = None, whose: Clusters | None = None) -> tuple[Measurement, ...]:
    """`<kind>_decision_flip_rate` and `<kind>_auc_drop` of scores that were made again in another way, averaged over `others`.

    y, score and each of `others`: shape (n,), the same rows in the same order. `why`: the reason if nothing could be made again.
    """
    truth, of = (None, arrays.scores) if observed is None else (arrays.numbers(observed, "observed"), arrays.numbers)
    label, checked = arrays.labels(y), of(score, "score")
    after = [of(other, "the other score") for other in others]
    for other in (checked, *after):
        arrays.same_rows(y=label, score=other)
    members = {attribute: membership(attribute, attributes or {}) for attribute in over}
    import polars as pl

    return _everywhere(kind, detail, _Before(pl.DataFrame(), label, checked, threshold, members, truth, whose), after,
                       why or ("" if after else "nothing was scored again"), expected_groups)


def _everywhere(kind: str, detail: tuple[tuple[str, float], ...], before: _Before, after: list[Floats], why: str,
                expected_groups: Mapping[str, Sequence[str]] | None) -> tuple[Measurement, ...]:
    """Over all rows, then over each attribute."""
    measured = [*_both(kind, detail, before, after, why, np.ones(len(before.y), dtype=np.bool_))]
    for attribute, member in before.attributes.items():
        names = set(member.tolist()) | set(() if expected_groups is None else expected_names(attribute, expected_groups))
        places = {str(name): np.asarray(member == name) for name in sorted(names)}
        parts = [(name, _both(kind, detail, before, after, why, rows_of), before.y[rows_of]) for name, rows_of in places.items()]
        measured.extend(_worst(attribute, which, parts) for which in (0, 1))
    return tuple(measured)


def perturb(frame: pl.DataFrame, perturbation: Perturbation, inputs: Inputs, seed: int) -> pl.DataFrame | None:
    """The frame with its allowed columns disturbed; None where no column allows this perturbation."""
    import polars as pl

    columns = {"category_flip": tuple(name for name, values in inputs.categories if len(values) > 1),
               "missing_values": inputs.nullable, "missing_block": inputs.nullable}.get(perturbation.kind, inputs.numeric)
    absent = sorted(set(columns) - set(frame.columns))
    if absent:
        raise MeasurementRefused(f"Columns to disturb are not in the frame: {', '.join(absent)}.",
                                 rule="declared inputs are measured", value=", ".join(absent),
                                 remedy="Declare columns that the model reads.")
    disturbed: list[pl.Series] = []
    for name in sorted(columns):
        # Missing as a block: the same draws for every column, so the same rows lose all of them.
        generator = np.random.default_rng(_seed(seed, perturbation, "" if perturbation.kind == "missing_block" else name))
        if perturbation.kind in ("missing_values", "missing_block"):
            hit = pl.Series(generator.random(frame.height) < perturbation.level)
            disturbed.append(frame.select(pl.when(hit).then(None).otherwise(pl.col(name)).alias(name)).to_series())
        elif perturbation.kind == "category_flip":
            disturbed.append(_flipped(frame[name], dict(inputs.categories)[name], perturbation.level, generator))
        else:
            disturbed.append(_moved(frame[name], perturbation, dict(inputs.ranges).get(name), generator))
    return frame.with_columns(disturbed) if disturbed else None


def _seed(seed: int, perturbation: Perturbation, column: str) -> int:
    words = f"{seed}|{perturbation.kind}|{perturbation.level!r}|{column}".encode()
    return int.from_bytes(hashlib.sha256(words).digest()[:8], "big")


def _moved(series: pl.Series, perturbation: Perturbation, declared: tuple[float, float] | None,
           generator: np.random.Generator) -> pl.Series:
    import polars as pl

    values = series.cast(pl.Float64).to_numpy()
    known = np.isfinite(values)
    if not known.any():
        return series
    present = values[known]
    if perturbation.kind == "numeric_noise":
        mean = math.fsum(present.tolist()) / len(present)
        deviation = math.sqrt(math.fsum(np.square(present - mean).tolist()) / len(present))
        moved = values + generator.standard_normal(len(values)) * (perturbation.level * deviation)
    else:
        moved = values * (1 + perturbation.level * generator.choice((-1.0, 1.0), size=len(values)))
    lowest, highest = declared if declared is not None else (float(present.min()), float(present.max()))
    # A value that already lies outside the declared range is disturbed, not pulled inside.
    moved = np.clip(moved, np.minimum(values, lowest), np.maximum(values, highest))
    whole = series.dtype.is_integer()
    changed = pl.Series(series.name, np.where(known, np.rint(moved) if whole else moved, values), nan_to_null=whole)
    kept = changed.cast(series.dtype)
    return kept if whole or series.null_count() == 0 else kept.to_frame().select(
        pl.when(series.is_null()).then(None).otherwise(pl.col(series.name)).alias(series.name)).to_series()


def _flipped(series: pl.Series, values: tuple[str, ...], rate: float, generator: np.random.Generator) -> pl.Series:
    """At `rate`, another of the allowed values, each as likely; nulls stay null."""
    import polars as pl

    place = {value: index for index, value in enumerate(values)}
    given = series.cast(pl.String).to_list()
    hit, step = generator.random(len(given)) < rate, generator.integers(1, len(values), size=len(given))
    other = [value if value is None or not flip else values[(place[value] + int(by)) % len(values)]
             if value in place else values[int(by) % len(values)]
             for value, flip, by in zip(given, hit.tolist(), step.tolist(), strict=True)]
    flipped = pl.Series(series.name, other, dtype=pl.String)
    # polars writes booleans as "true" and "false" but does not read them.
    return flipped == "true" if series.dtype == pl.Boolean else flipped.cast(series.dtype)


def _after(perturbation: Perturbation, predict: Predict, before: _Before, inputs: Inputs,
           seed: int) -> tuple[str, list[Floats]]:
    after: list[Floats] = []
    if before.frame.height == 0:
        return "no rows", after
    for repeat in range(perturbation.repeats):
        disturbed = perturb(before.frame, perturbation, inputs, seed + repeat)
        if disturbed is None:
            return f"no feature allows {perturbation.kind.replace('_', ' ')}", []
        changed = _changed(before.frame, disturbed)
        scores = before.score.copy()
        if changed.any():
            scores[changed] = _scored(predict, disturbed.filter(changed), numbers=before.observed is not None)
        after.append(scores)
    return "", after


def _changed(before: pl.DataFrame, after: pl.DataFrame) -> Any:
    """Which rows differ in any column; shape (rows,), bool."""
    import polars as pl

    moved = [before[name].ne_missing(after[name]) for name in before.columns]
    return pl.select(pl.any_horizontal(moved)).to_series().to_numpy()


def _scored(predict: Predict, frame: pl.DataFrame, *, numbers: bool) -> Floats:
    return _given(predict(frame), np.empty(frame.height), numbers=numbers)


def _given(given: Any, rows: Any, *, numbers: bool) -> Floats:
    """What the model said of these rows, checked: one number each, probabilities unless it predicts numbers."""
    score = (arrays.numbers if numbers else arrays.scores)(given, "the model's score")
    arrays.same_rows(frame=rows, score=score)
    return score


def _both(kind: str, detail: tuple[tuple[str, float], ...], before: _Before, after: list[Floats], why: str,
          rows: Any) -> tuple[Measurement, Measurement]:
    """Flip rate and AUC drop on some rows. Repeats share rows, so the interval counts each row once."""
    n = int(np.count_nonzero(rows))
    names = tuple(f"{kind}_{what}" for what in ("decision_flip_rate", "auc_drop" if before.observed is None else "mae_rise"))
    if why or n == 0:
        flips, drop = (Measurement(name, None, None, None, n, "none", detail=detail, note=why or "no rows",
                                   direction=metric_info(name).direction) for name in names)
        return flips, drop
    decided = before.score[rows] >= before.threshold
    flipped = sum(int(np.count_nonzero((score[rows] >= before.threshold) != decided)) for score in after)
    share = flipped / (n * len(after))
    lower, upper = wilson(share * n, n) or (None, None)
    flips = Measurement(names[0], share, lower, upper, n, f"Wilson on rows, mean of {len(after)} draws", detail=detail,
                        direction=metric_info(names[0]).direction)
    if before.whose is not None:
        return _of_clusters(flips, names[1], before, after, rows, before.whose.part(rows))
    if before.observed is not None:
        return flips, _mae_rise(names[1], detail, before.observed[rows], before.score[rows], [score[rows] for score in after])
    pairs = [delong_paired(before.y[rows], before.score[rows], score[rows]) for score in after]
    known = [pair for pair in pairs if pair is not None]
    if not known:
        return flips, Measurement(names[1], None, None, None, n, "paired DeLong", detail=detail,
                                  note="only one class is present", direction=metric_info(names[1]).direction)
    value = math.fsum(drop for drop, _ in known) / len(known)
    half = Z95 * math.sqrt(math.fsum(variance for _, variance in known) / len(known))
    sure = min(int(before.y[rows].sum()), n - int(before.y[rows].sum())) >= 2
    return flips, Measurement(names[1], value, value - half if sure else None, value + half if sure else None, n,
                              f"paired DeLong, mean of {len(known)} draws", detail=detail,
                              note="" if sure else "no interval: a class has one row",
                              direction=metric_info(names[1]).direction)


def _of_clusters(flips: Measurement, name: str, before: _Before, after: list[Floats], rows: Any,
                 whose: Clusters) -> tuple[Measurement, Measurement]:
    """The same two where rows belong together; each row counts once, by the mean of its draws."""
    score, y, n = before.score[rows], before.y[rows], len(before.y[rows])
    again = [other[rows] for other in after]
    decided = score >= before.threshold
    turned = np.mean([(other >= before.threshold) != decided for other in again], axis=0)
    flips = with_interval(flips, rate(turned, whose))
    if before.observed is not None:
        truth = before.observed[rows]
        plain = _mae_rise(name, flips.detail, truth, score, again)
        gained = np.mean([np.abs(other - truth) for other in again], axis=0) - np.abs(score - truth)
        return flips, with_interval(plain, mean(gained, whose)) if gained.any() else plain
    pairs = [pair for pair in (delong_paired(y, score, other) for other in again) if pair is not None]
    if not pairs:
        return flips, Measurement(name, None, None, None, n, "paired DeLong", detail=flips.detail, note="only one class is present",
                                  direction=metric_info(name).direction)
    drop = Measurement(name, math.fsum(lost for lost, _ in pairs) / len(pairs), None, None, n, "", detail=flips.detail,
                       direction=metric_info(name).direction)
    return flips, with_interval(drop, area_change(y, score, again, whose))


def _mae_rise(name: str, detail: tuple[tuple[str, float], ...], observed: Floats, before: Floats, after: list[Floats]) -> Measurement:
    """Mean absolute error gained; each row counts once, by the mean of its draws."""
    gained = np.mean([np.abs(score - observed) for score in after], axis=0) - np.abs(before - observed)
    mean, interval = normal_mean(gained)
    lower, upper = interval if interval is not None else (mean, mean) if not gained.any() else (None, None)
    return Measurement(name, mean, lower, upper, len(gained), f"normal approximation of the mean, mean of {len(after)} draws",
                       detail=detail, note="" if lower is not None else "too few rows, or no spread: no interval",
                       direction=metric_info(name).direction)


def _worst(over: str, which: int, parts: Sequence[tuple[str, tuple[Measurement, Measurement], Counts]]) -> Measurement:
    measured = [(group, both[which], int(y.sum()), len(y)) for group, both, y in parts]
    groups = tuple(GroupMeasurement(group, m.value, m.lower, m.upper, n, positives, n - positives)
                   for group, m, positives, n in measured)
    name, smallest = f"{measured[0][1].metric}", min(group.n for group in groups)
    missing = [f"{group} ({m.note})" for group, m, _, _ in measured if m.value is None]
    detail = measured[0][1].detail
    if missing:
        return Measurement(name, None, None, None, smallest, "per group", over, groups, detail,
                           f"not measurable in {', '.join(missing)}", direction=metric_info(name).direction)
    value, group, m = max(((m.value, group, m) for group, m, _, _ in measured if m.value is not None),
                          key=lambda one: one[:2])
    return Measurement(name, value, m.lower, m.upper, smallest, f"worst group; {m.method}", over, groups, detail,
                       f"worst {group}", direction=metric_info(name).direction)
