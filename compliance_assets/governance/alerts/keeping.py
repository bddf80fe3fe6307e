"""Alerts in the ledger: opened by the rules, acknowledged and closed by people with their own keys. Nothing is ever taken out.

The same alert is not opened twice while it is open; a closed one opens again on newer evidence only. What cannot be written, because the
ledger itself does not verify, is still told to people.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Literal

from compliance_assets.errors import ComplianceError, Misused
from compliance_assets.evidence import records
from compliance_assets.evidence.alerts import Alert, alerts_of, answer_subject, shown_of
from compliance_assets.evidence.records import Decision, Scope, Statement
from compliance_assets.governance.alerts.rules import Found, trends
from compliance_assets.governance.dashboard.history import history_of
from compliance_assets.governance.deciding import require_reason
from compliance_assets.governance.verification import verify
from compliance_assets.pipeline import River
from compliance_assets.trust.canonical import canonical_json, digest_of, rfc3339

Answer = Literal["acknowledged", "closed"]
LOOKED = "the rules"


def look(river: River, system: str, *, thorough: bool) -> tuple[dict[str, object], ...]:
    """Ask the rules, put what is new into the ledger, and return it as it is to be sent. `thorough`: verify everything too (T7)."""
    problems: Sequence[str] = verify(river.archive).problems if thorough else ()
    try:
        found = trends(history_of(river, system), problems, river.archive.ledger.size)
    except ComplianceError as error:
        found = trends_of_nothing(str(error))
    with river.home.lock("alerts", wait=True):
        return tuple(_open(river, system, one) for one in found if not _is_known(river, system, one))


def trends_of_nothing(problem: str) -> tuple[Found, ...]:
    """Where not even the history can be read, that is the alert."""
    return (Found("T7", "integrity", problem[:500], "everything on record", 0, {"problems": "1"}, 0),)


def _is_known(river: River, system: str, found: Found) -> bool:
    try:
        same = [one for one in alerts_of(river.archive, system)
                if (one.opened.body.rule, one.opened.body.about) == (found.rule, found.about)]
    except ComplianceError:
        return False
    return any(one.closed is None or one.closed.index >= found.newest for one in same)


def _open(river: River, system: str, found: Found) -> dict[str, object]:
    told: dict[str, object] = {"event": "trend_alert", "system": system, "rule": found.rule, "about": found.about,
                               "said": f"{found.rule} {found.about}: {found.said}", "window": found.window, "n": found.n, **found.statistic}
    try:
        owner = _owner(river, system, found.rule)
        body = records.Alert(system=system, rule=found.rule, about=found.about, event="opened", said=found.said, window=found.window,
                             n=found.n, statistic=found.statistic, owner=owner, newest=found.newest, by=LOOKED, at=rfc3339(river.now()),
                             demonstration=river.organisation.demonstration)
        subject = digest_of([system, found.rule, found.about, found.newest])
        record = river.archive.append(Statement((("alert", subject),), body))
    except (ComplianceError, OSError) as error:
        return {**told, "not_recorded": str(error)}
    return {**told, "owner": owner, "ledger_index": record.index}


def _owner(river: River, system: str, rule: str) -> str:
    """Who answers: for a release's trends the roles that approve it, for the organisation's those that approve definitions."""
    of_all = rule in ("T4", "T5", "T7")
    asked = river.archive.in_force().definitions.approved_by if of_all else river.definition(system).system.approval.requires
    return ", ".join(dict.fromkeys(need.role for need in asked))


def alert_at(river: River, index: int) -> Alert:
    """The alert that ledger entry `index` opened. Misused where it opens none."""
    if index < river.archive.ledger.size:
        opened = river.archive.authentic(river.archive.ledger.entry(index))
        if isinstance(opened.body, records.Alert) and opened.body.event == "opened":
            return next(one for one in alerts_of(river.archive, opened.body.system) if one.opened.index == index)
    raise Misused(f"Ledger entry {index} opens no alert.", rule="alerts", value=str(index), remedy="Take one from `compliance alerts`.")


def may_answer(river: River, alert: Alert) -> frozenset[str]:
    """The roles that may answer it: those that own it, and those that approve definitions."""
    return alert.owners | {need.role for need in river.archive.in_force().definitions.approved_by}


def answer_statement(river: River, index: int, event: Answer, person: str, role: str, reason: str, *, opened_seconds: int) -> Statement:
    """What a person signs who acknowledges or closes the alert that ledger entry `index` opened, with whatever they sign."""
    require_reason(reason)
    alert = alert_at(river, index)
    if alert.closed or (event == "acknowledged" and alert.acknowledged):
        raise Misused(f"Alert {index} is {alert.state} already.", rule="alerts", value=alert.state, remedy="Nothing was signed.")
    roles = may_answer(river, alert)
    if role not in roles:
        raise Misused(f"Alert {index} is answered by {', '.join(sorted(roles))}, not by {role}.", rule="owner", value=role,
                      remedy="Have somebody of those roles answer it.")
    opened = alert.opened.body
    body = Decision(
        decision="approve", person=person, role=role, scope=Scope(purpose="alert", system=opened.system, environment="", rollout=""),
        issued=rfc3339(river.now()), expires="", definition="", trust_policy=river.organisation.digest, ledger=river.archive.head(),
        shown=river.archive.artefacts.put_bytes(canonical_json(shown_of(alert.opened))), opened_seconds=opened_seconds,
        rationale=reason.strip(), nonce=secrets.token_hex(16), demonstration=river.organisation.demonstration)
    return Statement((answer_subject(event, alert.opened),), body)
