"""The alerts of a system as the ledger says them: each opened by a rule, acknowledged and closed by people with their own keys.

What a machine's key wrote as an answer counts for nothing: a name that a machine writes is no signature.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from compliance_assets.evidence.alert_answers import OpenedAlert, SignedAnswer, answers_counted, shown_alert
from compliance_assets.evidence.archive import Archive, Record
from compliance_assets.trust.canonical import Digest, digest_of


@dataclass(frozen=True)
class Alert:
    """One alert: the record that opened it, and what people signed about it, if they did."""

    opened: Record
    acknowledged: Record | None
    closed: Record | None

    @property
    def state(self) -> str:
        return "closed" if self.closed else "acknowledged" if self.acknowledged else "open"

    @property
    def owners(self) -> frozenset[str]:
        """The roles that answer for it."""
        return owners_of(self.opened)

    def as_json(self) -> dict[str, Any]:
        body = self.opened.body
        return {"rule": body.rule, "system": body.system, "about": body.about, "state": self.state, "said": body.said,
                "window": body.window, "n": body.n, "statistic": dict(body.statistic), "owner": body.owner,
                "ledger_index": self.opened.index,
                "statement": str(self.opened.digest), "newest_entry": body.newest,
                "opened": body.at, **{name: {"at": one.body.issued, "by": one.body.person, "role": one.body.role,
                                             "reason": one.body.rationale, "ledger_index": one.index, "statement": str(one.digest)}
                                      if one else None for name, one in (("acknowledged", self.acknowledged), ("closed", self.closed))}}


def owners_of(opened: Record) -> frozenset[str]:
    return frozenset(opened.body.owner.split(", "))


def shown_of(opened: Record) -> dict[str, Any]:
    """What a person is shown who answers this alert."""
    return shown_alert(opened.index, str(opened.digest), opened.body.model_dump(mode="json"))


def alerts_of(archive: Archive, system: str) -> tuple[Alert, ...]:
    """Every alert of a system, newest first."""
    return _read(archive, system)[0]


def not_counted(archive: Archive, system: str) -> tuple[tuple[Record, str], ...]:
    """Answers on record that do not count, each with the reason, oldest first."""
    return _read(archive, system)[1]


def alerts_at(archive: Archive, system: str, as_of: datetime) -> tuple[Alert, ...]:
    """As `alerts_of`, from what had been opened and signed by then."""
    every, signed = _alerts(archive, system), archive.decided("alert", system)
    opened, said = ([one for one in found if one.moment <= as_of] for found in (every, signed))
    if (len(opened), len(said)) == (len(every), len(signed)):
        return alerts_of(archive, system)
    return _counted(archive, opened, said)[0]


def _read(archive: Archive, system: str) -> tuple[tuple[Alert, ...], tuple[tuple[Record, str], ...]]:
    return archive.derived(("alerts", system), lambda: _counted(archive, _alerts(archive, system), archive.decided("alert", system)))


def _alerts(archive: Archive, system: str) -> tuple[Record, ...]:
    return archive.of_kind("alert", system)


def _counted(archive: Archive, found: Iterable[Record],
             said: Iterable[Record]) -> tuple[tuple[Alert, ...], tuple[tuple[Record, str], ...]]:
    records = list(found)
    opened = [one for one in records if one.body.event == "opened"]
    decisions = {str(one.digest): one for one in said}
    counted, refused = answers_counted(
        [OpenedAlert(one.index, str(one.digest), owners_of(one), str(digest_of(shown_of(one)))) for one in opened],
        [_signed(archive, one) for one in decisions.values()])
    kept = {key: decisions[one.digest] for key, one in counted.items()}
    alerts = tuple(Alert(one, kept.get((str(one.digest), "acknowledged")), kept.get((str(one.digest), "closed")))
                   for one in reversed(opened))
    by_machines = [(one, "a machine wrote it: no person signed it") for one in records if one.body.event != "opened"]
    return alerts, tuple(sorted([*by_machines, *((decisions[one.digest], why) for one, why in refused)], key=lambda one: one[0].index))


def _signed(archive: Archive, record: Record) -> SignedAnswer:
    body = record.body
    governing = frozenset(need.role for need in archive.policy_at(record.index).definitions.approved_by)
    return SignedAnswer(record.index, str(record.digest), tuple((name, str(digest)) for name, digest in record.statement.subjects),
                        body.decision, body.person, body.role, body.shown, body.revokes, governing)


def answer_subject(event: str, opened: Record) -> tuple[str, Digest]:
    """What is signed by whoever acknowledges or closes this alert."""
    return f"alert-{event}", opened.digest
