"""The small tests behind the alerts: Fisher's exact test, an EWMA of passes with an exact limit, Mann-Kendall, straight lines.

Exact, for few cases. Sources: Fisher 1935 (one-sided); Roberts 1959 (EWMA); Mann 1945 and Kendall 1975; Theil 1950 and Sen 1968.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from statistics import median

LAMBDA = 0.2
"""Weight of the newest verdict in the moving average."""
_GRID = 2000


def fisher_fewer(recent: int, n: int, earlier: int, m: int) -> float:
    """P of `recent` passes of n, or fewer, if the rate were that of both halves together (hypergeometric, one-sided)."""
    passes, whole = recent + earlier, math.comb(n + m, n)
    return sum(math.comb(passes, x) * math.comb(n + m - passes, n - x) for x in range(max(0, passes - m), recent + 1)) / whole


def ewma(start: float, passed: Sequence[bool]) -> float:
    """The exponentially weighted moving average after these verdicts, from `start`."""
    value = start
    for one in passed:
        value = (1 - LAMBDA) * value + LAMBDA * one
    return value


@lru_cache(maxsize=256)
def ewma_limit(start: float, n: int, rarely: float) -> float:
    """The value that the average falls below with a probability of at most `rarely` while passes keep the rate `start`.

    The usual limits at three standard deviations assume a normal distribution, which a pass rate near 1 is far from: one failure
    would be an alarm. So the distribution of the weighted sum is computed, on a grid that rounds every weight down.
    """
    import numpy as np

    share = np.zeros(_GRID + 1)
    share[int(_GRID * start * (1 - LAMBDA) ** n)] = 1.0
    for age in range(n):
        step = int(_GRID * LAMBDA * (1 - LAMBDA) ** age)
        moved = np.zeros_like(share)
        moved[step:] = share[:len(share) - step] if step else share
        share = (1 - start) * share + start * moved
    below = np.cumsum(share)
    return float(np.searchsorted(below, rarely, side="right")) / _GRID


@lru_cache(maxsize=64)
def _inversions(n: int) -> tuple[int, ...]:
    """How many orders of n things have 0, 1, 2 … pairs in the wrong order."""
    counts = [1]
    for size in range(2, n + 1):
        wider = [0] * (len(counts) + size - 1)
        for at, count in enumerate(counts):
            for extra in range(size):
                wider[at + extra] += count
        counts = wider
    return tuple(counts)


def mann_kendall_falling(values: Sequence[float]) -> float:
    """P of a series that falls as clearly as this one, or more, if its order meant nothing (one-sided, exact without ties)."""
    n = len(values)
    signs = sum((b > a) - (b < a) for a, b in combinations(values, 2))
    pairs = n * (n - 1) // 2
    fewest = math.ceil((pairs - signs) / 2)  # pairs that must fall, at least; a tie counts half
    counts = _inversions(n)
    return sum(counts[fewest:]) / math.factorial(n)


def theil_sen(values: Sequence[float]) -> float:
    """The median slope between all pairs, for one step of the series."""
    return median((values[b] - values[a]) / (b - a) for a, b in combinations(range(len(values)), 2))


def line_ahead(values: Sequence[float], steps: int) -> float:
    """Where the line of median slope and median intercept stands `steps` after the last point; one odd run does not move it."""
    slope = theil_sen(values)
    return median(value - slope * at for at, value in enumerate(values)) + slope * (len(values) - 1 + steps)
