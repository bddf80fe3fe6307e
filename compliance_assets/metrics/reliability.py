"""What was predicted against what happened: scores in equal-mass bins, each with its observed share.

Bins never part equal scores: tied rows would fall left or right of an edge by accident of their order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from compliance_assets.metrics import arrays
from compliance_assets.metrics.arrays import Counts, Floats
from compliance_assets.metrics.intervals import wilson

BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """Scores from `lowest` to `highest`: their mean, the share that came true and its Wilson interval."""

    lowest: float
    highest: float
    mean_score: float
    observed: float
    lower: float
    upper: float
    n: int
    positives: int


@dataclass(frozen=True)
class ReliabilityCurve:
    """What was predicted against what happened, bin by bin, in rising order of score."""

    bins: tuple[ReliabilityBin, ...]

    @property
    def n(self) -> int:
        """Rows in all bins."""
        return sum(one.n for one in self.bins)

    def gaps(self) -> Floats:
        """|mean score - observed| of each bin; shape (bins,)."""
        return np.array([abs(one.mean_score - one.observed) for one in self.bins], dtype=np.float64)

    def expected_error(self) -> float:
        """Expected calibration error: the gaps, weighted by rows (Naeini et al. 2015)."""
        return math.fsum(one.n * abs(one.mean_score - one.observed) for one in self.bins) / self.n

    def debiased_error(self) -> float:
        """Expected calibration error less an estimate of what sampling noise adds (Kumar et al. 2019), not below 0.

        The noise is estimated around gaps that are noisy themselves, so a part of it (about half, if the truth is 0)
        remains.
        Their noise simulation has a closed form: the mean of |N(gap, s)| is that of a folded normal.
        """
        normal, noisy = NormalDist(), []
        for one in self.bins:
            gap, spread = one.mean_score - one.observed, math.sqrt(one.observed * (1 - one.observed) / one.n)
            folded = abs(gap) if spread == 0 else (
                2 * spread * normal.pdf(gap / spread) + gap * (1 - 2 * normal.cdf(-gap / spread)))
            noisy.append(one.n * folded)
        return max(0.0, 2 * self.expected_error() - math.fsum(noisy) / self.n)


def reliability_curve(y: Any, score: Any, bins: int = BINS) -> ReliabilityCurve:
    """Equal-mass bins of the scores; y, score: shape (n,). No rows give a curve without bins."""
    return curve_of(*checked(y, score), bins)


def checked(y: Any, score: Any) -> tuple[Counts, Floats]:
    """Labels and scores of the same rows."""
    label, given = arrays.labels(y), arrays.scores(score)
    arrays.same_rows(y=label, score=given)
    return label, given


def curve_of(y: Counts, score: Floats, bins: int) -> ReliabilityCurve:
    """The curve of checked inputs."""
    n = len(y)
    if n == 0:
        return ReliabilityCurve(())
    order = np.argsort(score)  # rows of one score stay in one bin and their sums are exact: their order says nothing
    y, score = y[order], score[order]
    # A bin's ideal start moves left to the first row of its score, so that equal scores stay together.
    starts = np.unique(np.searchsorted(score, score[[n * i // bins for i in range(bins)]], side="left"))
    made = []
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), n], strict=True):
        rows, positives = end - start, int(y[start:end].sum())
        lower, upper = wilson(positives, rows) or (0.0, 1.0)
        made.append(ReliabilityBin(float(score[start]), float(score[end - 1]),
                                   math.fsum(score[start:end].tolist()) / rows, positives / rows, lower, upper, rows,
                                   positives))
    return ReliabilityCurve(tuple(made))
