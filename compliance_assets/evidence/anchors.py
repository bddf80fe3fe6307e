"""Heads of the ledger that are kept outside this host: by witnesses, and as signed git tags; how they are read.

Whoever holds the log's key can rewrite the whole ledger and sign it again; whoever holds the disk can put an older copy back.
Nothing inside the ledger shows either. A head that was countersigned elsewhere does. Copies of what others signed lie in the
home's `anchors/`, so that they are verified without a network; the memory that counts is the witness's, or the repository's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from compliance_assets.errors import ComplianceError, UntrustedEvidence
from compliance_assets.evidence.archive import Archive
from compliance_assets.evidence.records import Head
from compliance_assets.policy.organisation import Anchors, DeclaredWitness, GitTags, Organisation
from compliance_assets.trust.cosignature import cosigned_at
from compliance_assets.trust.keys import PublicKey
from compliance_assets.trust.merkle import Checkpoint, open_checkpoint
from compliance_assets.trust.sshsig import ssh_verify

CLOCK_TOLERANCE = timedelta(minutes=5)
_TAG = re.compile(rb"object [0-9a-f]+\ntype blob\ntag ledger/(\d{1,18})\ntagger [^\n]* <[^\n]*> (\d{1,12}) [+-]\d{4}\n\n"
                  rb"(.*?\n)(-----BEGIN SSH SIGNATURE-----\n.*)", re.DOTALL)


@dataclass(frozen=True)
class Anchor:
    """A head of this ledger that somebody else keeps: of which kind, by whom, and since when as they say."""

    kind: str
    by: str
    head: Checkpoint
    at: datetime


def folder_of(archive: Archive) -> Path:
    return archive.home.path / "anchors"


def place_of(archive: Archive, kind: str, by: str) -> Path:
    return folder_of(archive) / kind / re.sub(r"[^A-Za-z0-9.-]", "_", by)


# ------------------------------------------------------------------------------------------------------------------- reading

def read(archive: Archive, organisation: Organisation) -> tuple[list[Anchor], list[str]]:
    """Every anchor in the home that is one, by age; and what is wrong with the others."""
    found: list[Anchor] = []
    problems: list[str] = []
    declared = organisation.anchors
    for witness in declared.witnesses if declared else ():
        for path in files_in(place_of(archive, "witness", witness.name)):
            _tried(partial(read_cosigned, archive, path, witness), path, found, problems)
    if declared and declared.git is not None:
        for path in files_in(place_of(archive, "git", "ledger")):
            _tried(partial(_kept_tag, archive, path, declared.git), path, found, problems)
    return sorted(found, key=lambda anchor: anchor.head.size), problems


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _tried(reading: Callable[[], Anchor], path: Path, found: list[Anchor], problems: list[str]) -> None:
    try:
        found.append(reading())
    except (ComplianceError, OSError, ValueError) as error:
        problems.append(f"anchor {path.parent.name}/{path.name}: {error}")


def read_cosigned(archive: Archive, path: Path, witness: DeclaredWitness) -> Anchor:
    """A note that the log's key signed and the witness cosigned, kept at `path`."""
    return cosigned(archive, path.read_text(encoding="utf-8"), witness)


def _kept_tag(archive: Archive, path: Path, git: GitTags) -> Anchor:
    return read_tag(archive, path.read_bytes(), git)


def cosigned(archive: Archive, note: str, witness: DeclaredWitness) -> Anchor:
    head = open_checkpoint(note, archive.ledger.log_public, archive.ledger.origin)
    return Anchor("witness", witness.name, head, cosigned_at(note, witness.name, PublicKey.parse(witness.key)))


def read_tag(archive: Archive, content: bytes, git: GitTags) -> Anchor:
    """A git tag object that carries a checkpoint.

    1. It is a tag `ledger/SIZE` on a blob, with a message and an SSH signature. 2. The declared key signed it for git. 3. Its
    message is a checkpoint of this log, of that size.
    """
    # (1)
    parts = _TAG.fullmatch(content)
    if parts is None:
        raise UntrustedEvidence("This is not a signed tag ledger/SIZE.", rule="git tag", value=repr(content[:40]),
                                remedy="Take it from `git cat-file tag ledger/SIZE`.")
    at = datetime.fromtimestamp(int(parts[2]), UTC)
    # (2)
    ssh_verify(content[:parts.start(4)], parts[4].decode("ascii"), f"anchor {git.signer}\n", "anchor", "git", at)
    # (3)
    head = open_checkpoint(parts[3].decode("utf-8"), archive.ledger.log_public, archive.ledger.origin)
    if head.size != int(parts[1]):
        raise UntrustedEvidence(f"The tag ledger/{int(parts[1])} holds a checkpoint of {head.size} entries.", rule="git tag",
                                value=str(head.size), remedy="Find out who made it.")
    return Anchor("git", git.repository, head, at)


# ------------------------------------------------------------------------------------------------------------------ demanding

def lacking(archive: Archive, organisation: Organisation, covers: int, now: datetime) -> tuple[str, ...]:
    """What production demands and is not there: for each demanded anchor without a fresh one of `covers` entries or more, a sentence."""
    declared = organisation.anchors
    if declared is None or not declared.demanded:
        return ()
    anchors, _ = read(archive, organisation)
    period = fresh_for(declared)
    wanted = [("witness", witness.name) for witness in declared.witnesses] if "witness" in declared.demanded else []
    wanted += [("git", declared.git.repository)] if "git" in declared.demanded and declared.git is not None else []
    said = []
    for kind, by in wanted:
        fresh = [anchor for anchor in anchors if (anchor.kind, anchor.by) == (kind, by)
                 and now - period <= anchor.at <= now + CLOCK_TOLERANCE and anchor.head.size >= covers]
        if not fresh:
            said.append(f"no {kind} anchor by {by} of {covers} entries or more within {declared.fresh_for}")
            continue
        newest = fresh[-1]
        archive.require_head(Head(size=newest.head.size, root=newest.head.root.hex()), f"The {kind} anchor by {by}")
    return tuple(said)


def newest_cosigned(archive: Archive, organisation: Organisation) -> tuple[bytes, ...]:
    """The newest note that each declared witness cosigned, as it is kept here."""
    found = []
    for witness in organisation.anchors.witnesses if organisation.anchors else ():
        kept = [path for path in files_in(place_of(archive, "witness", witness.name)) if path.stem.isdigit()]
        if kept:
            found.append(max(kept, key=lambda path: int(path.stem)).read_bytes())
    return tuple(found)


def fresh_for(declared: Anchors) -> timedelta:
    number, unit = int(declared.fresh_for[:-1]), declared.fresh_for[-1]
    return timedelta(hours=number) if unit == "h" else timedelta(days=number)
