"""Alerts in the ledger: opened by the rules, acknowledged and closed by people with a reason. Nothing is ever taken out.

The same alert is not opened twice while it is open; a closed one opens again on newer evidence only. What cannot be written, because the
ledger itself does not verify, is still told to people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from compliance_assets.errors import ComplianceError, Misused
from compliance_assets.evidence import records
from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.records import Statement
from compliance_assets.governance.alerts.rules import Found, trends
from compliance_assets.governance.dashboard.history import history_of
from compliance_assets.governance.verification import verify
from compliance_assets.pipeline import River
from compliance_assets.trust.canonical import digest_of, rfc3339

SHORTEST_REASON = 20
LOOKED = "the rules"


@dataclass(frozen=True)
class Standing:
    """One alert: the record that opened it, and those of what people did, if they did."""

    opened: Record
    acknowledged: Record | None
    closed: Record | None

    @property
    def state(self) -> str:
        return "closed" if self.closed else "acknowledged" if self.acknowledged else "open"

    def as_json(self) -> dict[str, Any]:
        body = self.opened.body
        return {"rule": body.rule, "system": body.system, "about": body.about, "state": self.state, "said": body.said,
                "window": body.window, "n": body.n, "statistic": dict(body.statistic), "owner": body.owner,
                "ledger_index": self.opened.index,
                "statement": str(self.opened.digest), "newest_entry": body.newest,
                "opened": body.at, **{name: {"at": one.body.at, "by": one.body.by, "reason": one.body.reason, "ledger_index": one.index}
                                      if one else None for name, one in (("acknowledged", self.acknowledged), ("closed", self.closed))}}


def alerts_of(river: River, system: str) -> tuple[Standing, ...]:
    """Every alert of a system, newest first."""
    found = river.archive.of_kind("alert", system)
    done: dict[tuple[str, str], Record] = {}
    for record in found:
        if record.body.event != "opened":
            done.setdefault((record.body.original, record.body.event), record)
    return tuple(Standing(one, done.get((str(one.digest), "acknowledged")), done.get((str(one.digest), "closed")))
                 for one in reversed(found) if one.body.event == "opened")


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
        same = [one for one in alerts_of(river, system) if (one.opened.body.rule, one.opened.body.about) == (found.rule, found.about)]
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


def answer(river: River, index: int, event: Literal["acknowledged", "closed"], by: str, reason: str) -> Record:
    """Record that a person acknowledged or closed an alert, and why. The name is given, not signed: the record says who said so."""
    person = river.archive.in_force().person(by)
    if len(reason.strip()) < SHORTEST_REASON:
        raise Misused(f"A reason of at least {SHORTEST_REASON} characters belongs to it.", rule="reason", value=reason,
                      remedy="Say what was looked at, and what was done.")
    with river.home.lock("alerts", wait=True):
        if index >= river.archive.ledger.size:
            raise _no_alert(index)
        opened = river.archive.authentic(river.archive.ledger.entry(index))
        if not isinstance(opened.body, records.Alert) or opened.body.event != "opened":
            raise _no_alert(index)
        now = next(one for one in alerts_of(river, opened.body.system) if one.opened.index == index)
        if now.closed or (event == "acknowledged" and now.acknowledged):
            raise Misused(f"Alert {index} is {now.state} already.", rule="alerts", value=now.state, remedy="Nothing was recorded.")
        body = opened.body.model_copy(update={"event": event, "original": str(opened.digest), "by": person.id, "reason": reason.strip(),
                                              "at": rfc3339(river.now())})
        return river.archive.append(Statement(opened.statement.subjects, body))


def _no_alert(index: int) -> Misused:
    return Misused(f"Ledger entry {index} opens no alert.", rule="alerts", value=str(index), remedy="Take one from `compliance alerts`.")
