"""What lists and counts need of one stage record: read from it once, kept by who reads the same ledger again and again.

A list of thousands of records must not read each of them whole to say which ones belong to it. What is shown of the few that a page holds
is read from the record itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from compliance_assets.evidence.archive import Record
from compliance_assets.policy.gates import Finding, GateReport, Verdict
from compliance_assets.trust.canonical import parse_rfc3339

FROM_BASELINE = "drift.baseline."


@dataclass(frozen=True, slots=True)
class StageFacts:
    """What is kept of one stage record beside its words."""

    at: datetime
    seconds: float
    """From when it started."""
    reports: tuple[tuple[str, int, tuple[tuple[str, str], ...], Verdict, tuple[tuple[str, str], ...], float | None], ...]
    """Gate, version, bounds, verdict, what failed, margin of each report; nothing of a stage that could not compute."""
    baseline: tuple[tuple[str, str, float], ...]
    """Metric, attribute, distance from the baseline."""
    holdout: str
    """Digest of the holdout that it opened; empty where it opened none."""


def stage_facts(record: Record) -> StageFacts:
    """Read them from one stage record."""
    body = record.body
    reports = () if body.outcome == "error" else tuple(
        (report.gate, report.version, _bounds(tuple(sorted((finding.id, f"{finding.comparator} {finding.bound}")
                                                           for finding in report.findings if finding.judged_on))),
         report.verdict, _failed(report), _margin(report)) for report in body.reports)
    baseline: list[tuple[str, str, float]] = []
    for finding in distances(record) if body.stage == "model_evaluation" and body.outcome != "error" else ():
        parts = finding.id.split(".")
        baseline.append((parts[-1], parts[2] if len(parts) > 3 else "all", float(finding.value or "nan")))
    opened = body.observations["holdout_opened"]["holdout"] if "holdout_opened" in body.observations else ""
    at = parse_rfc3339(str(body.finished))
    return StageFacts(at, (at - parse_rfc3339(body.started)).total_seconds(), reports, tuple(baseline), str(opened))


def distances(record: Record) -> tuple[Finding, ...]:
    """Each measured distance from the baseline, as the drift gate found it."""
    return tuple(finding for report in record.body.reports if report.gate == "drift" for finding in report.findings
                 if finding.id.startswith(FROM_BASELINE) and finding.value is not None)


def margin_of(finding: Finding) -> float | None:
    """Distance of the judged end from the bound, in bounds: 0.1 is a tenth of the bound away from failing, negative has failed."""
    try:
        bound = float(finding.bound)
        found = {"lower": finding.lower, "upper": finding.upper, "point": finding.value}[finding.judged_on]
        distance = {">=": 1.0, "<=": -1.0}[finding.comparator] * (float(found or "nan") - bound)
    except (KeyError, ValueError):
        return None
    margin = distance / (abs(bound) or 1.0)
    return margin if margin == margin else None


@lru_cache(maxsize=4096)
def _bounds(found: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The same bounds as one object: thousands of verdicts share them."""
    return found


def _failed(report: GateReport) -> tuple[tuple[str, str], ...]:
    parts = [finding.id.split(".") for finding in report.failures]
    return tuple((part[1], part[-1]) if len(part) > 2 else ("all", part[-1]) for part in parts)


def _margin(report: GateReport) -> float | None:
    return min((margin for finding in report.findings if (margin := margin_of(finding)) is not None), default=None)
