"""Legal holds: while somebody's hold on a system stands, nothing of its evidence may be deleted by any command of ours.

One person may set a hold at once; it takes the people who approve definitions to release it, so that nobody who must not be stopped can
be stopped, and nobody alone lets evidence go. A hold overrides every retention period (Art. 73(6): nothing that explains an incident is
lost; the quorum is this project's own).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compliance_assets.errors import OutOfTurn
from compliance_assets.evidence.archive import Archive, Record, quorum
from compliance_assets.evidence.decisions import taken_back
from compliance_assets.trust.canonical import Digest, digest_of


@dataclass(frozen=True)
class Hold:
    """One hold. `released`: the decisions that ended it; empty while it stands."""

    record: Record
    released: tuple[Record, ...]

    @property
    def id(self) -> Digest:
        return self.record.digest

    def as_json(self) -> dict[str, Any]:
        body = self.record.body
        return {"hold": str(self.id), "system": body.scope.system, "set_by": body.person, "role": body.role, "at": body.issued,
                "reason": body.rationale, "stands": not self.released, "released_by": [one.body.person for one in self.released]}


def subject_of(system: str) -> Digest:
    """What a person signs who sets a hold: everything about this system."""
    return digest_of({"legal-hold": system})


def holds_of(archive: Archive, system: str) -> tuple[Hold, ...]:
    """Every hold that was ever set on a system, oldest first. One is released by people's rejection of exactly that decision, and stands
    again where one of them takes that back."""
    wanted = archive.in_force().definitions.approved_by
    found: list[Hold] = []
    for record in archive.decisions_on(subject_of(system), "legal-hold"):
        if record.body.decision != "approve" or record.body.scope.purpose != "legal-hold":
            continue
        said = [one for one in archive.decisions_on(record.digest, "legal-hold") if one.body.scope.purpose == "legal-hold"]
        revoked = taken_back(said)
        against = [one for one in said if one.body.decision == "reject" and one.digest not in revoked]
        people = {one.body.person: one.body.role for one in against}
        found.append(Hold(record, tuple(against) if quorum(people, wanted) else ()))
    return tuple(found)


def require_free(archive: Archive, system: str, what: str) -> None:
    """Refuse to delete anything of a system that is held."""
    standing = [hold for hold in holds_of(archive, system) if not hold.released]
    if standing:
        body = standing[0].record.body
        raise OutOfTurn(f"{what} cannot be deleted: {body.person} holds all evidence of {system} since {body.issued} ({body.rationale}).",
                        rule="legal hold", value=standing[0].id,
                        remedy=f"Those who approve definitions release it: `compliance hold release {system} {standing[0].id.short} …`.")
