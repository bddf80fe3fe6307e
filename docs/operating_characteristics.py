"""How often are the intervals right, and how often does the fairness gate let a true violation through? By simulation.

`python docs/operating_characteristics.py` writes docs/operating-characteristics.md beside it: the same seeds, the same table.
The intervals are the package's own (`metrics.intervals`) and the verdicts the gate's own (`policy.gates.judge`); only the data
are made up, from rates that are known because they were chosen. Takes a few minutes on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compliance_assets.metrics.catalogue import metric_info
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
- Percentile intervals of a ratio or gap of few events are not exact, and the highest and lowest of several groups are looked for
  in every draw: both make the lower end low, so the gate errs towards refusing.
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
