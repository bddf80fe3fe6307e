"""Having the ledger's head kept outside this host: asking witnesses, tagging a repository, and demanding it before a deployment."""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from compliance_assets.errors import ComplianceError, HomeUnusable, Misused, OutOfTurn, UntrustedEvidence
from compliance_assets.evidence import anchors
from compliance_assets.evidence import witness as witnessing
from compliance_assets.evidence.anchors import Anchor
from compliance_assets.evidence.archive import Archive
from compliance_assets.policy.organisation import DeclaredWitness, GitTags, Organisation

SECONDS = 10


def make(archive: Archive, organisation: Organisation, root: Path, kinds: Iterable[str] | None = None) -> tuple[list[Anchor], list[str]]:
    """Have the present head anchored in every declared way (of these kinds); what was made, and why others were not."""
    declared = organisation.anchors
    if declared is None:
        raise Misused("organisation.yaml declares no anchors.", rule="anchors", value="none",
                      remedy="Declare a witness or a repository of signed tags under `anchors`, and have it approved.")
    wanted = set(kinds) if kinds is not None else {"witness", "git"}
    made: list[Anchor] = []
    problems: list[str] = []
    for witness in declared.witnesses if "witness" in wanted else ():
        try:
            made.append(have_cosigned(archive, witness))
        except ComplianceError as error:
            problems.append(str(error))
    if declared.git is not None and "git" in wanted:
        try:
            made.append(tag(archive, declared.git, root))
        except ComplianceError as error:
            problems.append(str(error))
    return made, problems


def have_cosigned(archive: Archive, witness: DeclaredWitness) -> Anchor:
    """Ask a witness to cosign the present head, and keep its answer."""
    ledger, place = archive.ledger, anchors.place_of(archive, "witness", witness.name)
    note, head = ledger.note, ledger.head()
    old = max((int(path.stem) for path in anchors.files_in(place) if path.stem.isdigit()), default=0)
    if head.size < old:
        old = head.size  # a shorter ledger than was cosigned before: the witness says so
    for _ in range(2):
        proof = ledger.consistency_proof(old, head.size) if 0 < old < head.size else ()
        status, text = _post(witness, witnessing.request(old, proof, note))
        remembered = int(text) if status == 409 and text.strip().isdigit() else old
        if remembered == old or remembered > head.size:
            break
        old = remembered
    if status == 409 and remembered > head.size:
        raise UntrustedEvidence(f"The witness {witness.name} has seen {remembered} entries of this ledger; it has {head.size} now: "
                                "entries were cut off, or an older copy was restored.", rule="witness", value=f"{remembered} > {head.size}",
                                remedy="Restore the newest copy; find out who cut it.")
    if status in (409, 422):
        raise UntrustedEvidence(f"The witness {witness.name} refuses this head of {head.size} entries: it does not grow from the one "
                                f"that it cosigned at {old}. Two histories of this ledger exist.", rule="witness", value=str(status),
                                remedy="Restore the ledger that the witness has seen; find out who rewrote it.")
    if status != 200:
        raise UntrustedEvidence(f"The witness {witness.name} did not cosign: {text.strip()[:200]} ({status}).", rule="witness",
                                value=str(status), remedy="Give the witness this ledger's name and the log's public key.")
    lines = "".join(line + "\n" for line in text.splitlines() if line.startswith(f"— {witness.name} "))
    anchor = anchors.cosigned(archive, note + lines, witness)
    _keep(place / f"{head.size}.note", (note + lines).encode())
    return anchor


def _post(witness: DeclaredWitness, body: bytes) -> tuple[int, str]:
    asked = urllib.request.Request(f"{witness.address.rstrip('/')}/add-checkpoint", data=body, method="POST")  # noqa: S310  # declared http(s)
    try:
        with urllib.request.urlopen(asked, timeout=SECONDS) as answer:  # noqa: S310
            return int(answer.status), answer.read(1 << 16).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code), error.read(1 << 16).decode("utf-8", "replace")
    except OSError as error:
        raise HomeUnusable(f"The witness {witness.name} does not answer at {witness.address}: {getattr(error, 'reason', error)}.",
                           rule="witness", value=witness.address, remedy="Start it (`compliance witness`), or mend its address.") from error


def tag(archive: Archive, git: GitTags, root: Path) -> Anchor:
    """Tag the present head in the repository, signed with `keys/anchor`, and push the tag where a remote is declared."""
    note, size = archive.ledger.note, archive.ledger.size
    repository, name = root / git.repository, f"ledger/{size}"
    place = anchors.place_of(archive, "git", "ledger") / f"{size}.tag"
    if not (repository.is_dir() and place.is_file()):
        blob = _git(repository, "hash-object", "-w", "--stdin", text=note).strip()
        if _git(repository, "tag", "--list", name).strip() == "":
            _git(repository, "-c", "gpg.format=ssh", "-c", f"user.signingkey={archive.home.keys / 'anchor'}", "-c", "user.name=ledger",
                 "-c", "user.email=ledger@localhost", "tag", "--sign", "--cleanup=verbatim", "--file=-", name, blob, text=note)
        content = _git(repository, "cat-file", "tag", name).encode()
        anchors.read_tag(archive, content, git)
        _keep(place, content)
    if git.remote is not None:
        _git(repository, "push", "--quiet", git.remote, f"refs/tags/{name}")
    return anchors.read_tag(archive, place.read_bytes(), git)


def _git(repository: Path, *arguments: str, text: str = "") -> str:
    try:
        done = subprocess.run(("git", "-C", str(repository), *arguments), input=text.encode(), capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HomeUnusable(f"git cannot be run: {error}.", rule="git", value=str(repository),
                           remedy="Install git, or use a witness.") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise HomeUnusable(f"git did not take the tag: {said[-1] if said else 'no reason given'}.", rule="git tag", value=str(repository),
                           remedy="Check the repository, its remote, and the key keys/anchor.")
    return done.stdout.decode("utf-8", "replace")


def _keep(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft.write_bytes(content)
        os.replace(draft, path)
    except OSError as error:
        raise HomeUnusable(f"The anchor {path.name} cannot be kept: {error.strerror}.", rule="home", value=str(path),
                           remedy="Free space or mend the home's permissions.") from error


def require(archive: Archive, organisation: Organisation, root: Path, covers: int, now: datetime) -> None:
    """Have the head anchored as production demands; refuse where a demanded anchor cannot be had or does not cover `covers` entries."""
    declared = organisation.anchors
    if declared is None or not anchors.lacking(archive, organisation, covers, now):
        return
    _, problems = make(archive, organisation, root, declared.demanded)
    missing = anchors.lacking(archive, organisation, covers, now)
    if missing:
        said = f"Production demands the ledger's head outside this host, and there is {'; '.join(missing)}. {' '.join(problems)}"
        raise OutOfTurn(said.strip(), rule="anchor", value="; ".join(missing),
                        remedy="Mend what is said, then `compliance anchor`; nothing was begun.")
