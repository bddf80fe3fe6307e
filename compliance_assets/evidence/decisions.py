"""Which decisions of people stand, and what is still missing: counted by person, in their roles, over exactly these digests.

Pure. A decision that does not count is not an error and no verdict: it is listed with the reason why it does not count, so that
everybody sees it. No approvers means no approval; a rejection of the same model and report ends the matter for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.dossier import Chain
from compliance_assets.policy.organisation import Environment, Organisation, Person
from compliance_assets.policy.system import ApprovalPolicy, ReleaseClass
from compliance_assets.trust.canonical import Digest, digest_of, parse_rfc3339

if TYPE_CHECKING:
    from compliance_assets.policy.system import System

SUBJECTS = ("staged-model", "model", "evaluation-report", "integration-report", "dataset", "definition", "environment", "rollout")
CLOCK_SKEW = timedelta(minutes=5)
TWO_ROLES = "second role, which approval.by_change.SUBSTANTIAL must name"
"""A substantial change is never one role's to approve."""


def rollout_digest(system: System) -> Digest:
    """The digest of the rollout plan: leaving the plan needs a new approval."""
    return digest_of(system.declaration()["deployment"])


def release_subjects(chain: Chain, staged: Digest, integration: Digest, model: Digest, system: System) -> dict[str, Digest]:
    """What an approval of a release is bound to, by the names of `SUBJECTS`."""
    evaluation = chain.records["evaluation_report"].body
    return {
        "staged-model": staged, "model": model, "evaluation-report": chain.digest("evaluation_report"),
        "integration-report": integration, "dataset": chain.digest("dataset"), "definition": Digest.parse(evaluation.definition),
        "environment": Digest.parse(evaluation.environment), "rollout": rollout_digest(system),
    }


def taken_back(decisions: Sequence[Record]) -> frozenset[str]:
    """The digests of those of these decisions that were revoked by whoever made them; nobody takes back another person's word."""
    makers = {str(record.digest): record.body.person for record in decisions}
    return frozenset(record.body.revokes for record in decisions if record.body.decision == "revoke"
                     and record.body.revokes in makers and makers[record.body.revokes] == record.body.person)


@dataclass(frozen=True)
class Standing:
    """Where an approval stands. True only when every requirement is met by somebody who may count."""

    counted: tuple[Record, ...]
    refused: tuple[tuple[str, str], ...]
    """Decisions that do not count: person, and why."""
    missing: tuple[tuple[str, int], ...]
    """Roles still to be heard, with how many people each."""
    rejected: tuple[Record, ...]
    deferred: tuple[Record, ...]

    def __bool__(self) -> bool:
        return bool(self.counted) and not self.missing and not self.rejected

    @property
    def expires(self) -> datetime | None:
        """When the first of the counted approvals lapses."""
        moments = [parse_rfc3339(record.body.expires) for record in self.counted]
        return min(moments) if moments else None

    def waiting_for(self) -> str:
        """`1 × governance_lead; not counted: p-17 (launched the run)`."""
        parts = [f"{count} × {role}" for role, count in self.missing]
        parts += [f"{person}'s decision does not count ({why})" for person, why in self.refused]
        parts += [f"{record.body.person} deferred until {record.body.due}: {record.body.rationale}" for record in self.deferred]
        return "; ".join(parts) or "nobody"


def standing(decisions: Sequence[Record], subjects: Mapping[str, Digest], policy: ApprovalPolicy, organisation: Organisation,
             environment: Environment, environment_name: str, chain: Chain, now: datetime, *, change: ReleaseClass,
             overdue: Callable[[Record], str]) -> Standing:
    """Count the decisions over `subjects`. `decisions`: authentic ones about this release's model, oldest first.

    `change`: the class of the release, from which it follows who must approve. `overdue`: why an approval counts no longer because a
    condition of it was not met on its day; empty where none is.

    Each is held against these, in order; the first that it fails is its reason:
    1. it is about a release, of this system, for this environment;
    2. its subjects are exactly these digests;
    3. it was made under the trust policy in force, by somebody who still holds the role;
    4. it has not been revoked by its maker;
    5. it is within its validity, which is not longer than declared, and not dated into the future;
    6. its maker neither launched nor wrote what is approved, where the declaration says so; nor did they ask for an exception that
       the release rests on;
    7. every condition that it was given under is met, or its day has not passed.
    """
    revoked = taken_back(decisions)
    latest: dict[object, Record] = {}
    refused: list[tuple[str, str]] = []
    rejected: list[Record] = []
    deferred: dict[str, Record] = {}
    distinct = "distinct_people" in policy.separation
    for record in decisions:
        body = record.body
        if body.decision == "revoke":
            continue
        why = _objection(record, subjects, policy, organisation, environment, environment_name, chain, now, revoked) or (
            overdue(record) if body.decision == "approve" else "")  # (7)
        if body.decision == "reject":
            same = all(record.statement.subject(name) == subjects[name] for name in ("model", "evaluation-report"))
            if same and record.digest not in revoked:
                rejected.append(record)
        elif body.decision == "defer":
            # Whoever approved and then put it off no longer approves, whatever else is wrong with the deferral.
            latest = {key: approval for key, approval in latest.items() if approval.body.person != body.person}
            if not why:
                deferred[body.person] = record
        elif body.decision == "approve":
            if why:
                refused.append((body.person, why))
            else:
                deferred.pop(body.person, None)
                latest[body.person if distinct else (body.person, body.role)] = record
    counted = tuple(latest.values())
    missing: tuple[tuple[str, int], ...]
    if environment.approvals == "one_person":
        missing = () if counted else ((policy.requires[0].role, 1),)
    else:
        wanted = policy.required(change)
        missing = tuple((role, needed - have) for role, needed in wanted.items()
                        if (have := sum(1 for record in counted if record.body.role == role)) < needed)
        if change == "SUBSTANTIAL" and len(wanted) < 2:
            missing = (*missing, (TWO_ROLES, 1))
    return Standing(counted, tuple(refused), missing, tuple(rejected), tuple(deferred.values()))


def _objection(record: Record, subjects: Mapping[str, Digest], policy: ApprovalPolicy, organisation: Organisation,
               environment: Environment, environment_name: str, chain: Chain, now: datetime, revoked: Set[str]) -> str:
    body = record.body
    # (1)
    if body.scope.purpose != "release" or body.scope.environment != environment_name:
        return f"it is for {body.scope.environment or body.scope.purpose}, not for {environment_name}"
    if body.scope.system != chain.records["dataset"].body.system:
        return f"it is for the system {body.scope.system}"
    # (2)
    different = [name for name in SUBJECTS if record.statement.subject(name) != subjects[name]]
    if different or len(record.statement.subjects) != len(SUBJECTS):
        return f"it is bound to another {', '.join(different) or 'set of digests'}"
    # (3)
    if body.trust_policy != organisation.digest:
        return "it was made under another organisation.yaml"
    person = organisation.person(body.person)
    if body.role not in person.roles:
        return f"the role {body.role} is not theirs"
    # (4)
    if record.digest in revoked:
        return "it has been revoked"
    # (5)
    issued, expires = parse_rfc3339(body.issued), parse_rfc3339(body.expires)
    if issued > now + CLOCK_SKEW:
        return f"it is dated into the future ({body.issued})"
    if expires > issued + timedelta(seconds=policy.valid_seconds):
        return f"it claims a longer validity than {policy.valid_for}"
    if expires <= now:
        return f"it expired at {body.expires}"
    # (6)
    return "" if environment.approvals == "one_person" else unseparated(person, policy, chain)


def unseparated(person: Person, policy: ApprovalPolicy, chain: Chain) -> str:
    """Why this person may not approve this release at all: it is their own work, or their own exception. Empty: they may."""
    if any(exception.body.requested_by == person.id for exception in chain.exceptions):
        return "they asked for an exception that it rests on"
    if "not_launcher" in policy.separation and set(chain.launchers) & set(person.launchers):
        return "they launched a run of this release"
    authors = set(chain.authors)
    if "not_author" in policy.separation and (authors & {mail.lower() for mail in person.git}
                                              or authors & {f"launcher:{name}" for name in person.launchers}):
        return "they wrote what is approved"
    return ""
