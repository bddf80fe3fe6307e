"""Everything that can be recomputed, recomputed: every leaf, root, signature, chain and artefact; and what is not covered.

The answer names what was verified and what was not. A problem is listed with the words of its refusal and the rest is still
looked at, so that one broken record does not hide another (Art. 12(1), Art. 18: documentation kept at the authorities' disposal).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence import anchors
from compliance_assets.evidence.archive import Archive, Record
from compliance_assets.evidence.dossier import Dossier
from compliance_assets.evidence.exceptions import excuses
from compliance_assets.evidence.verifying import authentic_in_parallel
from compliance_assets.policy.river import rule_named
from compliance_assets.stages import stage_for
from compliance_assets.trust.canonical import Digest, parse_canonical, parse_rfc3339
from compliance_assets.trust.merkle import Checkpoint

NOT_COVERED = (
    "Dagster's event log and MLflow's database: views that anybody with the files can edit; never evidence",
    "the machine keys: whoever holds pipeline, gate and log keys can write false evidence from now on",
    "entries newer than the newest head kept elsewhere: a copy of the head outside this host settles that",
)


@dataclass
class Verification:
    """What was found. True only if there is no problem and something was verified."""

    entries: int = 0
    root: str = ""
    checkpoints: int = 0
    heads: int = 0
    anchors: int = 0
    anchored: int = 0
    """Of how many entries the newest anchor is."""
    signatures: int = 0
    artefacts: int = 0
    artefact_bytes: int = 0
    chains: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    unreferenced: list[str] = field(default_factory=list)
    not_covered: tuple[str, ...] = NOT_COVERED

    def __bool__(self) -> bool:
        return not self.problems and self.entries > 0

    def as_json(self) -> dict[str, Any]:
        return {"verified": bool(self), "entries": self.entries, "root": self.root, "checkpoints": self.checkpoints,
                "heads_kept_elsewhere": self.heads, "anchors": self.anchors, "anchored_entries": self.anchored,
                "signatures": self.signatures, "artefacts": self.artefacts,
                "artefact_bytes": self.artefact_bytes, "chains": self.chains, "by_kind": dict(self.by_kind), "problems": self.problems,
                "unreferenced_artefacts": self.unreferenced, "not_covered": list(self.not_covered)}


def verify(archive: Archive, heads: tuple[Checkpoint, ...] = (), progress: Callable[[str], None] = lambda _: None) -> Verification:
    """Verify the whole home.

    1. The ledger: numbering, leaves, tree nodes, every checkpoint's root and signature, the look-up table.
    2. Every entry: canonical, signed by whom it must be, under the trust policy of its time.
    3. Every head that a person signed or that was kept elsewhere, every anchor: still the head of its prefix.
    4. Every artefact that a record names: there, and with the bytes of its digest.
    5. Every passed record: its gates complete, its chain passed down to the raw file.
    """
    found = Verification()
    # (1)
    progress("ledger")
    try:
        ledger = archive.ledger.verify()
        found.entries, found.root, found.checkpoints = ledger.size, ledger.root.hex(), ledger.checkpoints
    except ComplianceError as error:
        found.problems.append(f"ledger: {error}")
        return found
    # (2)
    progress("signatures")
    authentic: list[Record] = []
    for record in authentic_in_parallel(archive):
        if isinstance(record, str):
            found.problems.append(record)
            continue
        authentic.append(record)
        found.signatures += len(record.envelope.signatures)
        found.by_kind[record.statement.kind] += 1
    # (3)
    progress("heads")
    try:
        signed = archive.heads()
        anchored, wrong = anchors.read(archive, archive.in_force())
        found.problems += wrong
        archive.ledger.verify((*signed, *heads, *(anchor.head for anchor in anchored)))
        found.heads, found.anchors = len(signed) + len(heads), len(anchored)
        if anchored:
            found.anchored = max(anchor.head.size for anchor in anchored)
        found.not_covered = (*NOT_COVERED[:2], _uncovered(found))
    except ComplianceError as error:
        found.problems.append(f"heads: {error}")
    # (4)
    progress("artefacts")
    named = _named(authentic)
    for digest, where in named.items():
        try:
            found.artefact_bytes += len(archive.artefacts.get_bytes(digest))
            found.artefacts += 1
        except ComplianceError as error:
            found.problems.append(f"artefact {digest[:12]} ({where}): {error}")
    inner = _inside(archive, authentic, found)
    found.unreferenced = sorted(digest for digest in archive.artefacts if digest not in named and digest not in inner)
    # (5)
    progress("chains")
    for record in authentic:
        if record.statement.kind != "stage" or record.body.outcome != "passed":
            continue
        asset = rule_named(record.body.stage).makes
        dossier = Dossier(record.body.system, Digest.parse(record.body.definition), archive.executions_of,
                          excuses(archive, parse_rfc3339(record.body.finished), record.index))
        try:
            dossier.admit(asset, Digest.parse(record.body.output), needed_by="verification")
            found.chains += 1
        except ComplianceError as error:
            found.problems.append(f"entry {record.index} ({record.body.system}/{asset}): {error}")
    return found


def _uncovered(found: Verification) -> str:
    if not found.anchored:
        return NOT_COVERED[2]
    newer = found.entries - found.anchored
    return (f"{newer} entries newer than the newest anchor, which is of {found.anchored}; `compliance anchor` makes another" if newer
            else "what a witness or a repository remembers but this home has lost: ask them for their newest head")


def _named(authentic: list[Record]) -> dict[Digest, str]:
    """Every artefact that a record names, with the place that names it."""
    named: dict[Digest, str] = {}
    for record in authentic:
        body = record.body
        if record.statement.kind == "stage":
            for name, digest in {"output": body.output, "log": body.log, "environment": body.environment, **body.files}.items():
                named[Digest.parse(digest)] = f"entry {record.index}, {name}"
        elif record.statement.kind == "decision" and body.shown:
            named[Digest.parse(body.shown)] = f"entry {record.index}, shown to {body.person}"
        elif record.statement.kind == "deployment" and "snapshot" in body.evidence:
            named[Digest.parse(body.evidence["snapshot"])] = f"entry {record.index}, snapshot"
        elif record.statement.kind == "definition":
            named[Digest.parse(body.parts)] = f"entry {record.index}, definition"
            named[Digest.parse(body.declaration)] = f"entry {record.index}, system.yaml"
    return named


def _inside(archive: Archive, authentic: list[Record], found: Verification) -> set[str]:
    """Digests that an output itself names (a value's files); each value must be readable as what its stage makes."""
    inner: set[str] = set()
    for record in authentic:
        if record.statement.kind != "stage" or record.body.outcome == "error":
            continue
        try:
            manifest = parse_canonical(archive.artefacts.get_bytes(Digest.parse(record.body.output)))
            value = stage_for(rule_named(record.body.stage)).makes.model_validate(manifest)
        except ComplianceError:
            continue  # said above, where the artefact was read
        except ValueError as error:
            found.problems.append(f"entry {record.index}: its output is not a {rule_named(record.body.stage).makes}: {error}")
            continue
        missing = {name: digest for name, digest in value.files().items() if record.body.files.get(name) != digest}
        if missing:
            found.problems.append(f"entry {record.index}: the record does not name {', '.join(missing)} of its output")
        _snapshot(archive, value.files(), record.index, inner, found)
        inner |= set(_digests(manifest)) | set(_digests(record.body.observations))
    for record in authentic:
        if record.statement.kind == "definition":
            try:
                inner |= set(_digests(parse_canonical(archive.artefacts.get_bytes(Digest.parse(record.body.parts)))))
            except ComplianceError:
                continue
        if record.statement.kind == "deployment":
            inner |= set(_digests(record.body.evidence))
    return inner


def _snapshot(archive: Archive, files: Mapping[str, str], index: int, inner: set[str], found: Verification) -> None:
    """The files of a definition's snapshot, from which its server is started again: each there, with its bytes."""
    for name, digest in files.items():
        if not name.endswith("definition_snapshot.json"):
            continue
        try:
            for part in parse_canonical(archive.artefacts.get_bytes(Digest.parse(digest)))["files"].values():
                inner.add(part)
                archive.artefacts.open_path(Digest.parse(part))
        except ComplianceError as error:
            found.problems.append(f"entry {index}: the snapshot of its definition: {error}")


def _digests(value: object) -> list[str]:
    """Every text inside a JSON value that has the form of a digest."""
    if isinstance(value, str):
        return [value] if len(value) == 64 and all(c in "0123456789abcdef" for c in value) else []
    if isinstance(value, dict):
        return [digest for item in value.values() for digest in _digests(item)]
    if isinstance(value, list):
        return [digest for item in value for digest in _digests(item)]
    return []
