"""What gates found, for the eye: each finding as a line of a table, and the few numbers that say most about a candidate.

Numbers come from records as they stand; what was not measured says so, and every number carries the ledger index it is read from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compliance_assets.evidence.archive import Record
from compliance_assets.governance.charts.findings import name_words, strip_svg
from compliance_assets.governance.charts.reading import bound_words, is_narrow, measured, shown, sign_of
from compliance_assets.policy.gates import Finding, GateReport, Verdict

Reports = Sequence[tuple[Record, GateReport]]
_LEADING = (("fairness", "Fairness"), ("performance", "Performance"), ("calibration", "Calibration"), ("drift", "Change"))


@dataclass(frozen=True)
class Row:
    """One finding as a line of a table: what, over whom, its numbers as words, a strip to see it by, the verdict in a word."""

    gate: str
    what: str
    over: str
    value: str
    interval: str
    n: str
    bound: str
    judged_on: str
    verdict: str
    word: str
    sign: str
    because: str
    note: str
    strip: str
    entry: int
    incumbent: str = ""
    """What the same question found of the model in production then, on its own holdout; empty where it was not asked."""
    incumbent_interval: str = ""
    incumbent_entry: int | None = None


def rows(record: Record, gates: Sequence[str] = (), incumbent: Record | None = None) -> tuple[Row, ...]:
    """What a record's gates found, one line each; of these gates only, where some are named.

    `incumbent`: the evaluation of the model in production then, whose findings of the same name stand beside.
    """
    before = {finding.id: finding for report in incumbent.body.reports for finding in report.findings} if incumbent is not None else {}
    return tuple(_beside(_row(report, finding, record.index), before.get(finding.id), incumbent)
                 for report in record.body.reports if not gates or report.gate in gates for finding in report.findings)


def _beside(row: Row, before: Finding | None, incumbent: Record | None) -> Row:
    if before is None or incumbent is None or measured(before.value) is None or row.gate == "drift":
        return row
    lower, upper = measured(before.lower), measured(before.upper)
    return replace(row, incumbent=shown(measured(before.value)), incumbent_entry=incumbent.index,
                   incumbent_interval=f"{shown(lower)} to {shown(upper)}" if lower is not None and upper is not None else "")


def _row(report: GateReport, finding: Finding, entry: int) -> Row:
    sign, word = sign_of(finding)
    what, over = name_words(finding, report.gate)
    value = measured(finding.value)
    lower, upper = measured(finding.lower), measured(finding.upper)
    interval = f"{shown(lower)} to {shown(upper)}" if lower is not None and upper is not None else ""
    return Row(report.gate, what, over, shown(value) if value is not None else (finding.value or "not measured"), interval,
               shown(float(finding.n)) if finding.n else "", bound_words(finding),
               finding.judged_on if finding.judged_on in ("lower", "upper") else "", finding.verdict.value, word, sign,
               finding.because, finding.note, strip_svg(finding), entry)


@dataclass(frozen=True)
class Figure:
    """One of the few numbers at the top of a page. `value`: None where nothing was measured; `entry`: None where nothing is recorded."""

    name: str
    value: str | None
    said: str
    sign: str
    entry: int | None


def figures(records: Sequence[Record]) -> tuple[Figure, ...]:
    """How many gates passed of those that apply, one number for each question of the evaluation, and how much of the integration held."""
    reports = [(record, report) for record in records for report in record.body.reports]
    judged, said = [report for _, report in reports if report.verdict is not Verdict.NOT_APPLICABLE], _gates_said(reports)
    passed = sum(map(bool, judged))
    sign = "fail" if not judged or passed < len(judged) else "warn" if "narrow" in said else "pass"
    return (Figure("Gates", f"{passed} / {len(judged)}", said, sign, records[-1].index),
            *(_figure(reports, gate, name) for gate, name in _LEADING), _integration(reports))


def _gates_said(reports: Reports) -> str:
    not_run = sum(report.verdict is Verdict.NOT_RUN for _, report in reports)
    failed = sum(not report and report.verdict is not Verdict.NOT_RUN for _, report in reports)
    narrow = sum(is_narrow(finding) for record, report in reports if record.body.stage == "model_evaluation" for finding in report.findings)
    parts = [f"{failed} failed" if failed else "", f"{not_run} not run" if not_run else "", f"{narrow} narrow" if narrow else ""]
    aside = sum(report.verdict is Verdict.NOT_APPLICABLE for _, report in reports)
    return (", ".join(part for part in parts if part) or "none close to its bound") + (f"; {aside} not applicable" if aside else "")


def _figure(reports: Reports, gate: str, name: str) -> Figure:
    """The finding that says most about a gate: the worst verdict first, then the one nearest to its bound."""
    there = [(record, finding) for record, report in reports if report.gate == gate for finding in report.findings]
    numeric = [(record, finding) for record, finding in there if measured(finding.value) is not None and finding.bound]
    if not numeric:
        return Figure(name, None, sign_of(there[0][1])[1] if there else "not run", "none", there[0][0].index if there else None)
    record, finding = min(numeric, key=lambda pair: (bool(pair[1]), _distance(pair[1])))
    what, over = name_words(finding, gate)
    sign, word = sign_of(finding)
    name = f"{what}, {over}" if over else what
    return Figure(name, shown(measured(finding.value)), f"{bound_words(finding)} · {word}", sign, record.index)


def _distance(finding: Finding) -> float:
    value, bound = measured(finding.value), measured(finding.bound)
    return abs(value - bound) / (abs(bound) or 1.0) if value is not None and bound is not None else 1e9


def _integration(reports: Reports) -> Figure:
    there = [(record, finding) for record, report in reports if record.body.stage == "integration_testing" for finding in report.findings]
    if not there:
        return Figure("Integration", None, "not run", "none", None)
    held = sum(bool(finding) for _, finding in there)
    all_of_them = held == len(there)
    return Figure("Integration", f"{held} / {len(there)}", "all held" if all_of_them else f"{len(there) - held} did not hold",
                  "pass" if all_of_them else "fail", there[0][0].index)
