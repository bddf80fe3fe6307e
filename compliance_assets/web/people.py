"""Which person of organisation.yaml is this browser's? Their passkey says so, or a proxy that the organisation trusts.

Asked of the trust policy in force, at every request: whoever was taken out of it is signed out at once. Neither way approves anything:
a decision needs the passkey again, over that very statement.

1. *Passkey.* The page shows a sentence with a fresh number, once; the passkey signs it. It is refused for other pages' addresses.
2. *Proxy.* A header names the person. From any address but the proxy's own, a request that carries it is refused, not just not believed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from starlette.requests import Request

from compliance_assets.errors import ComplianceError
from compliance_assets.policy.browsers import DeclaredPages
from compliance_assets.policy.organisation import Organisation, Person
from compliance_assets.trust.passkeys import Assertion, Passkey, verify_assertion
from compliance_assets.web.request_rules import Refused
from compliance_assets.web.sessions import Attempts, Once, Session
from compliance_assets.web.ui_users import Role, User

PARTS = ("credential", "authenticator_data", "client_data", "signature")
PROXY_SECONDS = 3600


def assertion_of(form: dict[str, str]) -> Assertion:
    """The assertion that a form brought. Refuses a form without one (403)."""
    if not all(form.get(name) for name in PARTS):
        raise Refused("No passkey signed this form.", status=403, rule="passkey", remedy="Use a browser that runs this page's script.")
    return Assertion.of({name: form[name] for name in PARTS})


def user_of_passkey(person: Person, credential: str) -> User:
    """A person as a signed-in user; the proof that is kept is the hash of the credential's id."""
    return User(person.id, Role.APPROVER, hashlib.sha256(credential.encode()).hexdigest())


class People:
    """The people who may come to these pages, as the trust policy in force knows them."""

    def __init__(self, organisation: Callable[[], Organisation], origin: str, declared: DeclaredPages | None,
                 clock: Callable[[], float] = time.time) -> None:
        self.origin = origin
        self.party = urlsplit(origin).hostname or ""
        self._organisation = organisation
        self._proxy = declared.proxy if declared is not None else None
        self._clock = clock
        self._asked = Once(clock=clock)
        self._attempts = Attempts()

    # ------------------------------------------------------------------------------------------------------ passkeys

    def users(self, name: str) -> Iterable[User]:
        """One user for each passkey of this person that counts now and was enrolled for these pages."""
        return [user_of_passkey(person, passkey.credential) for person, passkey in self._enrolled() if person.id == name]

    def _enrolled(self) -> list[tuple[Person, Passkey]]:
        now = self.now()
        return [(person, public) for person in self._known() for public in (one.public for one in person.passkeys)
                if public.origin == self.origin and public.valid_from <= now and (public.valid_until is None or now <= public.valid_until)]

    def passkeys_of(self, name: str) -> list[str]:
        """The credentials with which this person can sign on these pages now."""
        return [public.credential for person, public in self._enrolled() if person.id == name]

    def _known(self) -> Sequence[Person]:
        try:
            return self._organisation().people
        except ComplianceError:
            return ()  # a damaged project signs nobody in; what is wrong with it is told to token users

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def question(self) -> str:
        """A sentence to sign in with, once, within minutes."""
        return self._asked.make(f"Sign in to the governance pages at {self.origin}:")

    def answered(self, question: str, form: dict[str, str]) -> User:
        """Who signed the sentence. Refuses a sentence of nobody's or used before, a wrong signature, and too many of them (401, 429)."""
        wait = self._attempts.wait_seconds()
        if wait:
            raise Refused("Too many refused passkeys.", status=429, rule="sign-in attempts", value=str(int(wait) + 1),
                          remedy=f"Wait {int(wait) + 1} seconds.")
        if not self._asked.take(question):
            raise Refused("This sign-in was used before, or is too old.", status=401, rule="one-time challenge", remedy="Sign in again.")
        try:
            assertion = assertion_of(form)
            enrolled = self._enrolled()
            passkey = verify_assertion(question.encode(), assertion, [public for _, public in enrolled], self.now())
        except ComplianceError as error:
            self._attempts.failed()
            raise Refused("This passkey signs nobody in here.", status=401, rule=error.rule, value=error.value[:80],
                          remedy="Enrol it, and have the line approved in organisation.yaml.") from error
        return next(user_of_passkey(person, passkey.credential) for person, public in enrolled if public == passkey)

    # --------------------------------------------------------------------------------------------------------- proxy

    def from_proxy(self, request: Request) -> Session | None:
        """The person whom the trusted proxy names; None where no proxy is declared, or the request does not come from it."""
        if self._proxy is None:
            return None
        named = request.headers.getlist(self._proxy.header)
        if request.client is None or request.client.host not in self._proxy.addresses:
            if named:
                at = request.client.host if request.client else "no address"
                raise Refused("Only the declared proxy may say who is signed in.", status=403, rule="trusted proxy", value=at,
                              remedy="Come through the proxy, or sign in here.")
            return None
        if not named:
            return None
        found = [person for person in self._known() if len(named) == 1 and named[0] and named[0] in (person.id, *person.launchers)]
        if len(found) != 1:
            raise Refused("The proxy names nobody whom organisation.yaml knows.", status=403, rule="trusted proxy", value=f"{named!r:.80}",
                          remedy="Add the name to a person's launchers, and have the change approved.")
        person = found[0]
        role = Role.APPROVER if self.passkeys_of(person.id) else Role.READER
        proof = hashlib.sha256(f"proxy {person.id}".encode()).hexdigest()
        return Session(User(person.id, role, proof), int(self._clock()) + PROXY_SECONDS, f"proxy {person.id}", person.id)
