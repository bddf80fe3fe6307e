"""Where a person decides in the browser: the statement is shown whole, signed with their passkey, and handed in once.

1. The form of the review page says what, why, in which role. It carries a token of this session about the very document that was shown.
2. The statement that follows from it is the one that an SSH key would sign. It is shown as it is signed; nothing is recorded yet.
3. The passkey's assertion over it comes back, is verified as the inbox verifies it, and goes into the inbox. Pages hold no key.

One statement of a person waits for their passkey at a time; a later one takes its place. Each is handed in at most once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, get_args

from compliance_assets.errors import ComplianceError, Misused
from compliance_assets.evidence import inbox
from compliance_assets.evidence.decisions import unseparated
from compliance_assets.evidence.records import Decision, Statement
from compliance_assets.governance.deciding import Kind, hand_in, release_statement
from compliance_assets.governance.review import open_review, review_document
from compliance_assets.pipeline import River
from compliance_assets.trust.canonical import digest_of
from compliance_assets.trust.dsse import Envelope
from compliance_assets.web.people import People, assertion_of
from compliance_assets.web.request_rules import Refused
from compliance_assets.web.sessions import Session

PENDING_SECONDS = 600.0


@dataclass(frozen=True)
class Pending:
    """A statement that was shown to be signed: by whom, in which session, since when."""

    statement: Statement
    system: str
    session: str
    since: float


def arrived(river: River) -> list[Decision]:
    """Decisions in the inbox that the ledger has not taken yet, as they say themselves: nothing is verified before it is admitted."""
    said: list[Decision] = []
    for path in inbox.waiting(river.home.inbox)[:200]:
        try:
            statement = Statement.read(Envelope.from_bytes(path.read_bytes()[:inbox.LARGEST_BYTES]).payload)
        except (ComplianceError, OSError):
            continue  # whatever it is, the inbox will refuse it and say why
        if isinstance(statement.body, Decision):
            said.append(statement.body)
    return said


def place_of(river: River, system: str, person_id: str, people: People) -> dict[str, Any]:
    """What this person can do about the release in review: their roles, their passkeys, and why an approval of theirs would not count."""
    person = river.archive.in_force().person(person_id)
    chain, _, found = open_review(river, system)
    policy = river.definition(system).system.approval
    one_person = river.organisation.environments[river.definition(system).system.deployment.environment].approvals == "one_person"
    asked = [role for role, _ in found.missing]
    roles = sorted(person.roles, key=lambda role: role not in asked)
    if any(one.person == person_id and one.scope.purpose == "release" and one.scope.system == system for one in arrived(river)):
        barred = "your decision has arrived, and waits to be taken into the ledger"
    else:
        barred = ""
    return {"person": person_id, "roles": roles, "passkeys": people.passkeys_of(person_id), "barred": barred, "origin": people.origin,
            "may_not_approve": "" if one_person else unseparated(person, policy, chain),
            "heard": any(record.body.person == person_id for record in found.counted)}


class Desk:
    """The statements that wait for a passkey."""

    def __init__(self, people: People, clock: Callable[[], float] = time.time) -> None:
        self._people, self._clock = people, clock
        self._pending: dict[str, Pending] = {}
        self._lock = threading.Lock()

    def prepare(self, river: River, system: str, session: Session, form: Mapping[str, str], seconds: int) -> Statement:
        """The statement that follows from the form, kept for its signature; `seconds`: how long the review was open."""
        if not session.person:
            raise Refused("Only a person who signed in with a passkey decides here.", status=403, rule="approver",
                          value=session.user.role.value, remedy="Sign in with your passkey, or use `compliance approve` with your SSH key.")
        decision, role, until = (form.get(name, "").strip() for name in ("decision", "role", "until"))
        if decision not in get_args(Kind):
            raise Misused("Say whether you approve, reject or defer.", rule="decision", value=decision[:40], remedy="Go back and choose.")
        place = place_of(river, system, session.person, self._people)
        if digest_of(review_document(river, system)) != form.get("shown", ""):
            raise Misused("The review has changed since you opened it: nothing was signed.", rule="what was shown", value=system,
                          remedy="Go back, load it again, and read what is new.")
        river.archive.require_trust_policy()
        if place["barred"]:
            raise Misused(f"Nothing more is asked of you: {place['barred']}.", rule="one decision at a time", value=session.person,
                          remedy="Wait until it is in the ledger; take it back with `compliance revoke`.")
        if not place["passkeys"]:
            raise Misused("No passkey of yours counts for this address.", rule="enrolled passkey", value=place["origin"],
                          remedy="Enrol one here, or sign with `compliance approve` and your SSH key.")
        if role not in place["roles"]:
            raise Misused(f"The role {role[:60]!r} is not yours.", rule="role", value=role[:60], remedy="Choose one of yours.")
        if decision == "approve" and place["may_not_approve"]:
            raise Misused(f"Your approval would not count: {place['may_not_approve']}.", rule="separation of duties", value=session.person,
                          remedy="Somebody else approves; you may still reject or defer.")
        if decision == "approve" and place["heard"]:
            raise Misused("You have approved this release already.", rule="one decision at a time", value=session.person,
                          remedy="Take it back with `compliance revoke`, or reject.")
        statement = release_statement(river, system, session.person, role, decision, form.get("reason", ""),  # type: ignore[arg-type]
                                      opened_seconds=seconds, due=self._due(decision, until))
        with self._lock:
            self._pending[session.person] = Pending(statement, system, session.id, self._clock())
        return statement

    def _due(self, decision: str, until: str) -> str:
        if decision != "defer":
            return ""
        try:
            due = date.fromisoformat(until)
        except ValueError:
            raise Misused("A deferral needs a date until which it holds.", rule="defer", value=until[:20],
                          remedy="Go back and give one.") from None
        if due < self._people.now().date():
            raise Misused(f"{due} is past; nothing would be put off.", rule="defer", value=str(due), remedy="Go back and give a later day.")
        return due.isoformat()

    def sign(self, river: River, session: Session, form: Mapping[str, str]) -> tuple[Statement, str]:
        """Hand in the statement that waited, with the passkey's assertion over it. Returns it and its system."""
        with self._lock:
            kept = self._pending.pop(session.person, None) if session.person else None
        fresh = kept is not None and kept.session == session.id and kept.since + PENDING_SECONDS > self._clock()
        if kept is None or not fresh or kept.statement.digest != form.get("statement", ""):
            raise Refused("This statement does not wait for a signature: it was handed in, took too long, or another took its place.",
                          status=409, rule="each statement is handed in once", value=form.get("statement", "")[:12],
                          remedy="Look at the review again: it says what has arrived.")
        hand_in(river, kept.statement, assertion_of(dict(form)))
        return kept.statement, kept.system
