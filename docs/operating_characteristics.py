"""How often are the intervals right, and how often does the fairness gate let a true violation through? By simulation.

`python docs/operating_characteristics.py` writes docs/operating-characteristics.md beside it: the same seeds, the same table.
The intervals are the package's own (`metrics.intervals`) and the verdicts the gate's own (`policy.gates.judge`); only the data
are made up, from rates that are known because they were chosen. Takes about a quarter of an hour on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compliance_assets.metrics import clusters as together
from compliance_assets.metrics.catalogue import metric_info
from compliance_assets.metrics.clusters import Clusters
from compliance_assets.metrics.fairness import extreme_rates
from compliance_assets.metrics.intervals import (
    Interval,
    bootstrap_multinomial,
    delong,
    log_ratio,
    newcombe_difference,
    normal_mean,
    wilson,
)
from compliance_assets.metrics.measurement import Measurement
from compliance_assets.policy.gates import Verdict, judge
from compliance_assets.policy.system import Bound

SIZES = (30, 100, 1_000, 10_000)
RATES = (0.02, 0.05, 0.1, 0.2, 0.5)
RATIOS = (0.70, 0.75, 0.80, 0.85, 1.00)
REPEATS = 2_000
SEED = 20261125
PAGE = Path(__file__).with_name("operating-characteristics.md")

Counts = npt.NDArray[np.int64]
RATIO = Bound(metric="selection_rate_ratio", at_least=0.80, judged_on="lower", over=("group",), because="simulated for this page")
GAP = Bound(metric="equal_opportunity_difference", at_most=0.10, judged_on="upper", over=("group",), because="simulated for this page")


def cells(draw: np.random.Generator, n: int, rates: tuple[float, ...]) -> Counts:
    """Counts (group, label, decision) of n rows a group; decisions at these rates, labels even and independent of them."""
    made = np.zeros((len(rates), 2, 2), dtype=np.int64)
    for group, rate in enumerate(rates):
        positives = int(draw.binomial(n, 0.5))
        for label, rows in ((1, positives), (0, n - positives)):
            chosen = int(draw.binomial(rows, rate))
            made[group, label] = rows - chosen, chosen
    return made


def compared(name: str, counts: Counts) -> tuple[float | None, Interval | None]:
    """The comparison between groups and its interval, as `measure_cells` makes them; (None, None) where nothing is comparable."""
    statistic = extreme_rates(name)
    value = float(statistic(counts[np.newaxis].astype(np.float64))[0])
    if not np.isfinite(value):
        return None, None
    return value, bootstrap_multinomial(counts, statistic, seed=7)[0]


def verdict(bound: Bound, value: float | None, interval: Interval | None) -> Verdict:
    lower, upper = (None, None) if interval is None else interval
    measured = Measurement(bound.metric, value, lower, upper, 1, "bootstrap", "group", note="simulated",
                           direction=metric_info(bound.metric).direction)
    return judge("simulated", measured, bound, three_valued=True).verdict


# ------------------------------------------------------------------------------------------------------------- coverage


def rate_by_wilson(draw: np.random.Generator, n: int, rate: float) -> tuple[Interval | None, float]:
    return wilson(int(draw.binomial(n, rate)), n), rate


def difference_by_newcombe(draw: np.random.Generator, n: int, rate: float) -> tuple[Interval | None, float]:
    return newcombe_difference(int(draw.binomial(n, rate)), n, int(draw.binomial(n, 0.8 * rate)), n), 0.2 * rate


def ratio_by_logarithm(draw: np.random.Generator, n: int, rate: float) -> tuple[Interval | None, float]:
    return log_ratio(int(draw.binomial(n, 0.8 * rate)), n, int(draw.binomial(n, rate)), n), 0.8


def ratio_by_bootstrap(draw: np.random.Generator, n: int, rate: float) -> tuple[Interval | None, float]:
    return compared("selection_rate_ratio", cells(draw, n, (rate, 0.8 * rate)))[1], 0.8


def gap_by_bootstrap(draw: np.random.Generator, n: int, rate: float) -> tuple[Interval | None, float]:
    return compared("selection_rate_difference", cells(draw, n, (rate, 0.8 * rate)))[1], 0.2 * rate


def area_by_delong(draw: np.random.Generator, n: int, rate: float) -> tuple[Interval | None, float]:
    label = (draw.random(n) < rate).astype(np.int64)
    found = delong(label, draw.normal(size=n) + 1.1902322 * label)  # two normals that far apart have an area of 0.8
    return (None if found is None else found.interval()), 0.8


def mean_by_normal(draw: np.random.Generator, n: int, rate: float) -> tuple[Interval | None, float]:
    # Squared errors of a well calibrated score: a beta with mean `rate`, so skewed where the rate is low.
    score = draw.beta(4 * rate, 4 * (1 - rate), size=n)
    label = draw.random(n) < score
    return normal_mean(np.square(score - label))[1], rate * (1 - rate) * 4 / 5


METHODS: tuple[tuple[str, Callable[[np.random.Generator, int, float], tuple[Interval | None, float]], int], ...] = (
    ("Wilson: a rate", rate_by_wilson, 5 * REPEATS),
    ("Newcombe: difference of two rates, p and 0.8 p", difference_by_newcombe, 5 * REPEATS),
    ("Katz, log ratio: 0.8 p against p", ratio_by_logarithm, 5 * REPEATS),
    ("bootstrap: lowest / highest rate of two groups", ratio_by_bootstrap, REPEATS),
    ("bootstrap: highest - lowest rate of two groups", gap_by_bootstrap, REPEATS),
    ("DeLong, widened by Newcombe: area of 0.8", area_by_delong, REPEATS // 2),
    ("normal: Brier score of a calibrated score", mean_by_normal, REPEATS // 2),
)


def coverage(method: Callable[[np.random.Generator, int, float], tuple[Interval | None, float]], n: int, rate: float,
             repeats: int) -> tuple[float | None, float]:
    """Share of intervals that hold the truth, and share of samples that had no interval at all."""
    draw = np.random.default_rng([SEED, n, int(rate * 1000), repeats])
    held = had = 0
    for _ in range(repeats):
        interval, truth = method(draw, n, rate)
        if interval is not None:
            had += 1
            held += interval[0] <= truth <= interval[1]
    return (held / had if had else None), 1 - had / repeats


# ------------------------------------------------------------------------------------------------------------- clusters

ALIKE = (0.0, 0.1, 0.5, 1.0)
PEOPLE = (10, 30, 100, 1_000)
OF_CLUSTERS = 1_000
_EXPECTED = {  # of scores two normals apart, or of a well calibrated score
    "area": 0.8, "Brier score": 0.5 * 0.5 * 4 / 5}


def people(draw: np.random.Generator, m: int, alike: float, rate: float) -> tuple[Clusters, Counts]:
    """1 to 7 rows for each of m people, and whether each row's outcome is favourable; `alike`: the correlation of a person's rows."""
    whose = np.repeat(np.arange(m), draw.integers(1, 8, size=m))
    if alike == 0:
        share = np.full(m, rate)
    elif alike == 1:
        share = (draw.random(m) < rate).astype(np.float64)
    else:
        more = (1 - alike) / alike
        share = draw.beta(rate * more, (1 - rate) * more, size=m)
    return Clusters(whose, m, "person"), (draw.random(len(whose)) < share[whose]).astype(np.int64)


def shared(draw: np.random.Generator, whose: Clusters, alike: float) -> npt.NDArray[np.float64]:
    """Standard normal numbers, correlated by `alike` within a person."""
    own, common = draw.normal(size=len(whose.number)), draw.normal(size=whose.count)[whose.number]
    return np.sqrt(alike) * common + np.sqrt(1 - alike) * own


Both = tuple[Interval | None, Interval | None, float]
"""The interval by clusters, the one by rows, and the truth."""


def cluster_rate(rate: float) -> Callable[[np.random.Generator, int, float], Both]:
    def simulated(draw: np.random.Generator, m: int, alike: float) -> Both:
        whose, hits = people(draw, m, alike, rate)
        return together.rate(hits, whose)[0], wilson(int(hits.sum()), len(hits)), rate

    return simulated


def cluster_ratio(draw: np.random.Generator, m: int, alike: float) -> Both:
    """Two groups of m people each, selected at 0.5 and 0.4."""
    parts = [people(draw, m, alike, rate) for rate in (0.5, 0.4)]
    number = np.concatenate([parts[0][0].number, parts[1][0].number + m])
    group = np.repeat([0, 1], [len(hits) for _, hits in parts])
    hits, whose = np.concatenate([hits for _, hits in parts]), Clusters(number, 2 * m, "person")
    statistic = extreme_rates("selection_rate_ratio")
    # Labels do not matter here: all rows have label 1.
    by_clusters = together.resampled(whose.counts(4 * group + 2 + hits, (2, 2, 2)), statistic, whose, scarcest=m)[0]
    counts = np.bincount(4 * group + 2 + hits, minlength=8).reshape(2, 2, 2).astype(np.int64)
    return by_clusters, compared("selection_rate_ratio", counts)[1], 0.8


def cluster_area(draw: np.random.Generator, m: int, alike: float) -> Both:
    whose, label = people(draw, m, alike, 0.3)
    score = shared(draw, whose, alike) + 1.1902322 * label
    found = delong(label, score)
    return together.area(label, score, whose)[0], None if found is None else found.interval(), _EXPECTED["area"]


def cluster_mean(draw: np.random.Generator, m: int, alike: float) -> Both:
    """Squared errors, chi-squared with one degree of freedom: skewed."""
    whose, _ = people(draw, m, 0.0, 0.5)
    loss = np.square(shared(draw, whose, alike))
    return together.mean(loss, whose)[0], normal_mean(loss)[1], 1.0


CLUSTERED: tuple[tuple[str, Callable[[np.random.Generator, int, float], Both]], ...] = (
    ("a rate of 0.05", cluster_rate(0.05)), ("a rate of 0.2", cluster_rate(0.2)), ("a rate of 0.5", cluster_rate(0.5)),
    ("lowest / highest rate of two groups, 0.4 and 0.5", cluster_ratio), ("area of 0.8", cluster_area),
    ("mean squared error", cluster_mean))


def cluster_coverage(method: Callable[[np.random.Generator, int, float], Both], m: int, alike: float) -> tuple[float | None, float | None]:
    """Share of intervals by clusters, and of those by rows, that hold the truth; among samples that have both."""
    draw = np.random.default_rng([SEED, m, int(alike * 1000)])
    held, had = [0, 0], 0
    for _ in range(OF_CLUSTERS):
        by_clusters, by_rows, truth = method(draw, m, alike)
        if by_clusters is None or by_rows is None:
            continue
        had += 1
        for place, one in enumerate((by_clusters, by_rows)):
            held[place] += one[0] <= truth <= one[1]
    return (held[0] / had, held[1] / had) if had else (None, None)


def cluster_rows() -> Iterator[list[str]]:
    for name, method in CLUSTERED:
        for alike in ALIKE:
            row = [name, f"{alike:g}"]
            for m in PEOPLE:
                by_clusters, by_rows = cluster_coverage(method, m, alike)
                row.append(f"{percent(by_clusters)} ({percent(by_rows, 0)})")
            yield row
            print("clusters", " ".join(row), file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------------------- the gate


def passes(bound: Bound, n: int, rates: tuple[float, ...], salt: int) -> tuple[float, float]:
    """How often the gate passes on the interval's unfavourable end, and how often it would on the point alone."""
    draw = np.random.default_rng([SEED, n, salt, len(rates)])
    on_interval = on_point = 0
    for _ in range(REPEATS):
        value, interval = compared(bound.metric, cells(draw, n, rates))
        on_interval += verdict(bound, value, interval) is Verdict.PASS
        on_point += value is not None and bound.holds_for(value)
    return on_interval / REPEATS, on_point / REPEATS


# ------------------------------------------------------------------------------------------------------------- the page


def percent(share: float | None, digits: int = 1) -> str:
    return "none" if share is None else f"{100 * share:.{digits}f}"


def table(head: list[str], rows: Iterator[list[str]]) -> str:
    return "\n".join(["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *("| " + " | ".join(row) + " |" for row in rows)])


def coverage_rows() -> Iterator[list[str]]:
    for name, method, repeats in METHODS:
        for rate in RATES:
            row = [name, f"{rate:g}"]
            for n in SIZES:
                held, without = coverage(method, n, rate, repeats)
                row.append(percent(held) + (f" ({percent(without, 0)} without)" if without >= 0.005 else ""))
            yield row
            print(" ".join(row), file=sys.stderr, flush=True)


def ratio_rows(groups: int, worst: list[float]) -> Iterator[list[str]]:
    for rate in (0.05, 0.2, 0.5):
        for ratio in RATIOS:
            row = [f"{rate:g}", f"{ratio:.2f}"]
            for n in SIZES:
                on_interval, on_point = passes(RATIO, n, (rate * ratio, *([rate] * (groups - 1))), int(1000 * rate + 100_000 * ratio))
                row.append(f"{percent(on_interval)} ({percent(on_point, 0)})")
                if ratio == 0.80:
                    worst.append(on_interval)
            yield row
            print(groups, " ".join(row), file=sys.stderr, flush=True)


def gap_rows(worst: list[float]) -> Iterator[list[str]]:
    for rate in (0.5, 0.8):
        for gap in (0.20, 0.15, 0.10, 0.05, 0.00):
            row = [f"{rate:g}", f"{gap:.2f}"]
            for n in SIZES:
                on_interval, on_point = passes(GAP, n, (rate - gap, rate), int(1000 * rate + 100_000 * gap))
                row.append(f"{percent(on_interval)} ({percent(on_point, 0)})")
                if gap == 0.10:
                    worst.append(on_interval)
            yield row
            print("gap", " ".join(row), file=sys.stderr, flush=True)


def page() -> str:
    sizes = [f"n = {n:,}" for n in SIZES]
    at_bound: list[float] = []
    at_gap: list[float] = []
    coverages = table(["method", "base rate p", *sizes], coverage_rows())
    in_clusters = table(["of", "alike", *(f"{m:,} people" for m in PEOPLE)], cluster_rows())
    two = table(["highest rate", "true ratio", *sizes], ratio_rows(2, at_bound))
    five = table(["highest rate", "true ratio", *sizes], ratio_rows(5, at_bound))
    gaps = table(["highest rate", "true gap", *sizes], gap_rows(at_gap))
    return f"""# Operating characteristics

Made by `python docs/operating_characteristics.py` (seed {SEED}); do not edit. The intervals are those of `metrics/intervals.py`, the
verdicts those of `policy/gates.py`. {REPEATS:,} simulated samples a cell for bootstrap and gate (a share of 2.5 % is then known to
within ±0.7), {5 * REPEATS:,} for closed forms, {REPEATS // 2:,} for DeLong and the mean. n counts rows: of the sample, or of each group.

## Coverage of the 95 % intervals

Percent of intervals that hold the truth, among samples that have an interval; in brackets, percent of samples without one (no
event, one class): there the package answers ERROR or INSUFFICIENT_DATA and nothing passes.

{coverages}

## Coverage where rows belong together

Each person (cluster) has 1 to 7 rows, 4 on average; *alike* is the correlation of what is measured between two rows of one person
(1: all of a person's rows are the same). Percent of the intervals by clusters (`metrics/clusters.py`) that hold the truth; in
brackets the same of the intervals that count rows, which are shown nowhere in such a system. {OF_CLUSTERS:,} samples a cell
(±1.4); of the ratio, so many people in each group.

{in_clusters}

## How often the fairness gate passes: selection rate ratio at least 0.80, judged on the lower end

Two groups of n rows each. In brackets: how often the measured ratio itself, without its interval, would reach 0.80.

{two}

Five groups of n rows each, one below the other four.

{five}

At the bound (true ratio 0.80) the gate passes in at most {percent(max(at_bound))} % of samples, in any of these cells.

## How often the fairness gate passes: equal opportunity difference at most 0.10, judged on the upper end

Two groups of n rows each, about half of them with label 1; true positive rates differ by the true gap.

{gaps}

At the bound (true gap 0.10) the gate passes in at most {percent(max(at_gap))} % of samples.

## Read this with it

- A violation at the bound or beyond it should pass at most 5 % of the time. Judged on the point it passes in about half of the
  samples; that is why bounds are judged on the unfavourable end.
- The price: with few rows a fair model does not pass either (it is INCONCLUSIVE). `minimum_group` says from where on a verdict is
  attempted at all; no minimum was applied here, so that its worth can be seen.
- Areas under the curve: with ten rows in the smaller class, DeLong's lower end alone lay above the truth in 10 (area 0.8) to 15
  (area 0.9) of 100 samples, where 2.5 should; that is why Newcombe's limits widen it (`Auc.interval`).
- The mean of squared errors (Brier score) has a normal interval, which is too short where the rarer class has fewer than about
  twenty rows: do not declare a bound on it for a holdout as small as that.
- Rows that belong together: intervals that count rows hold the truth in half of the samples where a person's rows are the same.
  Those by clusters hold it as often as they say, but for means of skewed losses of ten or thirty people. A group counts by its
  people, not by its rows: declare `minimum_group` with that in mind.
- Percentile intervals of a ratio or gap of few events are not exact, and the highest and lowest of several groups are looked for
  in every draw: both make the lower end low, so the gate errs towards refusing.
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
