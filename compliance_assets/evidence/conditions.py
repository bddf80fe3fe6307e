"""Approvals given under a condition: what must be met by which day, and who has signed that it is.

A condition that is not met on its day makes its approval count no longer: nothing is deployed on it, and a rollout under way ends. That it
is met is said by a person with their own key: whoever set it, or somebody else in the same role; never by a machine, and never silently
(Art. 17(1)(a), (m); the rule is this project's own).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from compliance_assets.evidence.archive import Archive, Record
from compliance_assets.evidence.decisions import taken_back
from compliance_assets.trust.canonical import Digest, digest_of


@dataclass(frozen=True)
class Condition:
    """One condition of one approval. `met`: the decision that says so, if there is one that counts."""

    approval: Record
    text: str
    due: str
    met: Record | None

    @property
    def id(self) -> Digest:
        return condition_id(self.approval.digest, self.text)

    def overdue(self, now: datetime) -> bool:
        """Whether its day is over and nobody who may has said that it is met."""
        return self.met is None and now >= end_of(self.due)

    def as_json(self) -> dict[str, Any]:
        return {"condition": str(self.id), "text": self.text, "due": self.due, "person": self.approval.body.person,
                "role": self.approval.body.role, "met_by": self.met.body.person if self.met is not None else ""}


def condition_id(approval: Digest, text: str) -> Digest:
    """The digest under which a condition is met: of the approval that set it, and its words."""
    return digest_of({"approval": approval, "condition": text})


def end_of(day: str) -> datetime:
    """The moment at which a day is over, UTC. A condition without a day is due at once."""
    if not day:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) + timedelta(days=1)


def conditions_of(archive: Archive, approvals: Iterable[Record]) -> tuple[Condition, ...]:
    """Every condition of these decisions, in order."""
    return tuple(Condition(record, text, record.body.due, _met(archive, record, text))
                 for record in approvals if record.body.decision == "approve" for text in record.body.conditions)


def overdue(archive: Archive, approval: Record, now: datetime) -> str:
    """Why an approval counts no longer: its first condition that was not met on its day; empty if there is none."""
    late = [one for one in conditions_of(archive, [approval]) if one.overdue(now)]
    return f"its condition was due {late[0].due or 'at once'} and is not met: {late[0].text}" if late else ""


def _met(archive: Archive, approval: Record, text: str) -> Record | None:
    said = archive.decisions_on(condition_id(approval.digest, text), "condition")
    revoked = taken_back(said)
    for record in said:
        body = record.body
        if (body.decision == "approve" and body.scope.purpose == "condition" and record.digest not in revoked
                and (body.person == approval.body.person or body.role == approval.body.role)):
            return record
    return None
