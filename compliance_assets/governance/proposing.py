"""A definition, or a new organisation.yaml, is put on record so that people can approve exactly it."""

from __future__ import annotations

from compliance_assets.evidence.archive import Record, propose_trust_policy
from compliance_assets.evidence.records import DefinitionProposed, Statement
from compliance_assets.evidence.surroundings import working_tree
from compliance_assets.pipeline import River
from compliance_assets.trust.canonical import canonical_json, rfc3339


def propose_definition(river: River, system: str, proposed_by: str) -> Record:
    """Keep the whole definition as it stands, and say that it was proposed. The same one is not proposed twice."""
    definition = river.definition(system)
    known = river.archive.find(definition.digest, "subject:definition")
    proposals = [record for record in known if isinstance(record.body, DefinitionProposed)]
    if proposals:
        return proposals[-1]
    parts = river.archive.artefacts.put_bytes(canonical_json(definition.parts()))
    declaration, *_ = [river.archive.artefacts.put_file(path) for path in definition.covered]
    body = DefinitionProposed(system=system, parts=parts, declaration=declaration, previous=river.archive.definition_in_force(system) or "",
                              proposed_by=proposed_by, code=working_tree(river.root, definition.covered, proposed_by),
                              at=rfc3339(river.now()))
    return river.archive.append(Statement((("definition", definition.digest),), body))


def propose_organisation(river: River) -> Record | None:
    """Put organisation.yaml as it stands into the ledger, if it is not there; it counts once people approve it."""
    known = [entry for entry in river.archive.ledger.by_subject(river.organisation.digest, "subject:trust-policy")
             if entry.kind == "trust-policy"]
    if known:
        return None
    previous = river.archive.reigns()[-1][1]
    return propose_trust_policy(river.archive, river.organisation, previous.digest, river.now())
