"""How much a release's definition changed since the one in production: who must approve it follows from that.

The class is computed from the two recorded definitions, never taken from anybody's word; where they cannot be compared, it counts as
the gravest. It is a proposal in one direction only: people may ask for more approvals than it demands, never for fewer (Art. 3(23),
Art. 43(4), Art. 17(1)(a)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.archive import Archive
from compliance_assets.evidence.deployments import desired_state
from compliance_assets.policy.change import changes, class_of
from compliance_assets.policy.change_rules import ChangeClass
from compliance_assets.policy.definition import Definition
from compliance_assets.policy.system import ReleaseClass
from compliance_assets.trust.canonical import Digest, parse_canonical


@dataclass(frozen=True)
class ReleaseChange:
    """The class of a release, and from what to what its definition changed."""

    kind: ReleaseClass
    since: str
    """Digest of the definition in production; empty before anything was."""
    to: str
    note: str

    def as_json(self) -> dict[str, Any]:
        return {"class": self.kind, "since": self.since, "to": self.to, "note": self.note}


def release_change(archive: Archive, definition: Definition, staged: Digest) -> ReleaseChange:
    """The class of the release `staged` under `definition`, against the definition of the version in production there.

    Where the release itself is in production by now, against the one before it: counting the same decisions again is the same approval.
    """
    name, system = definition.system.deployment.environment, definition.system.system
    state = desired_state(name, [record for record in archive.deployments(name) if record.body.system == system])
    production = state.production
    if production is not None and production.staged == staged:
        production = state.rollouts[production.approval].previous
    if production is None:
        return ReleaseChange("FIRST", "", definition.digest, f"nothing of {system} answers in {name}")
    since = production.definition
    if since == definition.digest:
        return ReleaseChange("ROUTINE", since, definition.digest, "the definition is the one in production")
    try:
        before = parse_canonical(archive.artefacts.get_bytes(Digest.parse(since)))
    except ComplianceError as error:
        return ReleaseChange("SUBSTANTIAL", since, definition.digest,
                             f"it cannot be compared, and so counts as the gravest: {error.message}")
    found = changes(before, definition.parts())
    kind: ReleaseClass = class_of(found).value
    gravest = [change for change in found if change.class_.value == kind and kind != ChangeClass.ROUTINE.value]
    note = ", ".join(change.where for change in gravest[:5]) or f"{len(found)} harmless changes"
    return ReleaseChange(kind, since, definition.digest, note)
