"""Which failed findings people have excepted, for how long, and why an exception does not count: read from the ledger alone.

An exception is a record of its own and edits no verdict: the FAIL stays, the exception stands beside it. It counts only for exactly
the findings, gate, release and definition that it names, only while it has neither lapsed nor been revoked, and only if the approved
definition allows exceptions at all, for that verdict and that long. An ERROR is no measurement and cannot be excepted; nor can what
an acting stage found (Art. 9(8), Art. 17(1)(a), (m); the limits are this project's own).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.archive import Archive, Record, quorum
from compliance_assets.evidence.decisions import taken_back, unseparated
from compliance_assets.evidence.dossier import Chain, Excuse, ExcuseOf
from compliance_assets.policy.gates import GateReport
from compliance_assets.policy.organisation import Organisation
from compliance_assets.policy.system import ApprovalPolicy, places, seconds_of
from compliance_assets.trust.canonical import Digest, parse_canonical, parse_rfc3339

EXCEPTABLE = ("model_evaluation",)
"""The stages whose gates may be excepted: what was measured of a model. A test of the served version and an approval may not."""


@dataclass(frozen=True)
class ExceptionStanding:
    """Where one exception stands at a moment. True only if it counts."""

    record: Record
    approvers: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, int], ...]
    why: str
    """Why it does not count; empty if it does."""

    def __bool__(self) -> bool:
        return not self.why


def excuses(archive: Archive, at: datetime, before: int | None = None) -> ExcuseOf:
    """What people have excepted at `at`. `before`: as the ledger said when it had this many entries."""
    def excuse(record: Record) -> Excuse:
        return excuse_for(archive, record, at, before)
    return excuse


def excuse_for(archive: Archive, record: Record, at: datetime, before: int | None = None) -> Excuse:
    """Which failed gates of an execution are excepted at `at`, and why the other exceptions of this system are not for it."""
    if record.body.outcome != "failed" or record.body.stage not in EXCEPTABLE:
        return Excuse({})
    failed = [report for report in record.body.reports if not report]
    by: dict[str, Record] = {}
    because: list[str] = []
    for exception in archive.of_kind("exception", record.body.system):
        if before is not None and exception.index >= before:
            continue
        report = next((each for each in failed if each.gate == exception.body.gate), None)
        why = (f"it is for the gate {exception.body.gate}" if report is None else
               foreign(exception, record.body.stage, record.body.definition, record.body.inputs) or uncovered(exception, report)
               or standing(archive, exception, at, before).why)
        if why:
            because.append(f"exception {exception.digest.short}: {why}")
        elif report is not None:
            by[report.gate] = exception
    return Excuse(by, tuple(because), bool(failed) and all(report.gate in by for report in failed))


def in_force(archive: Archive, system: str, stage: str, definition: str, inputs: Mapping[str, str], at: datetime) -> dict[str, Record]:
    """Exceptions that count at `at` for this very question, by gate: the gates after these are judged too."""
    if stage not in EXCEPTABLE:
        return {}
    return {exception.body.gate: exception for exception in archive.of_kind("exception", system)
            if not foreign(exception, stage, definition, inputs) and standing(archive, exception, at)}


def foreign(exception: Record, stage: str, definition: str, inputs: Mapping[str, str]) -> str:
    """Why an exception is not about this execution: another stage, definition or release; empty if it is."""
    body = exception.body
    if body.stage != stage:
        return f"it is for the stage {body.stage}"
    if body.definition != definition:
        return f"it was given under definition {body.definition[:12]}, not under {definition[:12]}"
    if dict(body.inputs) != dict(inputs):
        other = next((name for name in inputs if body.inputs.get(name) != inputs[name]), "set of inputs")
        return f"it is for another release (another {other})"
    return ""


def uncovered(exception: Record, report: GateReport) -> str:
    """Why a gate's failures are not exactly those that the exception names; empty if they are. ERROR and NOT_RUN never are."""
    if exception.body.gate_version != report.version:
        return f"it is for version {exception.body.gate_version} of the gate, not for {report.version}"
    named = {finding["id"]: (finding["verdict"], finding["value"]) for finding in exception.body.findings}
    for finding in report.failures:
        if finding.verdict.value in ("ERROR", "NOT_RUN"):
            return f"{finding.id} is {finding.verdict.value}, which cannot be excepted"
        if finding.id not in named:
            return f"it does not name {finding.id}"
        if named[finding.id] != (finding.verdict.value, finding.value or ""):
            verdict, value = named[finding.id]
            return f"{finding.id} was {verdict} {value} when it was asked for, and is {finding.verdict.value} {finding.value or ''}"
    return ""


def policy_of(archive: Archive, definition: str) -> ApprovalPolicy | None:
    """Who may approve under a recorded definition; None if that definition was never put on record."""
    try:
        parts = parse_canonical(archive.artefacts.get_bytes(Digest.parse(definition)))
    except ComplianceError:
        return None
    return ApprovalPolicy.model_validate(parts["declaration"]["approval"])


def standing(archive: Archive, exception: Record, at: datetime, before: int | None = None) -> ExceptionStanding:
    """Whether an exception counts at `at`. It is held against these, in order; the first that it fails is its reason:

    1. The definition that it was given under is on record and allows exceptions, for each verdict that it names.
    2. It claims no more than failed: the execution it rests on is in the ledger, before it, and these findings failed there, so.
    3. It does not last longer than declared, counted from when it was asked for.
    4. Enough people of the declared roles approved it, each in one place, neither its requester nor a launcher or author of what it
       is about; nobody rejected it, and nobody needed took theirs back.
    5. It has begun and has not lapsed.
    """
    body = exception.body
    policy = policy_of(archive, body.definition)
    # (1)
    if policy is None or policy.exceptions is None:
        return ExceptionStanding(exception, (), (), "its definition allows no exception")
    allowed = policy.exceptions
    beyond = sorted({finding["verdict"] for finding in body.findings} - set(allowed.covers))
    if beyond or not body.findings:
        return ExceptionStanding(exception, (), (), f"its definition allows none for {', '.join(beyond) or 'nothing'}")
    # (2)
    claimed = _overclaimed(archive, exception)
    if claimed:
        return ExceptionStanding(exception, (), (), claimed)
    # (3)
    asked, expires = parse_rfc3339(body.at), parse_rfc3339(body.expires)
    if expires > asked + timedelta(seconds=seconds_of(allowed.longest)):
        return ExceptionStanding(exception, (), (), f"it would hold until {body.expires}, longer than the declared {allowed.longest}")
    # (4)
    people, said_no, refused = _heard(archive, exception, policy, before)
    approvers = tuple(people.items())
    missing = tuple((role, needed - have) for role, needed in places(allowed.approved_by).items()
                    if (have := sum(1 for held in people.values() if held == role)) < needed)
    if said_no:
        return ExceptionStanding(exception, approvers, missing, said_no)
    if not quorum(people, allowed.approved_by):
        waits = "; ".join([f"{count} × {role}" for role, count in missing] + refused)
        return ExceptionStanding(exception, approvers, missing, f"it waits for {waits}")
    # (5)
    if at < asked:
        return ExceptionStanding(exception, approvers, (), f"it was asked for only at {body.at}")
    if expires <= at:
        return ExceptionStanding(exception, approvers, (), f"it expired at {body.expires}")
    return ExceptionStanding(exception, approvers, (), "")


def _overclaimed(archive: Archive, exception: Record) -> str:
    """Why the exception says more than its failed execution did; empty if it does not."""
    body = exception.body
    found = [record for record in archive.find(Digest.parse(body.failed), "statement") if record.statement.kind == "stage"]
    if not found or found[-1].index >= exception.index:
        return "the failed execution that it names is not in the ledger before it"
    failed = found[-1]
    why = foreign(exception, failed.body.stage, failed.body.definition, failed.body.inputs)
    report = next((each for each in failed.body.reports if each.gate == body.gate and not each), None)
    if why or report is None or failed.body.system != body.system:
        return f"the execution that it names failed otherwise ({why or f'its gate {body.gate} did not fail'})"
    were = {finding.id: (finding.verdict.value, finding.value or "") for finding in report.failures}
    for finding in body.findings:
        if were.get(finding["id"]) != (finding["verdict"], finding["value"]):
            return f"it claims more than failed: {finding['id']} was not {finding['verdict']} {finding['value']} there"
    return ""


def _heard(archive: Archive, exception: Record, policy: ApprovalPolicy,
           before: int | None) -> tuple[dict[str, str], str, list[str]]:
    """People who count for an exception, in their roles; a sentence if somebody said no; and whose word does not count, and why."""
    failed = archive.find(Digest.parse(exception.body.failed), "statement")[-1]
    decisions = [record for record in archive.decisions_on(exception.digest, "exception")
                 if record.statement.kind == "decision" and record.body.scope.purpose == "exception"
                 and record.body.scope.system == exception.body.system and (before is None or record.index < before)]
    revoked = taken_back(decisions)
    organisation = archive.in_force()
    people: dict[str, str] = {}
    refused: list[str] = []
    took_back: list[str] = []
    for record in decisions:
        body = record.body
        if body.decision == "reject" and record.digest not in revoked:
            return people, f"{body.person} rejected it", refused
        if body.decision != "approve":
            continue
        why = _not_theirs(body.person, exception, failed, policy, organisation)
        if record.digest in revoked:
            took_back.append(body.person)
        elif why:
            refused.append(f"{body.person}'s word does not count ({why})")
        else:
            people[body.person] = body.role
    gone = [person for person in took_back if person not in people]
    return people, f"it has been revoked by {', '.join(gone)}" if gone else "", refused


def _not_theirs(person: str, exception: Record, failed: Record, policy: ApprovalPolicy, organisation: Organisation) -> str:
    if person == exception.body.requested_by:
        return "they asked for it"
    known = organisation.person(person)
    if exception.body.launcher in known.launchers:
        return "they asked for it"
    return unseparated(known, policy, Chain({"evaluation_report": failed}))
