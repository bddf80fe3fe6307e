"""One artefact as evidence: which records name it, in which role, and, where it is a report and not data about people, its content.

Data sets, features, scores and models are named here and never shown: rows may describe people (Art. 10, GDPR Art. 5(1)(c)).
"""

from __future__ import annotations

import json
from typing import Any

from compliance_assets.errors import ArtefactCorrupt, Misused
from compliance_assets.evidence.archive import Record
from compliance_assets.governance.ledger_view import line
from compliance_assets.pipeline import River
from compliance_assets.policy.river import rule_named
from compliance_assets.trust.canonical import Digest

LARGEST = 512 * 1024
READABLE = frozenset({"dataset/quality_report.json", "features/report.json", "model/training_record.json", "evaluation/report.json",
                      "integration/definition_snapshot.json", "metadata"})
"""Names under which stages file what is about a whole, not about a person."""


def shown_artefact(river: River, digest: Digest) -> dict[str, Any]:
    """What records say about these bytes. Misused where no record names them."""
    named = _named(river, digest)
    if not named:
        raise Misused("No record in the ledger names this digest.", rule="artefact", value=digest, remedy="Follow a link from a record.")
    readable = [role for _, role in named if role in READABLE or role.startswith(("output", "shown", "the definition", "its log"))]
    body: str | None = None
    problem, size = "", None
    try:
        content = river.archive.artefacts.get_bytes(digest)
        size = len(content)
        body = _text(content) if readable and size <= LARGEST else None
    except ArtefactCorrupt as error:
        problem = str(error)
    return {"digest": digest, "named": [(line(record), role) for record, role in named], "size": size, "body": body, "problem": problem,
            "readable": bool(readable), "traceable": any(role.startswith("output") or "/" in role for _, role in named)}


def _named(river: River, digest: Digest) -> list[tuple[Record, str]]:
    archive = river.archive
    found = [(record, f"output: {rule_named(record.body.stage).makes}") for record in archive.executions_of(digest)]
    for record in archive.find(digest, "file"):
        found += [(record, name) for name, one in record.body.files.items() if one == digest]
    found += [(record, "the definition") for record in archive.find(digest, "subject:definition") if record.statement.kind == "definition"]
    found += [(record, "its log") for record in archive.find(digest, "log")]
    found += [(record, f"shown to {record.body.person}") for record in archive.find(digest, "shown")]
    found += [(record, "the definition's system.yaml") for record in archive.find(digest, "declaration")]
    return found


def _text(content: bytes) -> str | None:
    """JSON indented, other UTF-8 text as it is, nothing for other bytes."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
