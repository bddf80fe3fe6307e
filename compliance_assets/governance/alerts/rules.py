"""T1 to T8 over one system's history: what was found, over which window and how many cases, with which statistic.

No source gives these rules; all are this project's own convention. A series ends where a gate's version or bounds were changed. What has
too few cases raises no alert, and the dashboard says how few there are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from compliance_assets.governance.alerts import statistics
from compliance_assets.governance.dashboard.history import TRIGGERS, History, Judged
from compliance_assets.metrics.intervals import wilson
from compliance_assets.policy.gates import Verdict
from compliance_assets.policy.river import RIVER

K = 20
P = 0.05
RARELY = 0.001
"""How rarely the moving average of all gates together may fall below its limit at one look while nothing has changed."""
RARER = 0.0003
"""The same for the last `K` verdicts against all before: many more cases, so that it would be the first to err (docs/alert-rates.md)."""
FEWEST_RUNS, MOST_RUNS, AHEAD = 8, 12, 3
LATENCY_WINDOW, FEWEST_DECISIONS = timedelta(days=30), 3
EXCEPTIONS_WINDOW, EXCEPTIONS_SHARE, RENEWALS = timedelta(days=90), 0.10, 2
STALE = timedelta(days=60)
LEVELS = (0.8, 0.5)
RULES: dict[str, str] = {
    "T1": "a gate's pass rate declines: the last 20 verdicts against the 20 before (Fisher, one-sided, p < 0.05) or against all before "
          "(p < 0.0003), or their moving average (weight 0.2) below what chance gives once in a thousand; each chance shared among the "
          "gates that are watched",
    "T2": "the fairness margin falls over 8 to 12 runs: Mann-Kendall p < 0.05 and used up within 12 more runs (Theil-Sen), or the line of "
          "the last 8 reaches the bound within 3 runs",
    "T3": "two fairness verdicts running fail over the same attribute",
    "T4": "the 90th percentile of approval latency is above the time that an approval holds, in two windows of 30 days running",
    "T5": "exceptions for more than 10 % of the candidates of 90 days, or the same exception asked for again twice",
    "T6": "the distance from the baseline is above 50 % or 80 % of what is presumed a substantial modification",
    "T7": "something does not verify",
    "T8": "a staged release waits for more than 60 days",
}


@dataclass(frozen=True)
class Found:
    """What a rule found. `newest`: ledger index of the newest entry it rests on; `about`: the series or thing."""

    rule: str
    about: str
    said: str
    window: str
    n: int
    statistic: dict[str, str]
    newest: int


def trends(history: History, problems: Sequence[str] = (), size: int = 0) -> tuple[Found, ...]:
    """Every alert that the rules raise on this history. `problems`: what verification found, in a ledger of `size` entries."""
    return (*_declining(history), *_margin(history), *_twice(history), *_latency(history), *_exceptions(history), *_drift(history),
            *_unverified(problems, size), *_stale(history))


def _series(found: Sequence[Judged]) -> list[Judged]:
    """The verdicts that were asked the same question as the last one, back to where it was changed."""
    kept: list[Judged] = []
    for one in reversed(found):
        if kept and (one.version, one.bounds) != (kept[-1].version, kept[-1].bounds):
            break
        kept.append(one)
    return kept[::-1]


def _declining(history: History) -> Iterator[Found]:
    by_gate: dict[tuple[int, str], list[Judged]] = defaultdict(list)
    for one in history.judged:
        by_gate[one.stage, one.gate].append(one)
    watched = {key: series for key in ((rule.number, gate.name) for rule in RIVER for gate in rule.gates)
               if len(series := _series(by_gate[key])) >= 2 * K}
    for (stage, gate), series in watched.items():
        # Many gates are watched, and each may err: the chance is shared among them (Bonferroni).
        share = len(watched)
        recent, before = [one.passed for one in series[-K:]], [one.passed for one in series[-2 * K:-K]]
        p = statistics.fisher_fewer(sum(recent), K, sum(before), K)
        earlier = [one.passed for one in series[:-K]]
        # Twenty cases say little of a rate near one: where there are more, the last ones are held against all of them too.
        of_all = statistics.fisher_fewer(sum(recent), K, sum(earlier), len(earlier))
        # The lower end of what the rate before may have been: a rate that few verdicts overstate would make every failure an alarm.
        known = wilson(sum(earlier), len(earlier))
        start = math.floor(100 * known[0]) / 100 if known is not None else 0.0
        average, limit = statistics.ewma(start, recent), statistics.ewma_limit(start, K, RARELY / share)
        if p < P / share or of_all < RARER / share or average < limit:
            yield Found("T1", f"{stage} {gate}", f"{sum(recent)} of the last {K} verdicts passed, {sum(before)} of the {K} before",
                        f"last {2 * K} verdicts", 2 * K,
                        {"fisher_p": _text(p), "fisher_p_of_all": _text(of_all), "ewma": _text(average), "ewma_limit": _text(limit)},
                        series[-1].index)


def _margin(history: History) -> Iterator[Found]:
    judged = _series([one for one in history.judged if one.gate == "fairness"])
    series = [(one.margin, one.index) for one in judged if one.margin is not None]
    if len(series) < FEWEST_RUNS:
        return
    values = [margin for margin, _ in series[-MOST_RUNS:]]
    p, slope = statistics.mann_kendall_falling(values), statistics.theil_sen(values)
    line = statistics.line_ahead(values[-FEWEST_RUNS:], AHEAD)
    last = statistics.line_ahead(values, 0)
    trending = p < P and slope < 0 and last + MOST_RUNS * slope <= 0
    if values[-1] > 0 and (trending or line <= 0):
        yield Found("T2", "fairness", f"the margin went from {values[0]:+.3f} to {values[-1]:+.3f} bounds", f"last {len(values)} runs",
                    len(values), {"mann_kendall_p": _text(p), "theil_sen_slope": _text(slope), f"line_in_{AHEAD}_runs": _text(line)},
                    series[-1][1])


def _twice(history: History) -> Iterator[Found]:
    fairness = [one for one in history.judged if one.gate == "fairness"][-2:]
    if len(fairness) == 2 and all(one.verdict is Verdict.FAIL for one in fairness):
        for over in sorted({over for over, _ in fairness[0].failed} & {over for over, _ in fairness[1].failed}):
            yield Found("T3", over, f"fairness over {over} failed in entries {fairness[0].index} and {fairness[1].index}",
                        "last 2 verdicts", 2, {"failed": "2"}, fairness[1].index)


def _latency(history: History) -> Iterator[Found]:
    windows: list[list[float]] = []
    heard = [one for one in history.decisions if one.decision in ("approve", "reject") and one.hours is not None]
    for end in (history.now, history.now - LATENCY_WINDOW):
        windows.append(sorted(one.hours for one in heard if end - LATENCY_WINDOW < one.at <= end and one.hours is not None))
    if any(len(one) < FEWEST_DECISIONS for one in windows):
        return
    p90 = [one[math.ceil(0.9 * len(one)) - 1] for one in windows]
    if min(p90) > history.sla_hours:
        yield Found("T4", "approval latency", f"90 % were decided within {p90[0]:.1f} h, and within {p90[1]:.1f} h in the window before; "
                    f"an approval holds for {history.sla_hours:.1f} h", "two windows of 30 days", sum(map(len, windows)),
                    {"p90_hours": _text(p90[0]), "p90_hours_before": _text(p90[1])}, max(one.index for one in heard))


def _exceptions(history: History) -> Iterator[Found]:
    since = history.now - EXCEPTIONS_WINDOW
    granted = [one for one in history.exceptions if one.granted and one.at >= since]
    reached = sum(one.stage == 4 and one.gate == "performance" and one.at >= since for one in history.judged)
    if granted and reached and len(granted) / reached > EXCEPTIONS_SHARE:
        yield Found("T5", "exception rate", f"{len(granted)} exceptions for {reached} candidates", "90 days", reached,
                    {"rate": _text(len(granted) / reached)}, granted[-1].index)
    same: dict[str, list[int]] = defaultdict(list)
    for one in history.exceptions:
        if one.granted:
            same[one.about].append(one.index)
    for about, indices in same.items():
        if len(indices) > RENEWALS:
            yield Found("T5", about[:80], f"the same exception was given {len(indices)} times (entries {', '.join(map(str, indices))})",
                        "all time", len(indices), {"renewals": str(len(indices) - 1)}, indices[-1])


def _drift(history: History) -> Iterator[Found]:
    if not history.baseline:
        return
    newest = history.baseline[-1].index
    for metric, trigger in TRIGGERS.items():
        values = [abs(one.value) for one in history.baseline if one.index == newest and one.metric == metric]
        level = next((level for level in LEVELS if values and max(values) > level * trigger), None)
        if level is not None:
            share = max(values) / trigger
            yield Found("T6", f"{metric} above {level:.0%}", f"{metric} {max(values):.4g} from the baseline is {share:.0%} of {trigger}",
                        "newest evaluation", 1, {"value": _text(max(values)), "share": _text(share)}, newest)


def _unverified(problems: Sequence[str], size: int) -> Iterator[Found]:
    if problems:
        yield Found("T7", "integrity", "; ".join(problems)[:500], "everything on record", size, {"problems": str(len(problems))}, size)


def _stale(history: History) -> Iterator[Found]:
    for one in history.staged_waiting:
        waited = history.now - one.at
        if waited > STALE:
            yield Found("T8", one.staged[:12], f"release {one.staged[:12]} has been staged for {waited.days} days", "until now", 1,
                        {"days": str(waited.days)}, one.index)


def _text(value: float) -> str:
    return f"{value:.6g}"
