"""Does the model still look at the same things? Which features it leans on most, and whether another model leans on others.

A feature's importance is what its shuffling costs (Breiman 2001): the mean squared error of the scores with this one column
shuffled, less the mean squared error as they are. Every row says what it lost, so the interval resamples rows, the same ones
for both models where both were asked about the same people. Nothing here knows a model: scoring is handed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Floats
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.intervals import DRAWS, percentile
from compliance_assets.metrics.measurement import GroupMeasurement, Measurement, MeasurementRefused

if TYPE_CHECKING:
    import polars as pl

NAMES = ("top_features_changed", "top_features_reordered")
_AT_ONCE = 50


@dataclass(frozen=True)
class Importance:
    """What shuffling each feature cost each row; `losses` has shape (rows, features)."""

    features: tuple[str, ...]
    losses: Floats

    @property
    def means(self) -> Floats:
        """Importance of each feature; shape (features,)."""
        return np.asarray(self.losses.mean(axis=0))


def importance(predict: Callable[[pl.DataFrame], Any], frame: pl.DataFrame, y: Any, *, rows: int, shuffles: int = 3,
               seed: int = 7) -> Importance:
    """What shuffling costs, on at most `rows` rows drawn by `seed`. y: labels or numbers, shape (n,), in the unit of the scores.

    Each feature is shuffled by a generator seeded by its own name, so another feature's coming or going moves nothing.
    """
    observed = arrays.numbers(y, "y")
    if frame.height == 0 or frame.width == 0:
        raise MeasurementRefused("There are no rows, or no features, to shuffle.", rule="importance needs rows", value=str(frame.shape),
                                 remedy="Hand in the holdout.")
    arrays.same_rows(y=observed, frame=np.empty(frame.height))
    if frame.height > rows:
        chosen = np.sort(np.random.default_rng(seed).choice(frame.height, size=rows, replace=False))
        frame, observed = frame[chosen], observed[chosen]
    before = np.square(arrays.numbers(predict(frame), "the model's score") - observed)
    losses = np.empty((frame.height, frame.width), dtype=np.float64)
    for place, name in enumerate(frame.columns):
        generator = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}|{name}".encode()).digest()[:8], "big"))
        lost = np.zeros(frame.height, dtype=np.float64)
        for _ in range(shuffles):
            shuffled = frame.with_columns(frame[name][generator.permutation(frame.height)])
            lost += np.square(arrays.numbers(predict(shuffled), "the model's score") - observed) - before
        losses[:, place] = lost / shuffles
    return Importance(tuple(frame.columns), losses)


def measure_top_features(names: Sequence[str], now: Importance, before: Importance, top: int, *, draws: int = DRAWS,
                         seed: int = 7) -> tuple[Measurement, ...]:
    """`top_features_changed`: share of the `top` most important features that are not among the other model's;
    `top_features_reordered`: share of the first `top` places that another feature stands in. `groups`: each of today's top
    features with its importance and interval.
    """
    top = min(top, len(now.features), len(before.features))
    if top < 1:
        raise MeasurementRefused("No feature stands on top of none.", rule="importance needs features", value=str(top),
                                 remedy="Declare top: 1 or more.")
    drawn = _resampled(now, draws, seed), _resampled(before, draws, seed)
    first, earlier = _places(now, now.means[np.newaxis], top), _places(before, before.means[np.newaxis], top)
    many = _places(now, drawn[0], top), _places(before, drawn[1], top)
    n, groups = min(len(now.losses), len(before.losses)), []
    for name in first[0]:
        place = now.features.index(name)
        low, high = percentile(drawn[0][:, place])
        value = float(now.means[place])
        groups.append(GroupMeasurement(str(name), value, min(low, value), max(high, value), len(now.losses)))
    said = f"now {', '.join(first[0])}; before {', '.join(earlier[0])}"
    measured = []
    for name in names:
        direction = metric_info(name, "drift").direction
        if name not in NAMES:
            raise MeasurementRefused(f"{name} does not compare what two models lean on.", rule="metrics get their inputs", value=name,
                                     remedy=f"Choose one of: {', '.join(NAMES)}.")
        of = _changed if name == "top_features_changed" else _reordered
        value = float(of(first, earlier)[0])
        low, high = percentile(of(*many))
        measured.append(Measurement(
            name, value, min(low, value), max(high, value), n, f"mean loss from shuffling, rows resampled ({draws} draws, seed {seed})",
            groups=tuple(groups), detail=(("top", float(top)),), note=said, direction=direction))
    return tuple(measured)


def _resampled(of: Importance, draws: int, seed: int) -> Floats:
    """Importances of `draws` samples of as many rows, drawn with replacement; shape (draws, features)."""
    generator, rows = np.random.default_rng(seed), len(of.losses)
    found = []
    for start in range(0, draws, _AT_ONCE):
        count = min(_AT_ONCE, draws - start)
        times = np.stack([np.bincount(generator.integers(0, rows, size=rows), minlength=rows) for _ in range(count)])
        # einsum, not a matrix product: its sums do not depend on the number of threads.
        found.append(np.einsum("dr,rf->df", times.astype(np.float64), of.losses, optimize=False) / rows)
    return np.concatenate(found)


def _places(of: Importance, means: Floats, top: int) -> Any:
    """The names of the `top` features of each draw, most important first, of two equals the one that comes first in the alphabet."""
    names = np.array(sorted(of.features), dtype=object)
    ordered = means[:, [of.features.index(name) for name in names]]
    return names[np.argsort(-ordered, axis=1, kind="stable")[:, :top]]


def _changed(now: Any, before: Any) -> Floats:
    return np.array([1 - len(set(one) & set(other)) / len(one) for one, other in zip(now, before, strict=True)], dtype=np.float64)


def _reordered(now: Any, before: Any) -> Floats:
    return np.asarray((now != before).mean(axis=1), dtype=np.float64)
