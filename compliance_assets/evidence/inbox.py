"""The inbox: where signed decisions arrive, and the only way into the ledger for them.

A decision is a file that a person signed on their own machine; approvers hold no machine key. What is not authentic is set
aside with the reason and never reaches the ledger; what is gets appended once, and its file is kept: a ledger that lacks a
decision whose file was admitted has been cut, or put back to an older copy.
"""

from __future__ import annotations

import os
from pathlib import Path

from compliance_assets.errors import ComplianceError, ConflictingRecord, LedgerCorrupt, UntrustedEvidence
from compliance_assets.evidence.archive import Archive, Record, check_decision
from compliance_assets.evidence.records import Statement
from compliance_assets.trust.canonical import Digest, parse_rfc3339
from compliance_assets.trust.passkeys import SCHEME, assertion_by, counters_disagree
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
    """Append every authentic decision of the inbox to the ledger. Returns what was admitted, and what was refused and why.

    One process at a time. Decisions count under the trust policy in force, whatever organisation.yaml says by now: otherwise
    nobody could approve a new one.
    """
    with archive.home.lock("inbox", wait=True):
        require_admitted(archive)
        organisation = archive.in_force()
        admitted: list[Record] = []
        refused: list[tuple[str, str]] = []
        for path in waiting(archive.home.inbox):
            try:
                envelope = _read(path)
                statement = Statement.read(envelope.payload)
                check_decision(envelope, statement, organisation)
                require_counter(archive, envelope, statement)
                # Not the file's fault, and not to be set aside: the ledger that its signer saw is not the one that is here.
                archive.require_head(statement.body.ledger, statement.body.person)
                admitted.append(archive.append_envelope(envelope))
            except FileNotFoundError:
                continue  # taken back since
            except LedgerCorrupt:
                raise
            except (UntrustedEvidence, ConflictingRecord) as error:
                refused.append((path.name, str(error)))
                _set_aside(path, archive.home.inbox / "refused", str(error))
                continue
            _set_aside(path, archive.home.inbox / "admitted", "", name=f"{statement.digest}.json")
        return tuple(admitted), tuple(refused)


def require_admitted(archive: Archive) -> None:
    """Refuse a ledger that lacks a decision of which the inbox keeps the admitted file."""
    for path in waiting(archive.home.inbox / "admitted"):
        try:
            statement = Digest.parse(path.stem)
        except ComplianceError:
            continue  # a file that somebody named otherwise says nothing
        if not archive.ledger.by_subject(statement, "statement"):
            raise LedgerCorrupt(
                f"Decision {statement.short} was admitted, but the ledger does not hold it: its tail was cut, or an older copy was "
                "restored.", rule="admitted decision", value=statement,
                remedy="Restore the newest copy of the ledger; find out who cut it.")


def require_counter(archive: Archive, envelope: Envelope, statement: Statement) -> None:
    """Refuse an assertion whose counter contradicts an earlier one of the same passkey: the passkey was copied, or this is a replay.

    The ledger keeps each assertion whole, and so its counter. Signatures are not verified again: whatever is in the ledger was.
    """
    person = statement.body.person
    assertion = assertion_by(envelope, person)
    if assertion is None or not assertion.counter:
        return
    now = parse_rfc3339(statement.body.issued), assertion.counter
    for entry in archive.ledger.by_kind("decision"):
        earlier = Envelope.from_bytes(entry.body)
        if all(one.keyid != person or one.scheme != SCHEME for one in earlier.signatures):
            continue
        said, other = Statement.read(earlier.payload), assertion_by(earlier, person)
        if other is None or other.credential != assertion.credential or said.digest == statement.digest:
            continue
        if counters_disagree(now, (parse_rfc3339(said.body.issued), other.counter)):
            raise UntrustedEvidence(
                f"The counter of {person}'s passkey ({assertion.counter}) contradicts the one in entry {entry.index} ({other.counter}): "
                "there are two copies of it.", rule="passkey counter", value=str(assertion.counter),
                remedy="Take this passkey out of organisation.yaml, have the change approved, and enrol another.")


def _read(path: Path) -> Envelope:
    """The envelope in a file. UntrustedEvidence for whatever is not a small plain file."""
    try:
        if not path.is_file() and (path.is_symlink() or path.exists()):
            raise UntrustedEvidence(f"{path.name} is not a file.", rule="decision", value=path.name, remedy="Put the signed file there.")
        if (size := path.stat().st_size) > LARGEST_BYTES:
            raise UntrustedEvidence(f"{path.name} is larger than a decision can be.", rule="decision", value=str(size),
                                    remedy="Shorten the reason.")
        return Envelope.from_bytes(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UntrustedEvidence(f"{path.name} cannot be read: {error.strerror}.", rule="decision", value=path.name,
                                remedy="Mend its permissions and put it back.") from error


def _set_aside(path: Path, folder: Path, why: str, *, name: str = "") -> None:
    folder.mkdir(exist_ok=True, mode=0o700)
    os.replace(path, folder / (name or path.name))
    if why:
        (folder / f"{path.name}.reason.txt").write_text(f"{why}\n", encoding="utf-8")
