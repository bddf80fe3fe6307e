"""How often do the alerts T1 to T8 fire where their cause was planted, and where it was not? Writes docs/alert-rates.md.

Each seed draws two years of plain events of one system (what `history_of` reads from the records): 200 candidates, one every 3 to 4 days,
healthy unless a cause is planted in the last months. The rules look after every candidate of the last half year, as the hourly sensor
does. `python docs/alert_rates.py [SEEDS]` (default 50).
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from compliance_assets.governance.alerts import statistics
from compliance_assets.governance.alerts.rules import RULES, K, trends
from compliance_assets.governance.dashboard.history import Decided, Excepted, FromBaseline, History, Judged, StagedWaiting
from compliance_assets.policy.gates import Verdict
from compliance_assets.policy.river import RIVER

START = datetime(2027, 1, 4, tzinfo=UTC)
CANDIDATES, DAYS = 200, 730
PASS_RATE, MARGIN, NOISE = 0.97, 0.15, 0.02
LATEST = START + timedelta(days=DAYS)
PLANTED = LATEST - timedelta(days=120)


def healthy(draw: random.Random, *, failing: float | None = None, shrinking: bool = False, twice: bool = False,
            slow: bool = False) -> History:
    """Two years of one system; each argument plants one cause from `PLANTED` on."""
    judged: list[Judged] = []
    decided: list[Decided] = []
    index, at = 4, START
    failed_before = False
    for number in range(CANDIDATES):
        at = START + timedelta(days=DAYS * (number + draw.random()) / CANDIDATES)
        since = max(0.0, (at - PLANTED).total_seconds() / 86400)
        for rule in RIVER[:6]:
            for gate in rule.gates:
                index += 1
                rate = PASS_RATE
                if failing is not None and since and (rule.number, gate.name) == (1, "contract"):
                    rate = failing
                margin = None
                passed = draw.random() < rate
                failed: tuple[tuple[str, str], ...] = ()
                if gate.name == "fairness":
                    # An attribute at a time fails, and never the same twice running unless that is planted.
                    margin = draw.gauss(MARGIN - (0.13 * since / 120 if shrinking else 0.0), NOISE)
                    passed = margin > 0 and (failed_before or draw.random() < PASS_RATE)
                    if twice and number in (CANDIDATES - 6, CANDIDATES - 5):
                        passed, margin = False, -abs(draw.gauss(0.03, 0.01))
                    failed = () if passed else (("sex", "selection_rate_ratio"),)
                    failed_before = not passed
                    margin = margin if passed else None if margin > 0 else margin
                verdict = Verdict.PASS if passed else Verdict.FAIL
                judged.append(Judged(rule.number, gate.name, gate.version, (), verdict, at, index, failed, margin))
        hours = draw.uniform(1, 30) + (draw.uniform(40, 80) if slow and since else 0.0)
        decided.append(Decided("owner-1", "approve", at + timedelta(hours=hours), hours, 600, index))
    return History("made_up", LATEST, tuple(judged), 0, (), frozenset(), (), (), (), tuple(decided), (), (), (), 0, 0, {},
                   baseline=tuple(FromBaseline("psi", "all", draw.uniform(0.01, 0.08), one.at, one.index) for one in judged[::29]))


def until(history: History, now: datetime) -> History:
    """The same as it stood then."""
    return replace(history, now=now, judged=tuple(one for one in history.judged if one.at <= now),
                   decisions=tuple(one for one in history.decisions if one.at <= now),
                   exceptions=tuple(one for one in history.exceptions if one.at <= now),
                   baseline=tuple(one for one in history.baseline if one.at <= now),
                   staged_waiting=tuple(one for one in history.staged_waiting if one.at <= now))


def fired(history: History, problems: tuple[str, ...] = ()) -> set[str]:
    """The rules that fire at any look of the last half year."""
    found: set[str] = set()
    for now in [*dict.fromkeys(one.at for one in history.judged if one.at > LATEST - timedelta(days=182)), LATEST]:
        found |= {one.rule for one in trends(until(history, now), problems if now == LATEST else (), 1)}
    return found


def excepted(history: History, *, many: bool) -> History:
    """Exceptions for a share of the candidates, or the same one three times in two years."""
    if many:
        found = tuple(Excepted(f"fairness: {number}", LATEST - timedelta(days=5 * number + 1), 9000 + number, True, LATEST)
                      for number in range(5))
    else:
        found = tuple(Excepted("fairness: sex", LATEST - timedelta(days=200 * number + 100), 9000 - number, True, LATEST)
                      for number in (2, 1, 0))
    return replace(history, exceptions=tuple(sorted(found, key=lambda one: one.at)))


def drifted(history: History, share: float) -> History:
    far = [replace(one, value=one.value + share * 0.25) if one.at > PLANTED else one for one in history.baseline]
    return replace(history, baseline=tuple(far))


CAUSES: dict[str, tuple[str | None, Callable[[random.Random], set[str]]]] = {
    "nothing": (None, lambda draw: fired(healthy(draw))),
    "contract gate passes 70 % instead of 97 %": ("T1", lambda draw: fired(healthy(draw, failing=0.7))),
    "contract gate passes 50 % instead of 97 %": ("T1", lambda draw: fired(healthy(draw, failing=0.5))),
    "contract gate passes 30 % instead of 97 %": ("T1", lambda draw: fired(healthy(draw, failing=0.3))),
    "fairness margin shrinks from 0.15 to 0.02 in four months": ("T2", lambda draw: fired(healthy(draw, shrinking=True))),
    "fairness fails twice running over sex": ("T3", lambda draw: fired(healthy(draw, twice=True))),
    "approvals take 40 to 110 h instead of 1 to 30 h": ("T4", lambda draw: fired(healthy(draw, slow=True))),
    "5 exceptions in 25 days": ("T5", lambda draw: fired(excepted(healthy(draw), many=True))),
    "the same exception three times in two years": ("T5", lambda draw: fired(excepted(healthy(draw), many=False))),
    "PSI from the baseline 60 % of its trigger higher": ("T6", lambda draw: fired(drifted(healthy(draw), 0.6))),
    "an artefact with other bytes": ("T7", lambda draw: fired(healthy(draw), ("artefact 3f9c: other bytes",))),
    "a release staged for 70 days": ("T8", lambda draw: fired(replace(healthy(draw), staged_waiting=(
        StagedWaiting("a" * 64, LATEST - timedelta(days=70), 9),)))),
}


RATES = (0.97, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.3)
"""What a gate that passed with 97 % may fall to."""


def as_referred(series: list[Judged]) -> bool:
    """T1 as the sentence that it comes from reads: unshared, twenty against twenty, or three standard deviations of the average."""
    passed = [one.passed for one in series]
    rate = sum(passed[:-K]) / len(passed[:-K])
    limit = rate - 3 * math.sqrt(rate * (1 - rate) * statistics.LAMBDA / (2 - statistics.LAMBDA))
    return (statistics.fisher_fewer(sum(passed[-K:]), K, sum(passed[-2 * K:-K]), K) < 0.05
            or statistics.ewma(rate, passed[-K:]) < limit)


def power(seeds: int) -> list[str]:
    """How often T1 finds one gate of all whose rate fell four months ago, by what it fell to; both ways of reading the rule."""
    lines = ["| the gate passes now | T1 found it | T1 about another gate | as the reference words it | the same, about another gate |",
             "|---|---|---|---|---|"]
    for rate in RATES:
        mine, others, referred, referred_others = 0, 0, 0, 0
        for seed in range(seeds):
            history = healthy(random.Random(77_000 + seed), failing=rate)  # noqa: S311
            about: set[str] = set()
            plain: set[str] = set()
            for now in [at for at in dict.fromkeys(one.at for one in history.judged) if at > LATEST - timedelta(days=182)]:
                seen = until(history, now)
                about |= {one.about for one in trends(seen) if one.rule == "T1"}
                by_gate: dict[str, list[Judged]] = {}
                for one in seen.judged:
                    by_gate.setdefault(f"{one.stage} {one.gate}", []).append(one)
                plain |= {name for name, series in by_gate.items() if as_referred(series)}
            mine, others = mine + ("1 contract" in about), others + bool(about - {"1 contract"})
            referred, referred_others = referred + ("1 contract" in plain), referred_others + bool(plain - {"1 contract"})
        lines.append(f"| {rate:.0%} | {mine} of {seeds} | {others} | {referred} | {referred_others} |")
        print(lines[-1], flush=True)
    return lines


def main(seeds: int) -> str:
    """The page, with its table."""
    rules = list(RULES)
    lines = [f"| planted | {' | '.join(rules)} |", f"|---|{'---|' * len(rules)}"]
    for number, (cause, (planted, run)) in enumerate(CAUSES.items()):
        counts = dict.fromkeys(rules, 0)
        for seed in range(seeds):
            for rule in run(random.Random(1000 * number + seed)):  # noqa: S311  # a simulation, not a secret
                counts[rule] += 1
        cells = [f"**{counts[rule]}**" if rule == planted else str(counts[rule]) for rule in rules]
        lines.append(f"| {cause} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(("# How often the alerts are right and wrong", "",
                      (__doc__ or "").split("\n\n", 1)[1].strip(), "",
                      f"Each cell: in how many of {seeds} seeds the rule fired at least once in half a year. Bold: where it should. "
                      f"Healthy gates pass with {PASS_RATE:.0%}, 34 of them; the fairness margin is {MARGIN} ± {NOISE} bounds.", "",
                      *lines, "",
                      "## What T1 can see", "",
                      "One gate's rate falls from 97 % four months before the end (some 33 of its verdicts); found: at any look since. "
                      "Beside it the rule as its reference words it: the chance not shared among the gates, the average's limit at three "
                      "standard deviations. That finds nearly everything, and raises an alarm about some healthy gate in nearly every half "
                      "year; an alarm that always rings tells nothing. T1 shares the chance, and holds the last 20 verdicts against all "
                      "before as well as against the 20 before. What it cannot see in four months, the first rows say: at 90 % three of 33 "
                      "verdicts fail, where one does in health.", "",
                      *power(seeds), "",
                      "What the rules are stands on the page *Alerts* and in `compliance alerts --json`.", ""))


if __name__ == "__main__":
    (Path(__file__).parent / "alert-rates.md").write_text(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50), encoding="utf-8")
