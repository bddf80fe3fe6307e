"""The forms of the page *Alerts*: who may answer which alert here, and what they sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from compliance_assets.errors import Misused
from compliance_assets.evidence.alert_answers import ANSWERS
from compliance_assets.evidence.alerts import Alert
from compliance_assets.evidence.records import Statement
from compliance_assets.governance.alerts.keeping import Answer, alert_at, answer_statement, may_answer
from compliance_assets.pipeline import River
from compliance_assets.web.desk import Sheet, arrived, require_signer
from compliance_assets.web.people import People
from compliance_assets.web.sessions import Session

PAGE = "/alerts"
SAID = {"acknowledged": ("You acknowledge", "warn"), "closed": ("You close", "pass")}


def place_at(river: River, alert: Alert, person_id: str, waiting: Sequence[Statement]) -> dict[str, Any]:
    """What this person can do about an alert: in which roles, and whether their answer is among those that wait in the inbox."""
    roles = [role for role in river.archive.in_force().person(person_id).roles if role in may_answer(river, alert)]
    waits = any(one.body.person == person_id and one.subjects[0][1] == alert.opened.digest for one in waiting)
    return {"roles": roles, "barred": "your answer has arrived, and waits to be taken into the ledger" if waits else ""}


def alert_answer(river: River, index: int, session: Session, people: People, form: Mapping[str, str], seconds: int) -> Statement:
    """The statement that follows from the form; `seconds`: how long the page was open."""
    event, role = (form.get(name, "").strip() for name in ("event", "role"))
    if event not in get_args(Answer):
        raise Misused("Say whether you acknowledge or close it.", rule="alerts", value=event[:40], remedy="Choose one.")
    river.archive.require_trust_policy()
    alert = alert_at(river, index)
    barred = place_at(river, alert, session.person, arrived(river, "alert", alert.opened.body.system))["barred"]
    if barred:
        raise Misused(f"Nothing more is asked of you: {barred}.", rule="one decision at a time", value=session.person,
                      remedy="Wait until it is in the ledger; take it back with `compliance revoke`.")
    require_signer(river, people, session, role)
    return answer_statement(river, index, event, session.person, role, form.get("reason", ""),  # type: ignore[arg-type]
                            opened_seconds=seconds)


def sheet_of(river: River, statement: Statement) -> Sheet:
    """How the statement is put before whoever signs it."""
    (name, digest), = statement.subjects
    opened = river.archive.find(digest, "statement")[-1]
    event, about = ANSWERS[name], opened.body
    begins, tone = SAID[event]
    after = "It opens again only on newer evidence." if event == "closed" else "It stays on the list until somebody closes it."
    role = statement.body.role.replace("_", " ")
    return Sheet(PAGE, "Alerts", f"{begins.removeprefix('You ').capitalize()} this alert?", tone, begins,
                 f"alert {about.rule} about {about.about} (ledger entry {opened.index}), as {role}. {after}",
                 (("What the data say", about.said), ("Opened", about.at)))
