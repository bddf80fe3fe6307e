"""The formulae of the dashboard, over plain events: every rate with its number of cases and a Wilson interval, nothing guessed.

No source gives formulae for these; all of them are this project's own convention. What has too few cases to be read is said to have.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from statistics import median
from typing import Any

from compliance_assets.governance.dashboard.history import Blocked, Decided, Deployed, History, Judged
from compliance_assets.metrics.intervals import wilson

WINDOW = timedelta(days=90)
ROLLING = timedelta(days=28)
FEW = 10
"""Below so many cases a rate is shown, and said to rest on few."""
HASTY_SECONDS = 120
"""A decision made so soon after the evidence was opened looks like a rubber stamp."""


@dataclass(frozen=True)
class Rate:
    """A share with its Wilson 95 % interval; None where there is no case."""

    hits: int
    n: int

    @property
    def value(self) -> float | None:
        return self.hits / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        return wilson(self.hits, self.n)

    @property
    def few(self) -> bool:
        return self.n < FEW

    def as_json(self) -> dict[str, Any]:
        return {"hits": self.hits, "n": self.n, "value": self.value, "interval": self.interval, "few": self.few}


@dataclass(frozen=True)
class Moment:
    """One point of a series: the rate over the `ROLLING` days before it, or since the question was changed."""

    at: datetime
    rate: Rate
    since: datetime | None = None
    """When a bound or a gate's version was last changed before; None if it never was."""


@dataclass(frozen=True)
class Durations:
    """Hours from one event to another: median and 90th percentile (nearest rank), of `n` cases."""

    hours: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.hours)

    @property
    def median(self) -> float | None:
        return median(self.hours) if self.hours else None

    @property
    def mean(self) -> float | None:
        return math.fsum(self.hours) / len(self.hours) if self.hours else None

    @property
    def p90(self) -> float | None:
        return sorted(self.hours)[math.ceil(0.9 * len(self.hours)) - 1] if self.hours else None

    def as_json(self) -> dict[str, Any]:
        return {"n": self.n, "mean_hours": self.mean, "median_hours": self.median, "p90_hours": self.p90}


def success(judged: Iterable[Judged]) -> Rate:
    """D1: pass / (pass + fail + undecided); errors, not run and not applicable are no verdicts."""
    found = list(judged)
    return Rate(sum(one.passed for one in found), len(found))


def rolling(judged: Sequence[Judged], moments: Iterable[datetime]) -> tuple[Moment, ...]:
    """The success rate of the `ROLLING` days before each moment; what was judged under other bounds than those of then is left out."""
    changed = sorted(changes(judged))
    ordered = sorted((one.at, one.passed) for one in judged)
    when = [at for at, _ in ordered]
    passed = [0, *accumulate(one for _, one in ordered)]
    found: list[Moment] = []
    for at in moments:
        since = changed[place - 1] if (place := bisect_right(changed, at)) else None
        start, end = bisect_right(when, at - ROLLING), bisect_right(when, at)
        if since is not None:
            start = max(start, bisect_left(when, since))
        found.append(Moment(at, Rate(passed[end] - passed[start], end - start), since))
    return tuple(found)


def changes(judged: Iterable[Judged]) -> tuple[datetime, ...]:
    """When a gate was first judged under another version or other bounds than before: a series is two series there."""
    found: list[datetime] = []
    last: dict[tuple[int, str], tuple[int, Any]] = {}
    for one in judged:
        gate, asked = (one.stage, one.gate), (one.version, one.bounds)
        if gate in last and last[gate] != asked:
            found.append(one.at)
        last[gate] = asked
    return tuple(dict.fromkeys(found))


def fairness_failures(judged: Iterable[Judged]) -> Counter[str]:
    """D2: failed fairness verdicts by protected attribute (an intersection counts as itself)."""
    return Counter(over for one in judged if one.gate == "fairness" and not one.passed
                   for over in dict.fromkeys(over for over, _ in one.failed))


def to_production(deployed: Iterable[Deployed]) -> dict[str, Durations]:
    """D3: hours from training to full rollout, and of each part of the way."""
    found = list(deployed)

    def between(first: str, second: str) -> Durations:
        pairs = [(getattr(one, first), getattr(one, second)) for one in found]
        return Durations(tuple((b - a).total_seconds() / 3600 for a, b in pairs if a is not None and b is not None))

    return {"training to production": between("trained", "full"), "training to staging": between("trained", "staged"),
            "staging to ready for people": between("staged", "ready"), "ready to decision": between("ready", "decided"),
            "decision to first traffic": between("decided", "exposed"), "first traffic to everybody": between("exposed", "full")}


def kaplan_meier_median(events: Sequence[float], censored: Sequence[float]) -> float | None:
    """The time by which half would have happened, counting those that still wait (Kaplan & Meier 1958); None if half never did."""
    alive, share = len(events) + len(censored), 1.0
    waited = [(one, True) for one in events] + [(one, False) for one in censored]
    for time, happened in sorted(waited, key=lambda item: (item[0], not item[1])):
        if happened:
            share *= 1 - 1 / alive
            if share <= 0.5 + 1e-12:
                return time
        alive -= 1
    return None


def latency(decisions: Iterable[Decided]) -> tuple[Durations, Rate]:
    """D5: hours from ready to each approval or rejection, and the share decided within `HASTY_SECONDS` of opening the evidence."""
    found = [one for one in decisions if one.decision in ("approve", "reject")]
    return (Durations(tuple(one.hours for one in found if one.hours is not None)),
            Rate(sum(one.opened_seconds < HASTY_SECONDS for one in found), len(found)))


def blocked(history: History, since: datetime) -> Counter[str]:
    """D4: releases that people or their time kept from production, by why; what waits now counts whenever it began."""
    return Counter(one.why for one in history.blocked if one.why == "waiting" or one.at >= since)


def fairness_margins(judged: Iterable[Judged]) -> tuple[tuple[datetime, float], ...]:
    """D9: the distance to the nearest fairness bound, in bounds, each time fairness was judged."""
    return tuple((one.at, one.margin) for one in judged if one.gate == "fairness" and one.margin is not None)


def buckets(first: datetime, last: datetime) -> tuple[datetime, ...]:
    """Ends of equal spans that cover a time, the last one at its end: days up to three weeks, weeks up to 40, then months of 30 days."""
    span = last - first
    step = timedelta(days=1) if span <= timedelta(days=21) else timedelta(weeks=1) if span <= timedelta(weeks=40) else timedelta(days=30)
    count = max(1, math.ceil(span / step))
    return tuple(last - step * (count - 1 - place) for place in range(count))


def counted(events: Iterable[tuple[datetime, str]], ends: Sequence[datetime]) -> tuple[Counter[str], ...]:
    """How often each word occurs in each span that ends at `ends` (the first begins at the beginning of time)."""
    found: tuple[Counter[str], ...] = tuple(Counter() for _ in ends)
    for at, word in events:
        place = bisect_left(ends, at)
        if place < len(ends):
            found[place][word] += 1
    return found


def blocked_events(found: Iterable[Blocked]) -> tuple[tuple[datetime, str], ...]:
    return tuple((one.at, one.why) for one in found)
