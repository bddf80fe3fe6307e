"""What a rollout step showed: the router's access log and the servers' inference logs, held against the abort criteria.

Only the spans count in which the supervisor says that the step was in force. Too little to judge is not a verdict but a
*hold*, with what is missing; and a step is judged early only when it can no longer pass (Art. 9(8), Art. 15(4)).
A measure that a step cannot have (a shadow's answers are seen by nobody) is NOT_APPLICABLE, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compliance_assets.evidence.deployments import Slot
from compliance_assets.policy.gates import Finding, Verdict, number
from compliance_assets.policy.system import AbortRule
from compliance_assets.serving.inference_log import ANSWERING, SHADOW, Decision
from compliance_assets.serving.router import Passed
from compliance_assets.serving.supervisor import Holding

COMPARED_ANSWERS = 20
"""Fewer answers of the version in production than this, and its 95th percentile is nobody's latency."""


@dataclass(frozen=True)
class Observed:
    """What happened while one step was in force."""

    kind: str
    candidate: Slot
    production: Slot | None
    passed: tuple[Passed, ...]
    """Requests for decisions, as the router saw them."""
    decisions: tuple[Decision, ...]
    tested: tuple[float, ...] = ()
    """The scores that the candidate gave its holdout, where a rule compares with them."""

    @property
    def meant(self) -> tuple[Passed, ...]:
        """The requests that the candidate had to answer: mirrored to it, or routed to it. Callers' own errors are none."""
        sound = [p for p in self.passed if not 400 <= p.status < 500]
        if self.kind == "canary":
            return tuple(p for p in sound if p.chosen == self.candidate.name)
        # Where nobody is in production yet, callers of a shadow get 503, and the copies are what counts.
        return tuple(p for p in sound if self.production is None or p.status == 200)

    def of(self, slot: Slot | None, role: str) -> tuple[Decision, ...]:
        return tuple(d for d in self.decisions if slot is not None and d.model == slot.model and d.role == role)

    @property
    def own(self) -> tuple[Decision, ...]:
        """The candidate's decisions in this step."""
        return self.of(self.candidate, SHADOW if self.kind == "shadow" else ANSWERING)

    @property
    def failed(self) -> int:
        """Requests that the candidate did not answer."""
        if self.kind == "canary":
            return sum(p.chosen_failed for p in self.meant)
        answered = {d.request_id for d in self.own}
        return sum(p.request_id not in answered for p in self.meant)

    @property
    def counts(self) -> dict[str, int]:
        """Whole numbers for the record."""
        return {"requests": len(self.meant), "failed": self.failed, "decisions": len(self.own),
                "decisions_of_production": len(self.of(self.production, ANSWERING))}


def within(spans: Sequence[Holding], moment: str, latest: str) -> bool:
    """Whether a moment lies in one of the spans, and not after `latest` (RFC 3339 texts of one format compare as moments)."""
    return any(span.start <= moment and (not span.end or moment <= span.end) for span in spans) and moment <= latest


def judged(observed: Observed, rules: Sequence[AbortRule], *, wanted: int, minimum_group: int,
           groups: Mapping[str, Sequence[str]], alive: str) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Findings for every abort rule, and what is still missing before they count.

    `wanted`: requests that the step needs. `alive`: why the candidate's server does not run, or "". A finding that fails
    whatever else may still come counts at once.
    """
    name = observed.kind
    n = len(observed.meant)
    missing: list[str] = []
    if n < wanted:
        missing.append(f"it needs {wanted} requests, got {n}")
    findings = [Finding(f"{name}.requests", Verdict.PASS if n >= wanted else Verdict.INSUFFICIENT_DATA, value=str(n),
                        comparator=">=", bound=str(wanted), n=n),
                Finding(f"{name}.server", Verdict.FAIL if alive else Verdict.PASS, value=alive or "answers", comparator="==",
                        bound="answers")]
    certain = bool(alive)
    for rule in rules:
        measured = _MEASURES[rule.metric](observed, rule, minimum_group, groups, wanted)
        findings.append(_finding(name, rule, measured))
        if measured.missing:
            missing.append(measured.missing)
        certain = certain or measured.certain
    return tuple(findings), () if certain else tuple(missing)


@dataclass(frozen=True)
class _Measured:
    value: float | None = None
    n: int = 0
    missing: str = ""
    not_applicable: str = ""
    certain: bool = False
    """True if the rule is broken whatever else may come."""
    groups: tuple[Mapping[str, object], ...] = ()
    note: str = ""
    method: str = ""


def _finding(step: str, rule: AbortRule, measured: _Measured) -> Finding:
    identity = f"{step}.{rule.metric}" + (f".{rule.over}" if rule.over else "")
    limit = rule.above if rule.above is not None else rule.below
    assert limit is not None
    comparator = "<=" if rule.above is not None else ">="
    if measured.not_applicable:
        return Finding(identity, Verdict.NOT_APPLICABLE, note=measured.not_applicable)
    if measured.value is None:
        return Finding(identity, Verdict.INSUFFICIENT_DATA if measured.missing else Verdict.ERROR, n=measured.n,
                       comparator=comparator, bound=number(limit) or "",
                       note=measured.missing or measured.note or "nothing was measured", groups=measured.groups)
    holds = measured.value <= limit if rule.above is not None else measured.value >= limit
    verdict = Verdict.PASS if holds and not measured.missing else Verdict.INSUFFICIENT_DATA if measured.missing else Verdict.FAIL
    return Finding(identity, Verdict.FAIL if measured.certain else verdict, value=number(measured.value), n=measured.n,
                   comparator=comparator, bound=number(limit) or "", judged_on="point", note=measured.missing or measured.note,
                   method=measured.method, groups=measured.groups)


def _error_rate(o: Observed, rule: AbortRule, minimum: int, groups: Mapping[str, Sequence[str]], wanted: int) -> _Measured:
    n, failed = len(o.meant), o.failed
    if not n:
        return _Measured(missing="no request was meant for the candidate")
    assert rule.above is not None
    # With this many failures even a step of only successes from here on would end above the limit.
    return _Measured(failed / n, n, certain=failed > rule.above * max(n, wanted),
                     method="requests meant for the candidate that it did not answer, also where another version stepped in")


def _unlogged_rate(o: Observed, rule: AbortRule, minimum: int, groups: Mapping[str, Sequence[str]], wanted: int) -> _Measured:
    if o.kind == "shadow":
        return _Measured(not_applicable="a shadow's answers reach nobody; one that is not logged counts as an error")
    answered = [p for p in o.meant if p.answered == o.candidate.name and p.status == 200]
    logged = {d.request_id for d in o.own}
    lacking = sum(p.request_id not in logged for p in answered)
    if not answered:
        return _Measured(missing="the candidate answered nobody yet")
    assert rule.above is not None
    return _Measured(lacking / len(answered), len(answered), certain=lacking > rule.above * max(len(answered), wanted))


def _latency_ratio(o: Observed, rule: AbortRule, minimum: int, groups: Mapping[str, Sequence[str]], wanted: int) -> _Measured:
    if o.production is None:
        return _Measured(not_applicable="no version answered in production before this one")
    own = {d.request_id: d.microseconds for d in o.own}
    other = {d.request_id: d.microseconds for d in o.of(o.production, ANSWERING)}
    if len(other) < COMPARED_ANSWERS or not own:
        return _Measured(n=len(own), missing=f"a comparison needs {COMPARED_ANSWERS} answers of production, got {len(other)}")
    ratio = _p95(tuple(own.values())) / max(1, _p95(tuple(other.values())))
    return _Measured(round(ratio, 6), len(own), method="95th percentiles (nearest rank) of the servers' own time per request")


def _p95(values: Sequence[int]) -> int:
    return sorted(values)[max(0, math.ceil(0.95 * len(values)) - 1)]


def _flip_rate(o: Observed, rule: AbortRule, minimum: int, groups: Mapping[str, Sequence[str]], wanted: int) -> _Measured:
    if o.kind != "shadow":
        return _Measured(not_applicable="in a canary the two versions answer different requests; judged in the shadow")
    if o.production is None:
        return _Measured(not_applicable="no version answered in production before this one")
    answered = {(d.request_id, d.row, d.input): d.decision for d in o.of(o.production, ANSWERING)}
    pairs = [(answered[key], d.decision) for d in o.own if (key := (d.request_id, d.row, d.input)) in answered]
    if not pairs:
        return _Measured(missing="no request was decided by both versions yet")
    return _Measured(round(sum(a != b for a, b in pairs) / len(pairs), 6), len(pairs),
                     method="joined by request id, row and input digest")


def _selection_rate_ratio(o: Observed, rule: AbortRule, minimum: int, groups: Mapping[str, Sequence[str]],
                          wanted: int) -> _Measured:
    from compliance_assets.metrics.fairness import measure_fairness

    assert rule.over is not None
    declared = [str(group) for group in groups[rule.over]]
    known = [(d.monitoring[rule.over], d.decision == "favourable") for d in o.own
             if rule.over in d.monitoring and d.monitoring[rule.over] in declared]
    sizes = {group: sum(g == group for g, _ in known) for group in declared}
    small = [f"{group} {size}" for group, size in sizes.items() if size < minimum]
    unknown = len(o.own) - len(known)
    note = f"{unknown} of {len(o.own)} decisions without a declared group" if unknown else ""
    if small:
        said = f"{rule.over} needs {minimum} decisions of each group, got {', '.join(small)}"
        if o.kind == "shadow":
            return _Measured(not_applicable=f"{said}; the canary judges it on its own answers")
        return _Measured(n=min(sizes.values()), missing=said + (f" ({note}: send them as monitoring)" if note else ""))
    (measured,) = measure_fairness(("selection_rate_ratio",), [0] * len(known), [int(chosen) for _, chosen in known],
                                   {rule.over: [group for group, _ in known]}, (rule.over,), expected_groups={rule.over: declared})
    return _Measured(measured.value, measured.n, note=note or measured.note, method=measured.method,
                     groups=tuple(group.as_json() for group in measured.groups))


def _score_shift(o: Observed, rule: AbortRule, minimum: int, groups: Mapping[str, Sequence[str]], wanted: int) -> _Measured:
    """How far the scores of live requests lie from those that were assessed: of outcomes, classes and numbers alike."""
    import polars as pl

    from compliance_assets.metrics.drift import measure_drift
    from compliance_assets.metrics.profiles import Profile

    if not o.tested:
        return _Measured(note="no scores of its holdout to compare with")
    live = [float(d.score) for d in o.own]
    if len(live) < minimum or not live:
        return _Measured(n=len(live), missing=f"a comparison of scores needs {max(1, minimum)} of the candidate, got {len(live)}")
    profile = Profile.of(pl.DataFrame({"score": list(o.tested)}), numeric=["score"], categorical=[])
    (measured,) = measure_drift(["ks"], profile, pl.DataFrame({"score": live}))
    return _Measured(measured.value, len(live), note=measured.note,
                     method=f"Kolmogorov-Smirnov distance to the scores of {len(o.tested)} holdout rows")


_MEASURES = {"error_rate": _error_rate, "unlogged_rate": _unlogged_rate, "latency_ratio_p95": _latency_ratio,
             "decision_flip_rate": _flip_rate, "selection_rate_ratio": _selection_rate_ratio, "score_shift": _score_shift}

