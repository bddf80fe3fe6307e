"""A person asks for an exception to a gate that failed, and others sign what they think of it.

Asking changes nothing: it puts exactly the findings that failed on record, with the reason, what compensates for it, how it will be
mended, and until when. People then approve or reject that record with their own keys, through the inbox like every decision.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from compliance_assets.errors import Misused, OutOfTurn
from compliance_assets.evidence import exceptions
from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.records import Decision, ExceptionRequested, Scope, Statement
from compliance_assets.governance.deciding import Kind, Signer, require_reason, sign_statement
from compliance_assets.pipeline import River
from compliance_assets.policy.gates import GateReport
from compliance_assets.policy.system import seconds_of
from compliance_assets.trust.canonical import canonical_json, rfc3339

Severity = Literal["low", "medium", "high"]


@dataclass(frozen=True)
class Asked:
    """What somebody says when they ask for an exception."""

    gate: str
    severity: Severity
    reason: str
    compensating: tuple[str, ...]
    remediation: str
    until: datetime
    root_cause: str = ""


def ask_for_exception(river: River, system: str, asked: Asked, launcher: str) -> Record:
    """Put the request on record, about the latest evaluation of `system`, whose gate failed. Refuses what could never be granted.

    1. Reason, measures and remediation are said; for fairness also the root cause. 2. Whoever asks is known. 3. The definition at hand
    is in force and allows exceptions. 4. The latest execution failed at this gate. 5. No finding is an ERROR, and every verdict is one
    that may be excepted. 6. It ends, within the declared time.
    """
    # (1)
    for said in (asked.reason, asked.remediation, *asked.compensating):
        require_reason(said)
    if not asked.compensating or (asked.gate == "fairness" and not asked.root_cause.strip()):
        also = " and the root cause" if asked.gate == "fairness" else ""
        raise Misused(f"An exception to {asked.gate} needs compensating measures{also}.", rule="exception", value=asked.gate,
                      remedy="Give --measure (as often as needed), and --root-cause for fairness.")
    # (2)
    archive = river.archive
    river.archive.require_trust_policy()
    person = next((one for one in river.organisation.people if launcher in one.launchers), None)
    if person is None:
        raise OutOfTurn(f"organisation.yaml knows nobody who works as {launcher}.", rule="known person", value=launcher,
                        remedy="Name the user under `launchers` of somebody there, and have it approved.")
    # (3)
    definition = river.definition(system)
    policy = definition.system.approval.exceptions
    if policy is None:
        raise OutOfTurn(f"The declaration of {system} allows no exception.", rule="exception", value=asked.gate,
                        remedy="Mend the model; or declare approval.exceptions and have the definition approved.")
    if archive.definition_in_force(system) != definition.digest:
        raise OutOfTurn(f"No exception is given under definition {definition.digest.short}, which is not in force.",
                        rule="definition in force", value=definition.digest,
                        remedy=f"Have it approved first: `compliance definition approve {system}`.")
    # (4)
    failed, report = _failed(river, system, asked.gate)
    # (5)
    for finding in report.failures:
        if finding.verdict.value not in policy.covers:
            raise OutOfTurn(f"{finding.sentence()} cannot be excepted: {finding.verdict.value} is not among {', '.join(policy.covers)}"
                            f"{'; an ERROR is no measurement and never is' if finding.verdict.value == 'ERROR' else ''}.", rule="exception",
                            value=finding.verdict.value, remedy="Mend what failed, and evaluate again.")
    # (6)
    now = river.now()
    if not now < asked.until or (asked.until - now).total_seconds() > seconds_of(policy.longest):
        raise OutOfTurn(f"An exception until {rfc3339(asked.until)} is not within the declared {policy.longest} from now.",
                        rule="exception", value=rfc3339(asked.until),
                        remedy="Choose an earlier date; an exception bridges, it does not replace.")
    body = ExceptionRequested(
        system=system, stage=failed.body.stage, gate=report.gate, gate_version=report.version, definition=definition.digest,
        inputs=dict(failed.body.inputs), failed=failed.digest,
        findings=tuple({"id": f.id, "verdict": f.verdict.value, "value": f.value or "", "sentence": f.sentence()} for f in report.failures),
        severity=asked.severity, reason=asked.reason.strip(), compensating=tuple(each.strip() for each in asked.compensating),
        remediation=asked.remediation.strip(), root_cause=asked.root_cause.strip(), expires=rfc3339(asked.until), requested_by=person.id,
        launcher=launcher, trust_policy=river.organisation.digest, at=rfc3339(now), demonstration=river.organisation.demonstration)
    return archive.append(Statement((("failed", failed.digest),), body))


def _failed(river: River, system: str, gate: str) -> tuple[Record, GateReport]:
    """The latest evaluation of the candidate at hand, and its report on this gate, which failed."""
    definition = river.definition(system).digest
    made = [record for stage in exceptions.EXCEPTABLE for record in river.archive.made_by(system, stage)
            if record.body.outcome != "error" and record.body.definition == definition]
    if made:
        for report in made[-1].body.reports:
            if report.gate == gate and not report and report.verdict.value != "NOT_RUN":
                return made[-1], report
    raise OutOfTurn(f"The latest evaluation of {system} did not fail at {gate}: there is nothing to except.", rule="exception", value=gate,
                    remedy=f"Only gates of {', '.join(exceptions.EXCEPTABLE)} that failed can be excepted: `compliance status {system}`.")


def decide_exception(river: River, system: str, statement: str, signer: Signer, decision: Kind, rationale: str, *,
                     opened_seconds: int) -> tuple[Statement, Path]:
    """Sign a decision about an exception that somebody asked for."""
    require_reason(rationale)
    exception = exception_named(river, system, statement)
    shown = river.archive.artefacts.put_bytes(canonical_json(exception.body.model_dump(mode="json")))
    body = Decision(
        decision=decision, person=signer.person, role=signer.role,
        scope=Scope(purpose="exception", system=system, environment="", rollout=""), issued=rfc3339(river.now()), expires="",
        definition=exception.body.definition, trust_policy=river.organisation.digest, ledger=river.archive.head(), shown=shown,
        opened_seconds=opened_seconds, rationale=rationale.strip(), nonce=secrets.token_hex(16),
        demonstration=river.organisation.demonstration)
    return sign_statement(river, Statement((("exception", exception.digest),), body), signer)


def exception_named(river: River, system: str, statement: str) -> Record:
    """The exception whose digest begins so."""
    found = [record for record in river.archive.of_kind("exception", system) if str(record.digest).startswith(statement)]
    if len(found) != 1 or len(statement) < 6:
        raise Misused(f"{len(found)} exceptions of {system} have a digest that begins with {statement}.", rule="exception", value=statement,
                      remedy=f"They are listed by `compliance exception list {system}`.")
    return found[0]
