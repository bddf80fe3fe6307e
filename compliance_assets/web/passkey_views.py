"""The pages and forms on which passkeys are used: deciding about a release, and enrolling a new one.

Every form carries a token of the session that it was shown in, about what it was shown for; a form without it changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import RedirectResponse, Response

from compliance_assets.errors import ComplianceError, Misused
from compliance_assets.pipeline import River
from compliance_assets.policy.rendering import passkey_line
from compliance_assets.trust.dsse import PAYLOAD_TYPE
from compliance_assets.web.desk import Desk, arrived, place_of
from compliance_assets.web.enrolment import made, proved, sentence
from compliance_assets.web.people import People
from compliance_assets.web.rendering import PRIVATE, page
from compliance_assets.web.request_rules import Refused
from compliance_assets.web.sessions import Session, Sessions

Form = Mapping[str, str]
Common = Mapping[str, Any]


@dataclass(frozen=True)
class Asker:
    """Who looks at a page, and what their forms are made with."""

    session: Session | None
    sessions: Sessions
    people: People


@dataclass(frozen=True)
class Visit:
    """Who sends a form, to which project, and what is needed to answer."""

    river: River
    desk: Desk
    people: People
    sessions: Sessions
    session: Session
    common: Common

    def seconds(self, form: Form, *about: str) -> int:
        """How long ago this form was made; refuses one that was not made for this session, about this."""
        seconds = self.sessions.form_seconds(form.get("form", ""), self.session, *about)
        if seconds is None:
            raise Refused("This form was not made for you, or is too old: nothing was done.", status=403, rule="form token", value=about[0],
                          remedy="Open the page again and use its form.")
        return seconds

    def token(self, *about: str) -> str:
        """What the next form must send back."""
        return self.sessions.form_token(self.session, *about)


Action = Callable[[Visit, dict[str, str]], Response]


def deciding(river: River, system: str, shown: Mapping[str, Any], common: Common) -> dict[str, Any]:
    """What the review page needs beside the release: who has decided and is not in the ledger yet, and the form for whoever may sign."""
    asker: Asker = common["asker"]
    session = asker.session
    waiting = [one for one in arrived(river) if one.scope.purpose == "release" and one.scope.system == system]
    place, form, why = None, "", ""
    if session is not None and session.person and shown["commands"]:
        try:
            place = place_of(river, system, session.person, asker.people)
            form = asker.sessions.form_token(session, "decide", system, shown["document_digest"])
        except ComplianceError as error:
            why = str(error)
    return {"arrived": waiting, "place": place, "form": form, "no_place": why}


def _prepare(visit: Visit, form: dict[str, str]) -> Response:
    system = form["system"]
    seconds = visit.seconds(form, "decide", system, form.get("shown", ""))
    statement = visit.desk.prepare(visit.river, system, visit.session, form, seconds)
    return page("sign.html", **visit.common, section="releases", system=system, title=visit.river.definition(system).system.title,
                decision=statement.body.decision, body=statement.body, digest=str(statement.digest), payload=statement.payload().decode(),
                payload_type=PAYLOAD_TYPE, party=visit.people.party, origin=visit.people.origin,
                credentials=json.dumps(visit.people.passkeys_of(visit.session.person)),
                form=visit.token("sign", str(statement.digest)))


def _sign(visit: Visit, form: dict[str, str]) -> Response:
    visit.seconds(form, "sign", form.get("statement", ""))
    _, system = visit.desk.sign(visit.river, visit.session, form)
    return RedirectResponse(f"/systems/{system}/review", status_code=303, headers=PRIVATE)


def enrol(river: River, asked: Mapping[str, str], common: Common) -> Response:
    asker: Asker = common["asker"]
    people, session = asker.people, asker.session
    assert session is not None  # the pages show it to nobody else
    return page("enrol.html", **common, section="", origin=people.origin, party=people.party, organisation=river.organisation.name,
                person=session.person, form=asker.sessions.form_token(session, "enrol"))


def _enrol_check(visit: Visit, form: dict[str, str]) -> Response:
    visit.seconds(form, "enrol")
    person, declared = made(form, visit.people)
    if any(one.credential == declared.credential for known in visit.river.organisation.people for one in known.passkeys):
        raise Misused("This passkey is listed already.", rule="passkey", value=declared.credential[:20], remedy="Enrol another one.")
    return page("enrol_check.html", **visit.common, section="", person=person, declared=declared, sentence=sentence(person, declared),
                party=visit.people.party, origin=visit.people.origin, credentials=json.dumps([declared.credential]),
                form=visit.token("prove"))


def _enrolled(visit: Visit, form: dict[str, str]) -> Response:
    visit.seconds(form, "prove")
    person, declared = proved(form, visit.people)
    line = passkey_line(declared)
    return page("enrolled.html", **visit.common, section="", person=person, line=line, digest=hashlib.sha256(line.encode()).hexdigest())


ACTIONS: tuple[tuple[str, Action], ...] = (
    (r"/systems/(?P<system>[a-z][a-z0-9_]{0,62})/decide", _prepare),
    (r"/decisions", _sign),
    (r"/passkeys", _enrol_check),
    (r"/passkeys/check", _enrolled),
)
"""Every address that takes a form, as a pattern that must fit whole."""
