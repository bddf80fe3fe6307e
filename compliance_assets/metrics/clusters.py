"""How sure are we where rows belong together? 95 % intervals that resample the people, not their rows.

Ten applications of one person are not ten people: an interval that counts rows is too short by as much as the rows of a person
are alike. Here whole clusters are drawn with replacement (the cluster bootstrap of Field & Welsh 2007), as sums by cluster: one
matrix of draws times one table of sums, whatever the number of rows. More than 2,000 clusters are put together at random into
2,000 blocks first, whose sums are as independent as the clusters are (the random groups of survey practice, Wolter 2007).
Percentiles are taken further out where clusters are few (Hesterberg 2015, the expanded percentile interval); a rate's interval
reaches at least to Wilson's on its effective number of rows (Dean & Pagano 2015), since draws are blind to rare events; areas
under the curve have Obuchowski's variance (1997), which is DeLong's with rows summed by cluster.

Sums are whole numbers, or are put on a grid so fine that they add up exactly: the same bits in any order of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from compliance_assets.metrics.arrays import Counts, Floats
from compliance_assets.metrics.intervals import DRAWS, Interval, exact_mean, newcombe_auc, placements, wilson

MOST_BLOCKS = 2_000
FEWEST = 5
"""Fewer clusters than this say nothing about how much clusters differ."""
_SEED = 7
_MOST_UNDEFINED = 0.05
_EXACT_BITS = 46  # of 53: resampled sums may be 128 times as large as the sums themselves

Found = tuple[Interval | None, str]
"""An interval, or None; and the method in words, or why there is none."""


@dataclass(frozen=True)
class Clusters:
    """The cluster of every row: `number`, shape (n,), in 0 … count - 1; `by`: the column that says so."""

    number: Counts
    count: int
    by: str

    @classmethod
    def of(cls, ids: Any, by: str) -> Clusters:
        """`ids`: polars series, shape (n,), equal where rows belong together; missing ones are equal, as for the split."""
        import polars as pl

        text = ids.cast(pl.String).fill_null("")
        names = text.unique().sort()
        return cls(text.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64), len(names), by)

    def part(self, rows: Any) -> Clusters:
        """Of these rows alone (a mask, a slice or places)."""
        if isinstance(rows, slice) and rows == slice(None):
            return self
        number = self.number[rows]
        there = np.bincount(number, minlength=self.count) > 0
        return Clusters((np.cumsum(there) - 1)[number], int(there.sum()), self.by)

    @cached_property
    def _block(self) -> Counts:
        """The block of each cluster."""
        if self.count <= MOST_BLOCKS:
            return np.arange(self.count, dtype=np.int64)
        return np.random.default_rng(_SEED).permutation(self.count) % MOST_BLOCKS

    @property
    def blocks(self) -> int:
        return min(self.count, MOST_BLOCKS)

    def counts(self, cell: Any, shape: Sequence[int]) -> Floats:
        """Rows by block and cell; `cell`: shape (n,), a place in `shape` read row by row. Shape (blocks, *shape)."""
        size = math.prod(shape)
        place = self._block[self.number] * size + np.asarray(cell, dtype=np.int64)
        return np.bincount(place, minlength=self.blocks * size).reshape(self.blocks, *shape).astype(np.float64)

    def sums(self, *columns: Any) -> Floats:
        """Sums of each column by block; shape (blocks, columns). Exact: see `on_grid`."""
        block = self._block[self.number]
        return np.stack([np.bincount(block, weights=on_grid(np.asarray(column, dtype=np.float64)), minlength=self.blocks)
                         for column in columns], axis=-1)

    def sums_by(self, cell: Any, size: int, column: Any) -> Floats:
        """Sums of a column by block and cell; shape (blocks, size)."""
        place = self._block[self.number] * size + np.asarray(cell, dtype=np.int64)
        given = on_grid(np.asarray(column, dtype=np.float64))
        return np.bincount(place, weights=given, minlength=self.blocks * size).reshape(self.blocks, size).astype(np.float64)

    def in_words(self) -> str:
        """How many are drawn: `1,204 of person`."""
        together = f" in {MOST_BLOCKS:,} blocks" if self.count > MOST_BLOCKS else ""
        return f"{self.count:,} of {self.by}{together}"


def on_grid(values: Floats) -> Floats:
    """The values as multiples of one power of two, so fine that sums of all of them, in any order, are exact."""
    most = len(values) * float(np.abs(values).max(initial=0.0))
    if most == 0 or not math.isfinite(most):
        return values
    step = math.ldexp(1.0, math.frexp(most)[1] - _EXACT_BITS)
    return np.asarray(np.rint(values / step) * step)


@lru_cache(maxsize=4)
def _drawn(blocks: int, draws: int) -> Floats:
    """How often each block is drawn; shape (draws, blocks)."""
    return np.random.default_rng(_SEED).multinomial(blocks, np.full(blocks, 1 / blocks), size=draws).astype(np.float64)


def student(clusters: int) -> float:
    """The 97.5 % point of Student's t with one degree of freedom fewer than there are clusters."""
    from scipy.stats import t

    return float(t.ppf(0.975, clusters - 1))


def resampled(table: Floats, statistic: Callable[[Floats], Floats], clusters: Clusters, *, draws: int = DRAWS,
              scarcest: int | None = None, of_counts: bool = True) -> Found:
    """Interval of a function of sums. `table`: (blocks, *shape); `statistic`: (draws, *shape) to (draws,), NaN where undefined.

    `scarcest`: clusters in the group that has fewest, where groups are compared. Where every draw of counts gives the same number
    (a rate of 0 or 1), the Dirichlet posterior with Jeffreys' prior stands in, each cluster counted as one row: nothing is known of
    how alike its rows are. The interval reaches to the number itself, as `bootstrap_multinomial`'s does.
    """
    few = min(clusters.count, clusters.count if scarcest is None else scarcest)
    method = f"cluster bootstrap ({clusters.in_words()}, {draws} draws, seed {_SEED})"
    if few < FEWEST:
        return None, f"{method}: only {few} clusters, no interval"
    shape = table.shape[1:]
    flat = table.reshape(len(table), -1)
    values = statistic((_drawn(len(table), draws) @ flat).reshape(draws, *shape))
    defined = values[np.isfinite(values)]
    if len(defined) < (1 - _MOST_UNDEFINED) * draws:
        return None, f"{method}: undefined in {draws - len(defined)} draws, no interval"
    if defined.min() == defined.max():
        if not of_counts:
            return None, f"{method}: every draw was equal, no interval"
        total = flat.sum(axis=0)
        shares = total * (clusters.count / clusters.number.size) + 0.5
        defined = statistic(np.random.default_rng(_SEED).dirichlet(shares, size=draws).reshape(draws, *shape))
        method = f"Dirichlet posterior (Jeffreys prior, {clusters.in_words()} counted as rows, {draws} draws; every cluster draw was equal)"
        if not np.isfinite(defined).all():
            return None, f"{method}: undefined, no interval"
    tail = _tail(few)
    lower, upper = (float(end) for end in np.quantile(defined, (tail, 1 - tail)))
    observed = float(statistic(flat.sum(axis=0).reshape(1, *shape))[0])
    return (min(lower, observed), max(upper, observed)), method


def _tail(clusters: int) -> float:
    """The share to cut at either end: 2.5 % with many clusters, less with few (Hesterberg 2015, section 5.3)."""
    from scipy.stats import norm

    return float(norm.cdf(-student(clusters) * math.sqrt(clusters / (clusters - 1))))


def rate(hits: Any, clusters: Clusters, base: Any = None, *, draws: int = DRAWS) -> Found:
    """Interval of a share: mean of `hits` in [0, 1], shape (n,), over all rows or those of the mask `base`."""
    if base is not None:
        hits, clusters = np.asarray(hits)[base], clusters.part(base)
    given = np.asarray(hits, dtype=np.float64)
    n, m = len(given), clusters.count
    if n == 0:
        return None, "no rows"
    table = np.stack([clusters.sums(given)[:, 0], clusters.counts(np.zeros(n), (1,))[:, 0]], axis=-1)
    drawn, method = resampled(table, lambda sums: np.asarray(sums[..., 0] / sums[..., 1]), clusters, draws=draws, of_counts=False)
    if m < FEWEST:
        return None, method
    share = exact_mean(given)
    lower, upper = wilson_of_clusters(share, given, clusters)
    if drawn is not None:
        lower, upper = min(lower, drawn[0]), max(upper, drawn[1])
    return (lower, upper), f"cluster bootstrap, at least Wilson on the effective number of rows ({clusters.in_words()})"


def share_of(hits: Any, whose: Clusters | None, rows: Any) -> Found:
    """Wilson's interval of a share, or `rate` where rows belong together. `hits`: of these `rows` of all that `whose` tells of."""
    return (wilson(int(np.count_nonzero(hits)), len(hits)), "Wilson") if whose is None else rate(hits, whose.part(rows))


def wilson_of_clusters(share: float, hits: Floats, clusters: Clusters) -> Interval:
    """Wilson's interval on as many rows as would be as sure without clusters, by Student's t (Dean & Pagano 2015).

    A rate of 0 or 1 has no spread to go by: every cluster counts as one row then.
    """
    n, m = len(hits), clusters.count
    away = np.bincount(clusters.number, weights=on_grid(hits - share), minlength=m)
    variance = m / (m - 1) * math.fsum(np.square(away).tolist()) / (n * n)
    effective = min(float(n), share * (1 - share) / variance) if 0 < share < 1 and variance > 0 else float(m)
    effective *= (student(10**6) / student(m)) ** 2
    found = wilson(share * effective, effective)
    assert found is not None  # there are rows
    return found


def mean(values: Any, clusters: Clusters, *, draws: int = DRAWS) -> Found:
    """Interval of the mean of `values`, shape (n,)."""
    given = np.asarray(values, dtype=np.float64)
    if len(given) == 0:
        return None, "no rows"
    table = np.stack([clusters.sums(given)[:, 0], clusters.counts(np.zeros(len(given)), (1,))[:, 0]], axis=-1)
    return resampled(table, lambda sums: np.asarray(sums[..., 0] / sums[..., 1]), clusters, draws=draws, of_counts=False)


def area(y: Counts, score: Floats, clusters: Clusters) -> Found:
    """Interval of an area under the curve; Newcombe's limits on effective class sizes where they reach further, as without clusters."""
    value, influence, few, method = *_influence(y, score, clusters), "cluster DeLong (Obuchowski 1997)"
    if value is None or few < FEWEST:
        return None, f"{method}: " + ("only one class is present" if value is None else f"only {few} clusters in a class, no interval")
    variance = _of_sums(influence)
    if variance == 0.0:
        return wilson(value * few, few), f"{method}; Wilson on the clusters of the scarcer class, as separation is perfect"
    positives, negatives = int(y.sum()), len(y) - int(y.sum())
    alone = math.fsum(np.square(_influence(y, score, Clusters(np.arange(len(y)), len(y), clusters.by))[1]).tolist())
    shrink = min(1.0, alone / variance)
    lower, upper = newcombe_auc(value, max(1, round(positives * shrink)), max(1, round(negatives * shrink)))
    half = student(few) * math.sqrt(variance)
    return (max(0.0, min(value - half, lower)), min(1.0, max(value + half, upper))), f"{method}, {clusters.count:,} of {clusters.by}"


def area_change(y: Counts, score: Floats, others: Sequence[Floats], clusters: Clusters) -> Found:
    """Interval of the mean over `others` of AUC(score) - AUC(other), on the same rows."""
    method = "paired cluster DeLong (Obuchowski 1997)"
    value, first, few = _influence(y, score, clusters)
    if value is None or few < FEWEST:
        return None, f"{method}: " + ("only one class is present" if value is None else f"only {few} clusters in a class, no interval")
    placed = [_influence(y, one, clusters) for one in others]
    changes = [(value - other, first - theirs) for other, theirs, _ in placed if other is not None]
    variance = math.fsum(_of_sums(gap) for _, gap in changes) / len(changes)
    middle, half = math.fsum(change for change, _ in changes) / len(changes), student(few) * math.sqrt(variance)
    return (max(-1.0, middle - half), min(1.0, middle + half)), f"{method}, {clusters.count:,} of {clusters.by}"


def _influence(y: Counts, score: Floats, clusters: Clusters) -> tuple[float | None, Floats, int]:
    """The area, what each cluster moves it by (count,), and the number of clusters in the class that fewer have."""
    placed = placements(y, score)
    if placed is None:
        return None, np.zeros(0), 0
    value, positive, negative = placed
    of_positive, of_negative = clusters.number[y == 1], clusters.number[y == 0]
    moved = np.bincount(of_positive, weights=on_grid((positive - value) / len(positive)), minlength=clusters.count) + np.bincount(
        of_negative, weights=on_grid((negative - value) / len(negative)), minlength=clusters.count)
    return value, moved.astype(np.float64), min(int(np.count_nonzero(np.bincount(rows))) for rows in (of_positive, of_negative))


def _of_sums(influence: Floats) -> float:
    """Variance of a sum of independent parts whose sum is 0."""
    m = len(influence)
    return m / (m - 1) * math.fsum(np.square(influence).tolist())
