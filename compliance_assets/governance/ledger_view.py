"""The ledger as people read it: a list that can be narrowed, and one entry with everything that lets anybody check it.

Each entry is proved again when it is shown: the leaf is hashed from the exact signed bytes, the path of the tree is walked to the
signed root, and the signatures are verified under the trust policy of its time (RFC 6962; the steps carry its words).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from typing import Any

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.alert_answers import ANSWERS
from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.ledger import Entry
from compliance_assets.evidence.records import KINDS
from compliance_assets.pipeline import River
from compliance_assets.policy.river import rule_named
from compliance_assets.trust.merkle import leaf_hash, verify_inclusion

PAGE = 50
OUTCOMES = ("passed", "failed", "error")


@dataclass(frozen=True)
class Line:
    """One entry in a list: what it says in a sentence, of which system, when, by whom, and with what outcome (if it has one)."""

    index: int
    kind: str
    system: str
    said: str
    outcome: str
    when: str
    by: str
    problem: str = ""


def lines(river: River, *, kind: str = "", system: str = "", outcome: str = "", before: int | None = None) -> tuple[list[Line], int | None]:
    """Up to `PAGE` entries, newest first, that fit; and the index to go on from, or None at the end."""
    ledger = river.archive.ledger
    at = ledger.size if before is None else min(max(before, 0), ledger.size)
    found: list[Line] = []
    known = river.archive.newest(at, kind, system, outcome)
    if known is not None:
        fitting = list(islice(known, PAGE + 1))
        return [line_of(river, ledger.entry(index)) for index in fitting[:PAGE]], fitting[PAGE - 1] if len(fitting) > PAGE else None
    while at > 0:
        at -= 1
        line = line_of(river, ledger.entry(at))
        if (kind and line.kind != kind) or (system and line.system != system) or (outcome and line.outcome != outcome):
            continue
        found.append(line)
        if len(found) == PAGE:
            return found, at if at > 0 else None
    return found, None


def line_of(river: River, entry: Entry) -> Line:
    """One entry as a line; one that is not authentic is shown as just that."""
    try:
        return line(river.archive.authentic(entry))
    except ComplianceError as error:
        return Line(entry.index, entry.kind, entry.system, "not authentic: it counts for nothing", "", "", "unknown", str(error))


def line(record: Record) -> Line:
    """One authentic record as a line."""
    body, kind = record.body, record.statement.kind
    if kind == "stage":
        rule = rule_named(body.stage)
        said = f"{rule.title} → {rule.makes}" if body.outcome != "error" else f"{rule.title} could not be computed"
        return Line(record.index, kind, body.system, said, body.outcome, body.finished, body.launcher)
    if kind == "reuse":
        return Line(record.index, kind, body.system, f"{rule_named(body.stage).title} answered from entry #{body.original_index}", "",
                    body.at, body.launcher)
    if kind == "decision":
        about = _ABOUT[body.scope.purpose]
        did = _did(record)
        said = f"{did} {about} as {body.role}"
        return Line(record.index, kind, body.scope.system, said, "", body.issued, body.person)
    if kind == "deployment":
        share = f" ({float(body.share):.0%} of requests)" if body.action == "canary_started" else ""
        return Line(record.index, kind, body.system, f"{body.action.replace('_', ' ')} in {body.environment}{share}", "", body.at,
                    body.launcher)
    if kind == "reconciliation":
        said = f"what serves in {body.environment} {'agrees with the ledger again' if body.agrees else 'is not what the ledger says'}"
        return Line(record.index, kind, body.system, said, "", body.at, body.launcher)
    if kind == "exception":
        return Line(record.index, kind, body.system, f"exception to {body.gate} asked for, until {body.expires[:10]}", "", body.at,
                    body.requested_by)
    if kind == "alert":
        return Line(record.index, kind, body.system, f"alert {body.rule} about {body.about} {body.event}", "", body.at, body.by)
    if kind == "definition":
        return Line(record.index, kind, body.system, "definition proposed", "", body.at, body.proposed_by)
    return Line(record.index, kind, "", "trust policy (organisation.yaml)", "", body.at, "the log's key")


def _did(record: Record) -> str:
    """What a person did, as a verb."""
    body, name = record.body, record.statement.subjects[0][0]
    if body.decision == "approve" and body.scope.purpose == "alert" and name in ANSWERS:
        return ANSWERS[name]
    return "filed" if (body.scope.purpose, body.decision) == ("filing", "approve") else _DECIDED[body.decision]


_ABOUT = {"release": "a release", "definition": "a definition", "trust-policy": "organisation.yaml", "return": "an emergency act",
          "exception": "an exception", "condition": "that a condition is met",
          "document": "a text of the documentation", "runbook": "a step done by hand",
          "decommission": "that a system goes out of service", "legal-hold": "that evidence is held", "alert": "an alert",
          "filing": "a document"}
_DECIDED = {"approve": "approved", "reject": "rejected", "defer": "deferred", "revoke": "revoked a decision about"}


@dataclass(frozen=True)
class Step:
    """One step of a check: what was done, what came out, whether it held."""

    did: str
    found: str
    holds: bool


@dataclass(frozen=True)
class Shown:
    """One entry, whole: its record, who signed it, how it was proved, and what was asked of it. `problem`: why it counts for nothing."""

    entry: Entry
    line: Line
    record: Record | None
    payload: dict[str, Any]
    signed_by: tuple[tuple[str, str], ...]
    proof: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    size: int
    root: str

    @property
    def verified(self) -> bool:
        return bool(self.steps) and all(step.holds for step in self.steps)


def shown_entry(river: River, index: int) -> Shown:
    """Entry `index` with its inclusion proof, checked step by step. Misused if there is none; LedgerCorrupt if it was changed."""
    import json

    ledger = river.archive.ledger
    entry, head = ledger.entry(index), ledger.head()
    path = ledger.inclusion_proof(index)
    steps: list[Step] = []
    leaf = leaf_hash(entry.body)
    steps.append(Step("Hash the exact signed bytes: sha256(0x00 ‖ entry)", leaf.hex(), leaf == entry.leaf))
    walked, root = _walk(index, head.size, leaf, path)
    steps.append(Step(f"Walk {len(path)} sibling hashes up the tree of {head.size} entries", root.hex(), root == head.root))
    steps.append(Step("Compare with the root of the newest checkpoint, which the log's key signed", head.root.hex(),
                      _included(index, head, leaf, path)))
    record: Record | None = None
    payload: dict[str, Any] = {}
    signed: tuple[tuple[str, str], ...] = ()
    try:
        record = river.archive.authentic(entry)
        payload = json.loads(record.envelope.payload)
        signed = _signed_by(river, record)
        steps.append(Step("Verify every signature under the trust policy of its time",
                          ", ".join(f"{who} ({what})" for who, what in signed), bool(signed)))
    except ComplianceError as error:
        steps.append(Step("Verify every signature under the trust policy of its time", str(error), False))
    return Shown(entry, line_of(river, entry), record, payload, signed, walked, tuple(steps), head.size, head.root.hex())


def _included(index: int, head: Any, leaf: bytes, path: tuple[bytes, ...]) -> bool:
    try:
        verify_inclusion(index, head.size, leaf, path, head.root)
    except ComplianceError:
        return False
    return True


def _walk(index: int, size: int, leaf: bytes, path: tuple[bytes, ...]) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """The proof as a person can follow it: at each step the sibling, and on which side it stands (RFC 9162 §2.1.3.2)."""
    place, last, value = index, size - 1, leaf
    shown: list[tuple[str, str]] = []
    for sibling in path:
        if place & 1 or place == last:
            value = hashlib.sha256(b"\x01" + sibling + value).digest()
            shown.append(("left", sibling.hex()))
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            value = hashlib.sha256(b"\x01" + value + sibling).digest()
            shown.append(("right", sibling.hex()))
        place, last = place >> 1, last >> 1
    return tuple(shown), value


def _signed_by(river: River, record: Record) -> tuple[tuple[str, str], ...]:
    """Who vouches for a record: the key's owner as organisation.yaml names them, and the key's id."""
    roles = {str(key.public.keyid): f"{key.role} key" for _, reign in river.archive.reigns() for key in reign.machine_keys}
    return tuple((roles[one.keyid] if one.keyid in roles else one.keyid, "Ed25519" if one.keyid in roles else "SSH signature")
                 for one in record.envelope.signatures)


def kinds() -> tuple[str, ...]:
    """Every kind of entry that there can be."""
    return tuple(KINDS.values())
