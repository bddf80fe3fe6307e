"""What changed in a system's definition, against what, and whether people have approved it.

Definitions come from the ledger and the artefact store, each held against its digest; `policy.change` compares them. Compared
with the one in force, with the one in production, and with the one first deployed (the baseline), so that many small changes do
not add up unseen (Art. 17(1)(a), Art. 3(23)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from compliance_assets.errors import ComplianceError, Misused, UntrustedEvidence
from compliance_assets.evidence.archive import Archive, check_decision, quorum
from compliance_assets.evidence.deployments import desired_state
from compliance_assets.evidence.records import Decision, DefinitionProposed, Statement
from compliance_assets.pipeline import River
from compliance_assets.policy.change import Change, changes, class_of, direction_of, review_of
from compliance_assets.policy.organisation import Organisation
from compliance_assets.trust.canonical import Digest, digest_of, parse_canonical, parse_rfc3339
from compliance_assets.trust.signatures import Envelope

NAMES = ("in-force", "production", "baseline", "files")
"""How a definition can be called besides its digest."""


@dataclass(frozen=True)
class Comparison:
    """Two definitions of a system and what differs. True if there is nothing that people must approve."""

    system: str
    before: Digest
    after: Digest
    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return not self.to_approve

    @property
    def to_approve(self) -> tuple[Change, ...]:
        """The changes that people must approve."""
        return tuple(change for change in self.changes if change.must_be_approved)

    def as_json(self) -> dict[str, Any]:
        return {"system": self.system, "from": self.before, "to": self.after, "direction": direction_of(self.changes),
                "class": class_of(self.changes).value, "review": list(review_of(self.changes)),
                "changes": [change.as_json() for change in self.changes]}


def definition_parts(archive: Archive, digest: Digest) -> Mapping[str, Any]:
    """The definition that has this digest, whole, as it was proposed. Refuses one that was never put on record."""
    _proposal(archive, digest)
    # The canonical bytes of a definition's parts have its own digest: reading them checks it.
    found: Mapping[str, Any] = parse_canonical(archive.artefacts.get_bytes(digest))
    return found


def declaration_text(archive: Archive, digest: Digest) -> str:
    """system.yaml of that definition, byte for byte, comments and all."""
    return archive.artefacts.get_bytes(Digest.parse(_proposal(archive, digest).declaration)).decode("utf-8")


def _proposal(archive: Archive, digest: Digest) -> DefinitionProposed:
    proposals = archive.proposals(digest)
    if not proposals:
        raise Misused(f"No definition {digest.short} was ever put on record.", rule="definition", value=digest,
                      remedy="Those that were: `compliance trace`, or `compliance definition show --as-of DATE`.")
    body: DefinitionProposed = proposals[-1].body
    if body.parts != digest:
        raise UntrustedEvidence(f"The record of definition {digest.short} names other parts ({body.parts[:12]}).", rule="definition",
                                value=body.parts, remedy="The ledger has been tampered with: `compliance verify`.")
    return body


def named(river: River, system: str, name: str) -> Digest:
    """The definition that `name` means: one of `NAMES`, a digest, or its beginning."""
    archive = river.archive
    if name == "files":
        return river.definition(system).digest
    found: str | None
    if name == "in-force":
        found = archive.definition_in_force(system)
    elif name in ("production", "baseline"):
        found = _deployed(river, system, name)
    else:
        known = {entry.index: archive.authentic(entry) for entry in archive.ledger.by_kind("definition", system)}
        matching = {str(record.statement.subject("definition")) for record in known.values()
                    if str(record.statement.subject("definition")).startswith(name)}
        found = matching.pop() if len(matching) == 1 else None
    if not found:
        raise Misused(f"No definition of {system} is called {name}.", rule="definition", value=name,
                      remedy=f"Give {', '.join(NAMES)}, or the first digits of one that was put on record.")
    return Digest.parse(found)


def _deployed(river: River, system: str, name: str) -> str | None:
    environment = river.definition(system).system.deployment.environment
    steps = river.archive.steps(environment, system)
    if name == "baseline":
        return next((one.body.definition for one in steps if one.body.action == "full_rollout"), None)
    production = desired_state(environment, steps).production
    return production.definition if production is not None else None


def compare(river: River, system: str, before: str = "in-force", after: str = "files") -> Comparison:
    """What changed between two definitions of a system; each a name of `NAMES` or a digest."""
    old, new = named(river, system, before), named(river, system, after)
    here = river.definition(system)

    def parts(digest: Digest) -> Mapping[str, Any]:
        return here.parts() if digest == here.digest else definition_parts(river.archive, digest)

    return Comparison(system, old, new, changes(parts(old), parts(new)))


def as_of(archive: Archive, system: str, moment: datetime) -> Digest | None:
    """The definition in force at a moment: by the machines' signed times in the ledger, not by what a decision claims."""
    size = archive.ledger.size
    for record in archive.entries():
        at = getattr(record.body, "finished", None) or getattr(record.body, "at", None)
        if at is not None and parse_rfc3339(at) > moment:
            size = record.index
            break
    return archive.definition_in_force(system, before=size)


def since_production(river: River, system: str) -> dict[str, Any]:
    """For the review: what differs from the definition in production and from the one first deployed. Deterministic."""
    said: dict[str, Any] = {}
    for name in ("production", "baseline"):
        if _deployed(river, system, name) is None:
            said[name] = None
            continue
        try:
            here = river.definition(system).digest
            said[name] = river.archive.derived(("since", name, system, here), partial(_compared, river, system, name))
        except ComplianceError as error:
            # The reviewer must see that it could not be compared; silence would read as "nothing changed".
            said[name] = {"not_compared": str(error)}
    return said


def _compared(river: River, system: str, name: str) -> dict[str, Any]:
    return compare(river, system, name).as_json()


# ------------------------------------------------------------------------------------------------------------- approval


def approved_in(folder: Path, system: str, digest: Digest, organisation: Organisation) -> tuple[bool, tuple[tuple[str, str], ...]]:
    """Whether the signed decisions in a folder approve this definition, and what did not count with the reason.

    For a check without a home (somebody's own CI): the same envelopes that the inbox takes, verified the same way. Each person
    counts once; any rejection or revocation by somebody who may decide ends it.
    """
    people: dict[str, str] = {}
    refused: list[tuple[str, str]] = []
    no = False
    for path in sorted(folder.glob("*.json")):
        try:
            envelope = Envelope.from_bytes(path.read_bytes())
            statement = Statement.read(envelope.payload)
            check_decision(envelope, statement, organisation)
        except ComplianceError as error:
            refused.append((path.name, str(error)))
            continue
        body: Decision = statement.body
        if (body.scope.purpose, body.scope.system) != ("definition", system) or statement.subject("definition") != digest:
            refused.append((path.name, "it is about something else"))
        elif body.decision == "approve":
            people[body.person] = body.role
        else:
            no = no or body.decision in ("reject", "revoke")
            refused.append((path.name, f"{body.person} said {body.decision}"))
    return not no and quorum(people, organisation.definitions.approved_by), tuple(refused)


def shown_to_approver(parts: Mapping[str, Any], comparison: Comparison | None) -> dict[str, Any]:
    """What a person sees before they approve a definition: all of it, and what it changes."""
    return {"definition": parts, "digest": digest_of(dict(parts)), "compared": comparison.as_json() if comparison is not None else None}

