"""Documents that a person filed: exactly these bytes, made from that ledger head, resting on those entries; as a signed decision.

A generated document says something else tomorrow, because evidence grows. Filing keeps one version: its bytes lie in the artefact store,
and a person signs, with their own key, a note with their digest, the version of the template, the ledger head and every source that was
read (a decision of purpose `filing`, as all words of people are). Each version names the one before. That somebody filed a document is no
approval of anything; nothing rests on it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance_assets.errors import ComplianceError, LedgerCorrupt, Misused
from compliance_assets.evidence.archive import Archive, Record
from compliance_assets.evidence.decisions import taken_back
from compliance_assets.evidence.records import Decision, Head, Scope, Statement
from compliance_assets.governance.deciding import Signer, require_reason, sign_statement
from compliance_assets.governance.documents import KINDS, document
from compliance_assets.governance.documents.gathered import chosen
from compliance_assets.governance.documents.paper import Paper, Source
from compliance_assets.governance.model_card import TEMPLATE, Card, model_card
from compliance_assets.pipeline import River
from compliance_assets.trust.canonical import Digest, canonical_json, digest_of, parse_canonical, rfc3339

CARD = "model-card"
FILABLE = (*KINDS, CARD)
FORM = "filed document"


@dataclass(frozen=True)
class Draft:
    """A document as it could be filed now: what it says, and everything that it was read from."""

    kind: str
    template: int
    content: Mapping[str, Any]
    sources: tuple[Source, ...]

    @property
    def digest(self) -> Digest:
        return digest_of(self.content)


@dataclass(frozen=True)
class Filed:
    """One filed version, as its record and its bytes say it."""

    kind: str
    version: int
    template: int
    candidate: int
    document: Digest
    head: Head
    sources: int
    record: Record
    content: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        body = self.record.body
        return {"document": self.kind, "version": self.version, "template": self.template, "candidate": self.candidate,
                "digest": str(self.document), "ledger": self.head.model_dump(), "sources": self.sources, "filed_by": body.person,
                "role": body.role, "at": body.issued, "reason": body.rationale, "ledger_index": self.record.index,
                "statement": str(self.record.digest)}


# ----------------------------------------------------------------------------------------------------------------------- made now


def draft(river: River, kind: str, system: str, release: str = "") -> Draft:
    """The document as it is now, about a release (default: as in `document`). Misused for an unknown kind or release."""
    if kind == CARD:
        return draft_of_card(river.archive, model_card(river, chosen(river, system, release)))
    return draft_of_paper(document(river, kind, system, release))


def draft_of_paper(paper: Paper) -> Draft:
    return Draft(paper.kind, KINDS[paper.kind].template, paper.content(), paper.sources)


def draft_of_card(archive: Archive, card: Card) -> Draft:
    """A model card with the head that it was made from, and the entries that its lines name."""
    head = archive.head()
    indices = sorted({entry for one in card.sections for entry in (*(at for *_, at in one.facts if at is not None),
                                                                   *(table.entry for table in one.tables))})
    said = [(index, str(archive.authentic(archive.ledger.entry(index)).digest)) for index in indices]
    content = {"document": CARD, **card.as_json(), "ledger": head.model_dump()}
    return Draft(CARD, TEMPLATE, content, tuple(Source(index, digest, digest) for index, digest in said))


def differences(filed: Filed, now: Draft) -> tuple[str, ...]:
    """What a version filed now would say otherwise: the parts by name; () where it would say the same of the same release."""
    said: list[str] = []
    if filed.template != now.template:
        said.append(f"the template (version {filed.template}, now {now.template})")
    if filed.candidate != now.content["candidate"]:
        said.append(f"the candidate (#{filed.candidate}, now #{now.content['candidate']})")
    before, after = _parts(filed.content), _parts(now.content)
    return (*said, *(name for name in {**before, **after} if before.get(name) != after.get(name)))


def _parts(content: Mapping[str, Any]) -> dict[str, Any]:
    if "points" in content:
        return {f"point {one['point']}": one for one in content["points"]}
    return {str(one["title"]): one for one in content["sections"]}


# -------------------------------------------------------------------------------------------------------------------------- filed


def filed(archive: Archive, system: str) -> tuple[tuple[Filed, ...], tuple[tuple[Record, str], ...]]:
    """Every filed version that counts, newest first, and the signed records that do not count, with the reason.

    Each is held against these, in order; the first that it fails is its reason:
    1. its note is in the store, unharmed, is about this system and a document that there is, and is what was signed;
    2. the document's bytes are in the store, unharmed, and say the same head and candidate;
    3. that head is one that this ledger had before it was filed;
    4. every source is an entry of that head, with that statement;
    5. it comes from a role that approved definitions then;
    6. it follows the version before it, and its maker has not taken it back.
    """
    chains, revoked, refused = _chains(archive, system)
    standing = [one for chain in chains.values() for one in chain if one.record.digest not in revoked]
    return tuple(sorted(standing, key=lambda one: -one.record.index)), refused


Chains = tuple[Mapping[str, list[Filed]], frozenset[str], tuple[tuple[Record, str], ...]]


def _chains(archive: Archive, system: str) -> Chains:
    """The versions of each document, which statements their makers took back, and what does not count."""
    return archive.derived(("filed documents", system), lambda: _read(archive, system))


def _read(archive: Archive, system: str) -> Chains:
    records = archive.decided("filing", system)
    chains: dict[str, list[Filed]] = {}
    refused: list[tuple[Record, str]] = []
    for record in records:
        if record.body.decision == "revoke":
            continue
        try:
            note = _note(archive, record, system)
            found = _held(archive, record, note)
            chain = chains[found.kind] if found.kind in chains else []
            # (6)
            if (found.version, note["previous"]) != (len(chain) + 1, str(chain[-1].record.digest) if chain else ""):
                raise _not_counted(record, f"it does not follow version {len(chain)}")
        except LedgerCorrupt:
            raise
        except ComplianceError as error:
            refused.append((record, error.message))
            continue
        chains.setdefault(found.kind, []).append(found)
    return chains, taken_back(records), tuple(refused)


def _note(archive: Archive, record: Record, system: str) -> Mapping[str, Any]:
    """(1) The signed note, in the one form that it can have."""
    subject, about = record.statement.subject("filed-document"), record.statement.subject("document")
    if record.body.decision != "approve" or subject is None or about is None or str(subject) != record.body.shown:
        raise _not_counted(record, "it names another note than it is about")
    note: Any = parse_canonical(archive.artefacts.get_bytes(subject))
    try:
        well = (note["form"] == FORM and note["system"] == system and note["document"] in FILABLE and note["content"] == about
                and isinstance(note["ledger"]["size"], int) and isinstance(note["version"], int) and isinstance(note["template"], int)
                and all(isinstance(one["ledger_index"], int) for one in note["sources"]))
    except (KeyError, TypeError) as error:
        raise _not_counted(record, "its note is none of a filed document of this system") from error
    if not well:
        raise _not_counted(record, "its note is none of a filed document of this system")
    found: Mapping[str, Any] = note
    return found


def _held(archive: Archive, record: Record, note: Mapping[str, Any]) -> Filed:
    # (2)
    document = Digest.parse(str(note["content"]))
    content: Any = parse_canonical(archive.artefacts.get_bytes(document))
    if any(name not in content or content[name] != note[name] for name in ("document", "system", "candidate", "ledger")):
        raise _not_counted(record, "its note says another document, candidate or head than the document")
    # (3)
    head = Head.model_validate(note["ledger"])
    if not 0 < head.size <= record.index:
        raise _not_counted(record, f"a head of {head.size} entries did not stand before it")
    try:
        archive.require_head(head, record.body.person)
    except LedgerCorrupt as error:  # of the note, not of the ledger: what was signed with it says another head, which is verified apart
        raise _not_counted(record, "this ledger never had the head that it names") from error
    # (4)
    for one in note["sources"]:
        index = one["ledger_index"]
        if not 0 <= index < head.size or str(archive.authentic(archive.ledger.entry(index)).digest) != one["evidence_id"]:
            raise _not_counted(record, f"entry {index} is not what it says that it was read from")
    # (5)
    if record.body.role not in {need.role for need in archive.policy_at(record.index).definitions.approved_by}:
        raise _not_counted(record, f"the role {record.body.role} files no documents")
    return Filed(str(note["document"]), note["version"], note["template"], int(note["candidate"]), document, head, len(note["sources"]),
                 record, content)


def _not_counted(record: Record, why: str) -> Misused:
    return Misused(why, rule="filed document", value=str(record.index), remedy="File it again: `compliance documents file`.")


def file(river: River, kind: str, system: str, release: str, signer: Signer, reason: str) -> tuple[Statement, Path]:
    """Sign the document as it is now as its next filed version, and put it into the inbox."""
    require_reason(reason)
    roles = [need.role for need in river.archive.in_force().definitions.approved_by]
    if signer.role not in roles:
        raise Misused(f"Documents are filed by {', '.join(dict.fromkeys(roles))}, not by {signer.role}.", rule="filed document",
                      value=signer.role, remedy="Have somebody of those roles file it.")
    made = draft(river, kind, system, release)
    newest = next((one for one in filed(river.archive, system)[0] if one.kind == kind), None)
    if newest is not None and not differences(newest, made):
        raise Misused(f"Version {newest.version} of {kind} says the same already.", rule="filed document",
                      value=str(newest.document), remedy="Nothing was signed; file again when the evidence has changed.")
    chains = _chains(river.archive, system)[0]
    chain = chains[kind] if kind in chains else []
    note = {"form": FORM, "system": system, "document": kind, "template": made.template, "content": str(made.digest),
            "candidate": made.content["candidate"], "ledger": made.content["ledger"],
            "sources": [one.as_json() for one in made.sources], "version": len(chain) + 1,
            "previous": str(chain[-1].record.digest) if chain else ""}
    river.archive.artefacts.put_bytes(canonical_json(made.content))
    digest = river.archive.artefacts.put_bytes(canonical_json(note))
    body = Decision(
        decision="approve", person=signer.person, role=signer.role,
        scope=Scope(purpose="filing", system=system, environment="", rollout=""), issued=rfc3339(river.now()), expires="", definition="",
        trust_policy=river.organisation.digest, ledger=river.archive.head(), shown=digest, opened_seconds=0, rationale=reason.strip(),
        nonce=secrets.token_hex(16), demonstration=river.organisation.demonstration)
    return sign_statement(river, Statement((("filed-document", digest), ("document", made.digest)), body), signer)
