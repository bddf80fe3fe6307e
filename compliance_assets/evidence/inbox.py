"""The inbox: where signed decisions arrive, and the only way into the ledger for them.

A decision is a file that a person signed on their own machine; approvers hold no machine key. What is not authentic is set
aside with the reason and never reaches the ledger; what is gets appended once.
"""

from __future__ import annotations

import os
from pathlib import Path

from compliance_assets.errors import ComplianceError
from compliance_assets.evidence.archive import Archive, Record, check_decision
from compliance_assets.evidence.records import Statement
from compliance_assets.trust.signatures import Envelope

LARGEST_BYTES = 65_535


def put(inbox: Path, envelope: Envelope) -> Path:
    """Write a signed decision into the inbox, whole or not at all. Returns its path."""
    statement = Statement.read(envelope.payload)
    path = inbox / f"{statement.digest}.json"
    draft = path.with_suffix(f".{os.getpid()}.part")
    draft.write_bytes(envelope.to_bytes())
    with draft.open("rb") as handle:
        os.fsync(handle.fileno())
    os.replace(draft, path)
    return path


def waiting(inbox: Path) -> tuple[Path, ...]:
    """Decisions that have arrived, by name."""
    return tuple(sorted(inbox.glob("*.json")))


def admit(archive: Archive) -> tuple[tuple[Record, ...], tuple[tuple[str, str], ...]]:
    """Append every authentic decision of the inbox to the ledger. Returns what was admitted, and what was refused and why."""
    organisation = archive.require_trust_policy()
    admitted: list[Record] = []
    refused: list[tuple[str, str]] = []
    for path in waiting(archive.home.inbox):
        try:
            if path.stat().st_size > LARGEST_BYTES:
                raise ComplianceError(f"{path.name} is larger than a decision can be.", rule="decision", value=str(path.stat().st_size))
            envelope = Envelope.from_bytes(path.read_bytes())
            statement = Statement.read(envelope.payload)
            check_decision(envelope, statement, organisation)
        except ComplianceError as error:
            refused.append((path.name, str(error)))
            _set_aside(path, archive.home.inbox / "refused", str(error))
            continue
        # Not the file's fault, and not to be set aside: the ledger that its signer saw is not the one that is here.
        archive.require_head(statement.body.ledger, statement.body.person)
        admitted.append(archive.append_envelope(envelope))
        _set_aside(path, archive.home.inbox / "admitted", "")
    return tuple(admitted), tuple(refused)


def _set_aside(path: Path, folder: Path, why: str) -> None:
    folder.mkdir(exist_ok=True, mode=0o700)
    os.replace(path, folder / path.name)
    if why:
        (folder / f"{path.name}.reason.txt").write_text(f"{why}\n", encoding="utf-8")
