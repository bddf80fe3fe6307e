"""A person decides: the statement is made from what they were shown, and signed with their own key.

Nothing here decides by itself, and no machine key is touched. What comes out is a signed file for the inbox, which the
approval stage verifies as if a stranger had sent it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from compliance_assets.errors import Misused
from compliance_assets.evidence import inbox
from compliance_assets.evidence.archive import check_decision
from compliance_assets.evidence.conditions import conditions_of, end_of
from compliance_assets.evidence.records import Decision, DeploymentStep, Scope, Statement
from compliance_assets.governance.change_control import compare, shown_to_approver
from compliance_assets.governance.review import open_review, review_document
from compliance_assets.pipeline import River
from compliance_assets.trust.canonical import Digest, canonical_json, rfc3339
from compliance_assets.trust.passkeys import Assertion, passkey_signature
from compliance_assets.trust.signatures import PAYLOAD_TYPE, Envelope, pae, person_signature
from compliance_assets.trust.sshsig import APPROVAL_NAMESPACE, ssh_sign

Kind = Literal["approve", "reject", "defer"]
SHORTEST_REASON = 20
MOST_CONDITIONS, LONGEST_CONDITION = 20, 500
TEMPLATES = frozenset({"approved", "looks good to me", "lgtm", "no objections from me", "all criteria met", "ok to deploy this"})


@dataclass(frozen=True)
class Signer:
    """Who decides, in which role, with which private key (a path; never copied)."""

    person: str
    role: str
    key: Path


def decide_release(river: River, system: str, signer: Signer, decision: Kind, rationale: str, *, opened_seconds: int, due: str = "",
                   conditions: tuple[str, ...] = ()) -> tuple[Statement, Path]:
    """Sign a decision about the release that waits for review, and put it into the inbox. Returns it and its file."""
    statement = release_statement(river, system, signer.person, signer.role, decision, rationale, opened_seconds=opened_seconds, due=due,
                                  conditions=conditions)
    return sign_statement(river, statement, signer)


def release_statement(river: River, system: str, person: str, role: str, decision: Kind, rationale: str, *, opened_seconds: int,
                      due: str = "", conditions: tuple[str, ...] = ()) -> Statement:
    """What a person signs about the release that waits for review, with whatever they sign."""
    require_reason(rationale)
    document = review_document(river, system)
    _, subjects, _ = open_review(river, system)
    declared = river.definition(system).system
    now = river.now()
    if decision == "defer" and not due:
        raise Misused("A deferral needs a date until which it holds.", rule="defer", remedy="Give --until YYYY-MM-DD.")
    if decision == "approve" or conditions:
        conditions, due = _conditions(decision, conditions, due, now)
    body = Decision(
        decision=decision, person=person, role=role,
        scope=Scope(purpose="release", system=system, environment=declared.deployment.environment, rollout=subjects["rollout"]),
        issued=rfc3339(now), expires=rfc3339(now + timedelta(seconds=declared.approval.valid_seconds)),
        definition=subjects["definition"], trust_policy=river.organisation.digest, ledger=river.archive.head(),
        shown=river.archive.artefacts.put_bytes(canonical_json(document)), opened_seconds=opened_seconds, rationale=rationale.strip(),
        conditions=conditions, due=due, nonce=secrets.token_hex(16), demonstration=river.organisation.demonstration)
    return Statement(tuple(subjects.items()), body)


def _conditions(decision: Kind, texts: tuple[str, ...], due: str, now: datetime) -> tuple[tuple[str, ...], str]:
    """Conditions of an approval and the day for them, as they are signed; refuses what could be met by nobody, or by no day."""
    found = tuple(" ".join(text.split()) for text in texts)
    if decision != "approve" and found:
        raise Misused("Only an approval is given under conditions.", rule="condition", value=decision,
                      remedy="Leave the conditions out; the reason says why you reject or defer.")
    if not all(found) or len(set(found)) != len(found):
        raise Misused("Each condition says something, and something else than the others.", rule="condition", value="; ".join(found)[:200],
                      remedy="Leave out the empty one, or the one that is there twice.")
    if len(found) > MOST_CONDITIONS or any(len(text) > LONGEST_CONDITION for text in found):
        raise Misused(f"At most {MOST_CONDITIONS} conditions of {LONGEST_CONDITION} characters each.", rule="condition",
                      value=str(max(len(found), *(len(text) for text in found))), remedy="Say it shorter, or refer to a document.")
    try:
        day = date.fromisoformat(due).isoformat() if due else ""
    except ValueError:
        day = ""
    if bool(found) != bool(day) or (due and not day) or (day and end_of(day) <= now):
        raise Misused("A condition has a day, not past, by which it must be met; and such a day needs a condition.", rule="condition",
                      value=due[:40] or "no day", remedy="Give both: what must be met, and by which day (YYYY-MM-DD, --by).")
    return found, day


def hand_in(river: River, statement: Statement, assertion: Assertion) -> Path:
    """Put a decision that was signed with a passkey into the inbox; refused, as by the inbox, while the person is still present."""
    envelope = Envelope(statement.payload(), PAYLOAD_TYPE, (passkey_signature(statement.body.person, assertion),))
    check_decision(envelope, statement, river.archive.in_force())
    inbox.require_counter(river.archive, envelope, statement)
    return inbox.put(river.home.inbox, envelope)


def decide_standing(river: River, system: str, purpose: Literal["decommission", "legal-hold"], subject: Digest, environment: str,
                    shown: Any, signer: Signer, decision: Kind, rationale: str) -> tuple[Statement, Path]:
    """Sign a decision about a system as such: that it goes out of service, or that its evidence is held."""
    require_reason(rationale)
    body = Decision(
        decision=decision, person=signer.person, role=signer.role,
        scope=Scope(purpose=purpose, system=system, environment=environment, rollout=""), issued=rfc3339(river.now()), expires="",
        definition=river.archive.definition_in_force(system) or "", trust_policy=river.organisation.digest, ledger=river.archive.head(),
        shown=river.archive.artefacts.put_bytes(canonical_json(shown)), opened_seconds=0, rationale=rationale.strip(),
        nonce=secrets.token_hex(16), demonstration=river.organisation.demonstration)
    return sign_statement(river, Statement(((purpose, subject),), body), signer)


def meet_condition(river: River, system: str, condition: str, signer: Signer, rationale: str) -> tuple[Statement, Path]:
    """Sign that a condition is met: by whoever set it, or by somebody else in the same role."""
    require_reason(rationale)
    known = [one for record in river.archive.of_kind("decision", system) if record.body.scope.purpose == "release"
             for one in conditions_of(river.archive, [record])]
    found = [one for one in known if str(one.id).startswith(condition)]
    if len(found) != 1 or len(condition) < 6:
        raise Misused(f"{len(found)} conditions of {system} have a digest that begins with {condition}.", rule="condition", value=condition,
                      remedy=f"They are listed by `compliance condition list {system}`.")
    setter = found[0].approval.body
    if signer.person != setter.person and signer.role != setter.role:
        raise Misused(f"{setter.person} set this condition as {setter.role}; {signer.role} does not say that it is met.", rule="condition",
                      value=signer.role, remedy="It is met in the word of whoever set it, or of somebody else in that role.")
    shown = river.archive.artefacts.put_bytes(canonical_json(found[0].as_json()))
    body = Decision(
        decision="approve", person=signer.person, role=signer.role,
        scope=Scope(purpose="condition", system=system, environment="", rollout=""), issued=rfc3339(river.now()), expires="",
        definition=setter.definition, trust_policy=river.organisation.digest,
        ledger=river.archive.head(), shown=shown, opened_seconds=0, rationale=rationale.strip(), nonce=secrets.token_hex(16),
        demonstration=river.organisation.demonstration)
    return sign_statement(river, Statement((("condition", found[0].id),), body), signer)


def definition_shown(river: River, system: str) -> dict[str, Any]:
    """What a person is shown of the definition of a system as its files stand: all of it, and what it changes in the one in force."""
    compared = compare(river, system) if river.archive.definition_in_force(system) is not None else None
    return shown_to_approver(river.definition(system).parts(), compared)


def definition_statement(river: River, system: str, person: str, role: str, decision: Kind, rationale: str, *,
                         opened_seconds: int) -> Statement:
    """What a person signs about the definition of a system as its files stand, with whatever they sign."""
    require_reason(rationale)
    digest = river.definition(system).digest
    body = _about(river, person, role, decision, rationale, opened_seconds, definition_shown(river, system), "definition", system, digest)
    return Statement((("definition", digest),), body)


def trust_policy_shown(river: River) -> dict[str, Any]:
    """What a person is shown of organisation.yaml as it stands."""
    return river.organisation.model_dump(mode="json")


def trust_policy_statement(river: River, person: str, role: str, decision: Kind, rationale: str, *, opened_seconds: int) -> Statement:
    """What a person signs about organisation.yaml as it stands, with whatever they sign."""
    require_reason(rationale)
    digest = river.organisation.digest
    body = _about(river, person, role, decision, rationale, opened_seconds, trust_policy_shown(river), "trust-policy", "", digest)
    return Statement((("trust-policy", digest),), body)


def decide_definition(river: River, system: str, signer: Signer, decision: Kind, rationale: str, *,
                      opened_seconds: int) -> tuple[Statement, Path]:
    """Sign a decision about the definition of a system as its files stand."""
    statement = definition_statement(river, system, signer.person, signer.role, decision, rationale, opened_seconds=opened_seconds)
    return sign_statement(river, statement, signer)


def decide_trust_policy(river: River, signer: Signer, decision: Kind, rationale: str, *, opened_seconds: int) -> tuple[Statement, Path]:
    """Sign a decision about organisation.yaml as it stands."""
    statement = trust_policy_statement(river, signer.person, signer.role, decision, rationale, opened_seconds=opened_seconds)
    return sign_statement(river, statement, signer, against_file=False)


def review_return(river: River, system: str, statement: str, signer: Signer, decision: Kind, rationale: str) -> tuple[Statement, Path]:
    """Sign the review of an emergency rollback or withdrawal: it was right (approve) or not (reject). Never one's own act."""
    require_reason(rationale)
    found = [record for record in river.archive.find(Digest.parse(statement), "statement") if isinstance(record.body, DeploymentStep)
             and "emergency" in record.body.evidence and record.body.evidence["emergency"] and record.body.system == system]
    if not found:
        raise Misused(f"No emergency act of {system} in the ledger has the digest {statement}.", rule="review", value=statement,
                      remedy="Take it from `compliance rollback` or `compliance withdraw`, which said it.")
    step = found[-1]
    if step.body.launcher in river.organisation.person(signer.person).launchers:
        raise Misused(f"{signer.person} gave that order, and does not review it.", rule="review", value=signer.person,
                      remedy="Have it reviewed by somebody else.")
    shown = river.archive.artefacts.put_bytes(canonical_json(step.body.model_dump(mode="json")))
    body = Decision(
        decision=decision, person=signer.person, role=signer.role,
        scope=Scope(purpose="return", system=system, environment=step.body.environment, rollout=""), issued=rfc3339(river.now()),
        expires="", definition="", trust_policy=river.organisation.digest, ledger=river.archive.head(), shown=shown, opened_seconds=0,
        rationale=rationale.strip(), nonce=secrets.token_hex(16), demonstration=river.organisation.demonstration)
    return sign_statement(river, Statement((("return", step.digest),), body), signer)


def _about(river: River, person: str, role: str, decision: Kind, rationale: str, opened_seconds: int, shown: Any,
           purpose: Literal["definition", "trust-policy"], system: str, subject: Digest) -> Decision:
    return Decision(
        decision=decision, person=person, role=role, scope=Scope(purpose=purpose, system=system, environment="", rollout=""),
        issued=rfc3339(river.now()), expires="", definition=subject if purpose == "definition" else "",
        trust_policy=river.organisation.digest, ledger=river.archive.head(),
        shown=river.archive.artefacts.put_bytes(canonical_json(shown)), opened_seconds=opened_seconds,
        rationale=rationale.strip(), nonce=secrets.token_hex(16), demonstration=river.organisation.demonstration)


def require_reason(rationale: str) -> None:
    """Refuse a reason that says nothing."""
    said = rationale.strip()
    if len(said) < SHORTEST_REASON or said.lower().rstrip(".! ") in TEMPLATES:
        raise Misused(f"A reason of at least {SHORTEST_REASON} characters in your own words is part of the decision.", rule="reason",
                      value=said, remedy="Say what you looked at and why you decide so.")


def sign_statement(river: River, statement: Statement, signer: Signer, *, against_file: bool = True) -> tuple[Statement, Path]:
    """Sign a person's statement with their own key, and put it into the inbox."""
    payload = statement.payload()
    armored = ssh_sign(pae(PAYLOAD_TYPE, payload), signer.key, APPROVAL_NAMESPACE)
    envelope = Envelope(payload, PAYLOAD_TYPE, (person_signature(signer.person, armored),))
    if against_file:
        # Refused here rather than in the inbox: a key or role that is not theirs, while the person is still present.
        check_decision(envelope, statement, river.organisation)
    return statement, inbox.put(river.home.inbox, envelope)


def private_key(river: River, person: str, given: Path | None, keys: Mapping[str, Path]) -> Path:
    """The key to sign with: the one given, or the one that this home made for the person (development and demo only)."""
    if given is not None:
        return given
    if person in keys and keys[person].is_file():
        return keys[person]
    raise Misused(f"Say with which key {person} signs.", rule="key", value=person, remedy="Give --key PATH (an SSH private key).")


def revoke_decision(river: River, system: str, statement: str, signer: Signer, rationale: str) -> tuple[Statement, Path]:
    """Sign the revocation of an earlier decision of one's own, and put it into the inbox."""
    require_reason(rationale)
    found = [record for record in river.archive.find(Digest.parse(statement), "statement") if isinstance(record.body, Decision)]
    if not found:
        raise Misused(f"No decision in the ledger has the digest {statement}.", rule="revoke", value=statement,
                      remedy=f"Take it from `compliance review {system} --json` (heard, statement).")
    body = found[-1].body
    if body.person != signer.person:
        raise Misused(f"{statement[:12]} is {body.person}'s decision, not {signer.person}'s.", rule="revoke", value=body.person,
                      remedy="A decision is taken back by whoever made it; reject the release instead.")
    revocation = body.model_copy(update={
        "decision": "revoke", "role": signer.role, "issued": rfc3339(river.now()), "expires": "", "ledger": river.archive.head(),
        "rationale": rationale.strip(), "conditions": (), "due": "", "revokes": statement, "nonce": secrets.token_hex(16),
        "trust_policy": river.organisation.digest})
    return sign_statement(river, Statement(found[-1].statement.subjects, revocation), signer)
