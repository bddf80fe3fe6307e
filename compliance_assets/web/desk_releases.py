"""The form of the review page: what a person says about the release in review, and when nothing is put before them to be signed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, get_args

from compliance_assets.errors import Misused
from compliance_assets.evidence.decisions import unseparated
from compliance_assets.evidence.records import Statement
from compliance_assets.governance.deciding import Kind, release_statement
from compliance_assets.governance.review import open_review, review_document
from compliance_assets.pipeline import River
from compliance_assets.trust.canonical import digest_of
from compliance_assets.web.desk import Sheet, arrived, require_signer
from compliance_assets.web.people import People
from compliance_assets.web.sessions import Session

ASKED = {"approve": "Approve", "reject": "Reject", "defer": "Defer"}
SAID = {"approve": ("You approve", "pass"), "reject": ("You reject", "fail"), "defer": ("You put off", "warn")}


def place_of(river: River, system: str, person_id: str, people: People) -> dict[str, Any]:
    """What this person can do about the release in review: their roles, their passkeys, and why an approval of theirs would not count."""
    person = river.archive.in_force().person(person_id)
    chain, _, found = open_review(river, system)
    policy = river.definition(system).system.approval
    one_person = river.organisation.environments[river.definition(system).system.deployment.environment].approvals == "one_person"
    asked = [role for role, _ in found.missing]
    roles = sorted(person.roles, key=lambda role: role not in asked)
    if any(one.body.person == person_id for one in arrived(river, "release", system)):
        barred = "your decision has arrived, and waits to be taken into the ledger"
    else:
        barred = ""
    return {"person": person_id, "roles": roles, "passkeys": people.passkeys_of(person_id), "barred": barred, "origin": people.origin,
            "may_not_approve": "" if one_person else unseparated(person, policy, chain),
            "heard": any(record.body.person == person_id for record in found.counted)}


def release_decision(river: River, system: str, session: Session, people: People, form: Mapping[str, str], seconds: int) -> Statement:
    """The statement that follows from the form; `seconds`: how long the review was open."""
    decision, role, until = (form.get(name, "").strip() for name in ("decision", "role", "until"))
    if decision not in get_args(Kind):
        raise Misused("Say whether you approve, reject or defer.", rule="decision", value=decision[:40], remedy="Choose one.")
    place = place_of(river, system, session.person, people)
    if digest_of(review_document(river, system)) != form.get("shown", ""):
        raise Misused("The review has changed since you opened it: nothing was signed.", rule="what was shown", value=system,
                      remedy="Read what is new; then decide.")
    river.archive.require_trust_policy()
    if place["barred"]:
        raise Misused(f"Nothing more is asked of you: {place['barred']}.", rule="one decision at a time", value=session.person,
                      remedy="Wait until it is in the ledger; take it back with `compliance revoke`.")
    require_signer(river, people, session, role)
    if decision == "approve" and place["may_not_approve"]:
        raise Misused(f"Your approval would not count: {place['may_not_approve']}.", rule="separation of duties", value=session.person,
                      remedy="Somebody else approves; you may still reject or defer.")
    if decision == "approve" and place["heard"]:
        raise Misused("You have approved this release already.", rule="one decision at a time", value=session.person,
                      remedy="Take it back with `compliance revoke`, or reject.")
    # One condition on each line; all of them by one day, as `compliance approve` takes them.
    conditions = tuple(line for line in form.get("conditions", "").splitlines() if line.strip())
    by = form.get("by", "").strip()
    if by and decision != "approve":
        raise Misused("Only an approval is given under conditions.", rule="condition", value=by[:20],
                      remedy="Leave the day for conditions empty.")
    return release_statement(river, system, session.person, role, decision, form.get("reason", ""),  # type: ignore[arg-type]
                             opened_seconds=seconds, due=by or _due(decision, until, people), conditions=conditions)


def _due(decision: str, until: str, people: People) -> str:
    if decision != "defer":
        return ""
    try:
        due = date.fromisoformat(until)
    except ValueError:
        raise Misused("A deferral needs a date until which it holds.", rule="defer", value=until[:20], remedy="Give one.") from None
    if due < people.now().date():
        raise Misused(f"{due} is past; nothing would be put off.", rule="defer", value=str(due), remedy="Give a later day.")
    return due.isoformat()


def sheet_of(river: River, statement: Statement) -> Sheet:
    """How the statement is put before whoever signs it."""
    body = statement.body
    title, role = river.definition(body.scope.system).system.title, body.role.replace("_", " ")
    begins, tone = SAID[body.decision]
    more = f", until {body.due}" if body.decision == "defer" else ""
    if body.conditions:
        more = f", under {len(body.conditions)} condition{'' if len(body.conditions) == 1 else 's'}"
    return Sheet(f"/systems/{body.scope.system}/review", title, f"{ASKED[body.decision]} this release?", tone, begins,
                 f"{title} to {body.scope.environment}, as {role}{more}.", tuple(_facts(statement)))


def _facts(statement: Statement) -> Iterator[tuple[str, str]]:
    body = statement.body
    if body.decision != "approve":
        return
    yield "Holds until", body.expires
    for number, text in enumerate(body.conditions, 1):
        yield f"Condition {number}", text
    if body.conditions:
        yield "To be met by", f"the end of {body.due} (UTC)"
        yield "What undoes it", ("From then on, if one of them is not met, your approval counts no longer: nothing is deployed on it, and "
                                 "a rollout under way ends.")
        yield "Who says that it is met", (f"You, or somebody else as {body.role.replace('_', ' ')}, with their own key: "
                                          f"compliance condition met {body.scope.system} CONDITION")
