"""The pages and forms on which passkeys are used: deciding about a release, approving a definition, answering an alert, and
enrolling a new passkey.

Every form carries a token of the session that it was shown in, about what it was shown for; a form without it changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import RedirectResponse, Response

from compliance_assets.errors import ComplianceError, Misused
from compliance_assets.evidence.alerts import Alert
from compliance_assets.evidence.records import Statement
from compliance_assets.pipeline import River
from compliance_assets.policy.rendering import passkey_line
from compliance_assets.trust.dsse import PAYLOAD_TYPE
from compliance_assets.web import desk_alerts, desk_definitions, desk_releases
from compliance_assets.web.desk import Desk, Sheet, arrived
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
    waiting = [one.body for one in arrived(river, "release", system)]
    place, form, why = None, "", ""
    if session is not None and session.person and shown["commands"]:
        try:
            place = desk_releases.place_of(river, system, session.person, asker.people)
            form = asker.sessions.form_token(session, "decide", system, shown["document_digest"])
        except ComplianceError as error:
            why = str(error)
    return {"arrived": waiting, "place": place, "form": form, "no_place": why}


def answering(river: River, alerts: Sequence[Alert], common: Common) -> dict[int, dict[str, Any]]:
    """The forms of the page Alerts for whoever may sign, by the entry that opened the alert."""
    asker: Asker = common["asker"]
    session = asker.session
    if session is None or not session.person or not asker.people.passkeys_of(session.person):
        return {}
    waiting = {system: arrived(river, "alert", system) for system in {one.opened.body.system for one in alerts}}
    return {one.opened.index: {**desk_alerts.place_at(river, one, session.person, waiting[one.opened.body.system]),
                               "form": asker.sessions.form_token(session, "alert", str(one.opened.index))} for one in alerts}


def approving(river: River, system: str, common: Common) -> dict[str, Any] | None:
    """The form with which the signed-in person approves a definition (`system`: empty for organisation.yaml); None for anybody else."""
    asker: Asker = common["asker"]
    session = asker.session
    if session is None or not session.person or not asker.people.passkeys_of(session.person):
        return None
    place = (desk_definitions.definition_place(river, system, session.person) if system
             else desk_definitions.trust_policy_place(river, session.person))
    return {**place, "person": session.person, "action": f"/definitions/{system}/approve" if system else "/definitions/approve",
            "form": asker.sessions.form_token(session, "definition", system, place["shown"])}


def _require_person(visit: Visit) -> None:
    if not visit.session.person:
        raise Refused("Only a person who signed in with a passkey decides here.", status=403, rule="approver",
                      value=visit.session.user.role.value, remedy="Sign in with your passkey, or use your SSH key on the command line.")


def _put_before(visit: Visit, statement: Statement, sheet: Sheet) -> Response:
    """The page on which this statement is signed; it waits at the desk."""
    visit.desk.keep(visit.session, statement, sheet.back)
    return page("sign.html", **visit.common, section="", sheet=sheet, body=statement.body, digest=str(statement.digest),
                payload=statement.payload().decode(), payload_type=PAYLOAD_TYPE, party=visit.people.party, origin=visit.people.origin,
                credentials=json.dumps(visit.people.passkeys_of(visit.session.person)),
                form=visit.token("sign", str(statement.digest)))


def _decide(visit: Visit, form: dict[str, str]) -> Response:
    system = form["system"]
    seconds = visit.seconds(form, "decide", system, form.get("shown", ""))
    _require_person(visit)
    statement = desk_releases.release_decision(visit.river, system, visit.session, visit.people, form, seconds)
    return _put_before(visit, statement, desk_releases.sheet_of(visit.river, statement))


def _answer(visit: Visit, form: dict[str, str]) -> Response:
    seconds = visit.seconds(form, "alert", form["index"])
    _require_person(visit)
    statement = desk_alerts.alert_answer(visit.river, int(form["index"]), visit.session, visit.people, form, seconds)
    return _put_before(visit, statement, desk_alerts.sheet_of(visit.river, statement))


def _approve(visit: Visit, form: dict[str, str]) -> Response:
    system = form["system"] if "system" in form else ""
    seconds = visit.seconds(form, "definition", system, form.get("shown", ""))
    _require_person(visit)
    statement = desk_definitions.approval(visit.river, system, visit.session, visit.people, form, seconds)
    return _put_before(visit, statement, desk_definitions.sheet_of(visit.river, statement))


def _approve_policy(visit: Visit, form: dict[str, str]) -> Response:
    return _approve(visit, {name: value for name, value in form.items() if name != "system"})


def _sign(visit: Visit, form: dict[str, str]) -> Response:
    visit.seconds(form, "sign", form.get("statement", ""))
    return RedirectResponse(visit.desk.sign(visit.river, visit.session, form), status_code=303, headers=PRIVATE)


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


ACTIONS: tuple[tuple[str, Action, str], ...] = (
    (r"/systems/(?P<system>[a-z][a-z0-9_]{0,62})/decide", _decide, "/systems/{system}/review"),
    (r"/alerts/(?P<index>[0-9]{1,12})/answer", _answer, desk_alerts.PAGE),
    (r"/definitions/approve", _approve_policy, desk_definitions.PAGE),
    (r"/definitions/(?P<system>[a-z][a-z0-9_]{0,62})/approve", _approve, "/definitions/{system}"),
    (r"/decisions", _sign, ""),
    (r"/passkeys", _enrol_check, ""),
    (r"/passkeys/check", _enrolled, ""),
)
"""Every address that takes a form, as a pattern that must fit whole; and the page on which the form is shown again, with what was written
in it, where it is refused."""
