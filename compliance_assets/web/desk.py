"""Where a person decides in the browser: the statement is shown whole, signed with their passkey, and handed in once.

1. The form of a page says what, why, in which role. It carries a token of this session about the very thing that was shown.
2. The statement that follows from it is the one that an SSH key would sign. It is shown as it is signed; nothing is recorded yet.
3. The passkey's assertion over it comes back, is verified as the inbox verifies it, and goes into the inbox. Pages hold no key.

One statement of a person waits for their passkey at a time; a later one takes its place. Each is handed in at most once. What each page's
form asks, and when it is refused, is said in `desk_releases`, `desk_alerts` and `desk_definitions`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compliance_assets.errors import ComplianceError, Misused
from compliance_assets.evidence import inbox
from compliance_assets.evidence.records import Decision, Statement
from compliance_assets.governance.deciding import hand_in
from compliance_assets.pipeline import River
from compliance_assets.trust.dsse import Envelope
from compliance_assets.web.people import People, assertion_of
from compliance_assets.web.request_rules import Refused
from compliance_assets.web.sessions import Session

PENDING_SECONDS = 600.0


@dataclass(frozen=True)
class Sheet:
    """What the page says on which a person signs, above the statement itself. `begins`: in bold; `tone`: pass, fail or warn."""

    back: str
    """The page that the person comes from and goes back to: its path."""
    where: str
    question: str
    tone: str
    begins: str
    goes_on: str
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Pending:
    """A statement that was shown to be signed: in which session, since when, and where its form stands."""

    statement: Statement
    back: str
    session: str
    since: float


def arrived(river: River, purpose: str, system: str) -> list[Statement]:
    """Decisions in the inbox that the ledger has not taken yet, as they say themselves: nothing is verified before it is admitted."""
    said: list[Statement] = []
    for path in inbox.waiting(river.home.inbox)[:200]:
        try:
            statement = Statement.read(Envelope.from_bytes(path.read_bytes()[:inbox.LARGEST_BYTES]).payload)
        except (ComplianceError, OSError):
            continue  # whatever it is, the inbox will refuse it and say why
        if isinstance(statement.body, Decision) and (statement.body.scope.purpose, statement.body.scope.system) == (purpose, system):
            said.append(statement)
    return said


def require_signer(river: River, people: People, session: Session, role: str) -> None:
    """Refuse whoever has no passkey that counts for this address, or does not hold the role."""
    if not people.passkeys_of(session.person):
        raise Misused("No passkey of yours counts for this address.", rule="enrolled passkey", value=people.origin,
                      remedy="Enrol one here, or sign with your SSH key on the command line.")
    if role not in river.archive.in_force().person(session.person).roles:
        raise Misused(f"The role {role[:60]!r} is not yours.", rule="role", value=role[:60], remedy="Choose one of yours.")


class Desk:
    """The statements that wait for a passkey."""

    def __init__(self, people: People, clock: Callable[[], float] = time.time) -> None:
        self._people, self._clock = people, clock
        self._pending: dict[str, Pending] = {}
        self._lock = threading.Lock()

    def keep(self, session: Session, statement: Statement, back: str) -> None:
        """Keep a statement for its signature; it takes the place of an earlier one of this person."""
        with self._lock:
            self._pending[session.person] = Pending(statement, back, session.id, self._clock())

    def sign(self, river: River, session: Session, form: Mapping[str, str]) -> str:
        """Hand in the statement that waited, with the passkey's assertion over it. Returns where its form stands."""
        with self._lock:
            kept = self._pending.pop(session.person, None) if session.person else None
        fresh = kept is not None and kept.session == session.id and kept.since + PENDING_SECONDS > self._clock()
        if kept is None or not fresh or kept.statement.digest != form.get("statement", ""):
            raise Refused("This statement does not wait for a signature: it was handed in, took too long, or another took its place.",
                          status=409, rule="each statement is handed in once", value=form.get("statement", "")[:12],
                          remedy="Look at the page that it is about again: it says what has arrived.")
        hand_in(river, kept.statement, assertion_of(dict(form)))
        return kept.back
