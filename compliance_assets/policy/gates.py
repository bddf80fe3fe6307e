"""A bound and a measurement become a finding; findings become a verdict.

The vocabulary is domain-wide: only PASS, or a NOT_APPLICABLE with a reason, lets a stage go on. A missing measurement is an
ERROR, an empty gate is an ERROR, and no number has a default bound. Where a bound is judged on the unfavourable end of the
95 % interval, performance fails when that end misses the bound, and fairness is INCONCLUSIVE while the interval straddles
it (Art. 9(8): tested against prior defined metrics and thresholds; the three-valued rule is this project's own).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compliance_assets.metrics.measurement import Measurement
    from compliance_assets.policy.system import Bound, MinimumGroup


class Verdict(StrEnum):
    """The one vocabulary of verdicts, from best to worst."""

    PASS = "PASS"  # noqa: S105  # a verdict, not a password
    NOT_APPLICABLE = "NOT_APPLICABLE"
    NOT_RUN = "NOT_RUN"
    INCONCLUSIVE = "INCONCLUSIVE"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"
    FAIL = "FAIL"
    ERROR = "ERROR"

    @property
    def goes_on(self) -> bool:
        """Whether a stage may proceed on this verdict."""
        return self in (Verdict.PASS, Verdict.NOT_APPLICABLE)


SEVERITY = tuple(Verdict)


def number(value: float | None) -> str | None:
    """A number as signed records write it: the shortest decimal string that reads back the same; None stays None."""
    if value is None:
        return None
    if not math.isfinite(value):
        raise ValueError(f"{value!r} has no place in a record")
    return repr(float(value)) if value != int(value) or abs(value) > 2**53 else str(int(value))


@dataclass(frozen=True)
class Finding:
    """One measurement held against one bound. Numbers are decimal strings, so that it can be signed."""

    id: str
    verdict: Verdict
    value: str | None = None
    lower: str | None = None
    upper: str | None = None
    n: int | None = None
    comparator: str = ""
    bound: str = ""
    judged_on: str = ""
    because: str = ""
    note: str = ""
    method: str = ""
    groups: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.verdict is Verdict.NOT_APPLICABLE and not self.note:
            raise ValueError(f"{self.id}: NOT_APPLICABLE needs a reason")

    def __bool__(self) -> bool:
        return self.verdict.goes_on

    def as_json(self) -> dict[str, Any]:
        """The finding as it stands in a report; empty fields are left out."""
        full: dict[str, Any] = {
            "id": self.id, "verdict": self.verdict.value, "value": self.value, "lower": self.lower, "upper": self.upper,
            "n": self.n, "comparator": self.comparator, "bound": self.bound, "judged_on": self.judged_on,
            "because": self.because, "note": self.note, "method": self.method, "groups": [dict(g) for g in self.groups],
        }
        return {key: value for key, value in full.items() if value not in (None, "", [])}

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Finding:
        """The finding that `as_json` wrote."""
        fields = {key: value for key, value in body.items() if key not in ("verdict", "groups")}
        groups = tuple(body["groups"]) if "groups" in body else ()
        return cls(verdict=Verdict(body["verdict"]), groups=groups, **fields)

    def sentence(self) -> str:
        """`fairness.sex.selection_rate_ratio 0.61 [0.58, 0.64] < 0.80`."""
        if self.value is None:
            return f"{self.id}: {self.verdict.value}{' (' + self.note + ')' if self.note else ''}"
        shown = legible(self.value, self.bound)
        if self.lower is not None and self.upper is not None:
            shown += f" [{legible(self.lower, self.bound)}, {legible(self.upper, self.bound)}]"
        if not self.comparator:
            return f"{self.id} {shown}"
        said = self.comparator if self else {">=": "not >=", "<=": "not <=", "in": "not in", "==": "!="}[self.comparator]
        return f"{self.id} {shown} {said} {self.bound}" + (f" ({self.verdict.value}, judged on {self.judged_on})"
                                                         if self.verdict is Verdict.INCONCLUSIVE else "")


def legible(text: str, bound: str) -> str:
    """Four digits for the eye; all of them where rounding would make the number look like its bound."""
    try:
        value = float(text)
    except ValueError:
        return text
    if value == int(value):
        return text
    rounded = f"{value:.4g}"
    try:
        looks_like_the_bound = float(rounded) == float(bound) != value
    except ValueError:
        looks_like_the_bound = False
    return text if looks_like_the_bound else rounded


@dataclass(frozen=True)
class GateReport:
    """What one gate found. True only if it may be passed; a gate without findings is an ERROR."""

    gate: str
    version: int
    findings: tuple[Finding, ...]
    verdict: Verdict = field(init=False)

    def __post_init__(self) -> None:
        worst = max((finding.verdict for finding in self.findings), key=SEVERITY.index, default=Verdict.ERROR)
        if worst is Verdict.NOT_APPLICABLE and any(f.verdict is Verdict.PASS for f in self.findings):
            worst = Verdict.PASS
        object.__setattr__(self, "verdict", worst)

    def __bool__(self) -> bool:
        return self.verdict.goes_on

    @property
    def failures(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding)

    def as_json(self) -> dict[str, Any]:
        return {"gate": self.gate, "version": self.version, "verdict": self.verdict.value,
                "findings": [finding.as_json() for finding in self.findings]}

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> GateReport:
        """The report that `as_json` wrote. ValueError if its verdict does not follow from its findings."""
        report = cls(body["gate"], body["version"], tuple(Finding.read(item) for item in body["findings"]))
        if report.verdict.value != body["verdict"]:
            raise ValueError(f"gate {report.gate}: the verdict {body['verdict']} does not follow from its findings")
        return report


def not_run(gate: str, version: int, halted_by: str) -> GateReport:
    """A gate that an earlier one kept from running."""
    return GateReport(gate, version, (Finding(gate, Verdict.NOT_RUN, note=f"halted by {halted_by}"),))


def fact(id: str, holds: bool, *, value: object = None, bound: object = None, because: str = "", note: str = "",
         n: int | None = None, comparator: str = "==") -> Finding:
    """A finding about something that is either so or not so (a digest, a count, a presence)."""
    return Finding(id, Verdict.PASS if holds else Verdict.FAIL, value=None if value is None else str(value), n=n,
                   comparator=comparator if bound is not None else "", bound="" if bound is None else str(bound),
                   because=because, note=note)


def judge(id: str, measured: Measurement, bound: Bound, *, three_valued: bool = False,
          minimum: MinimumGroup | None = None) -> Finding:
    """Hold one measurement against one declared bound.

    `three_valued`: an interval that straddles the bound is INCONCLUSIVE instead of a FAIL (fairness).
    `minimum`: the declared smallest group; a smaller one makes the whole comparison INSUFFICIENT_DATA.
    """
    groups = tuple(group.as_json() for group in measured.groups)

    def found(verdict: Verdict, note: str = "") -> Finding:
        return Finding(id, verdict, value=number(measured.value), lower=number(measured.lower), upper=number(measured.upper),
                       n=measured.n, comparator=bound.comparator, bound=bound.text, judged_on=bound.judged_on,
                       because=bound.because, note=note or measured.note, method=measured.method, groups=groups)

    if minimum is not None:
        small = [group.name for group in measured.groups if group.n < minimum.rows
                 or (minimum.positives and group.positives is not None and group.positives < minimum.positives)
                 or (minimum.negatives and group.negatives is not None and group.negatives < minimum.negatives)]
        if small or not measured.groups:
            return found(Verdict.INSUFFICIENT_DATA, f"below the declared minimum of {minimum.text}: {', '.join(small) or 'no group'}")
    if measured.value is None:
        return found(Verdict.ERROR, measured.note or "nothing was measured")
    if bound.judged_on == "point":
        return found(Verdict.PASS if bound.holds_for(measured.value) else Verdict.FAIL)
    if measured.lower is None or measured.upper is None:
        return found(Verdict.ERROR, f"judged on the {bound.judged_on} end, but {measured.method or 'the method'} gives no interval")
    end = measured.lower if bound.judged_on == "lower" else measured.upper
    if bound.holds_for(end):
        return found(Verdict.PASS)
    straddles = bound.holds_for(measured.value)
    return found(Verdict.INCONCLUSIVE if three_valued and straddles else Verdict.FAIL)


def conclude(gate: str, version: int, findings: Iterable[Finding]) -> GateReport:
    """A gate's report from its findings; none is an ERROR, never a pass."""
    found = tuple(findings)
    return GateReport(gate, version, found or (Finding(gate, Verdict.ERROR, note="the gate found nothing to judge"),))
