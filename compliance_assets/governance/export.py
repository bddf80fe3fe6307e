"""An auditor's bundle: the whole ledger, what records of one system name, and a verifier that needs none of this program.

Everything in it is verified by `verify.py` from one string that the auditor holds, or named as uncovered. Tables of data are left out
unless asked for, and listed as left out: the ledger cannot be erased from, but a bundle can be given away (Art. 18, Art. 21; data
minimisation). Nothing is judged here: what is wrong in the ledger is exported as it is, for the verifier to find.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance_assets.errors import ArtefactCorrupt, ComplianceError, HomeUnusable, Misused
from compliance_assets.evidence import alert_answers, anchors, deployments, verify_bundle, verify_passkeys, verify_signatures
from compliance_assets.evidence.archive import Archive
from compliance_assets.policy import change, change_judges, change_rules
from compliance_assets.trust.canonical import Digest, parse_canonical

DATA = (".parquet", "model/probe")
"""How files are called that hold a row for each person: tables, and the predictions on the probe."""
TABLE = b"PAR1"

README = """\
# Evidence of {system}

{size} ledger entries, root {root}.

1. Take your own copy of `verify.py` (it comes with compliance-assets; the copy here comes from whoever made this bundle).
2. Take the one string that you hold: a head of the ledger (`SIZE:ROOT`) that was kept outside the provider, or the digest of the
   provider's first trust policy.
3. `python verify.py . --head SIZE:ROOT`     (Python 3.11 or later, nothing else)

It recomputes the tree, every signature, every gate's verdict from its findings and bounds, every approval and deployment, and names
every file as verified or uncovered. Exit 0 means that all of it holds.

| file | what it is | another tool that reads it |
|---|---|---|
| `checkpoint.note` | the signed head of the ledger (C2SP checkpoint) | Go `sumdb/note` |
| `entries/N.json` | entry N, byte for byte: a DSSE envelope around an in-toto statement | sha256(0x00 ‖ bytes) is its leaf (RFC 6962) |
| `proofs/N.tlog-proof` | entry N's way to that head, to hand one entry on alone | any C2SP tlog-proof reader |
| `attestations.intoto.jsonl` | the machine-signed statements as plain DSSE | securesystemslib, openssl over the PAE |
| `verdicts.intoto.jsonl` | the deployment gate's signed verdicts, each naming system and environment | any reader of SLSA VSAs |
| `anchors/witness-N.note` | the newest head that each witness outside the provider cosigned | any C2SP witness client |
| `trust/policy-N.json`, `trust/allowed_signers` | who was trusted, as the ledger says | `ssh-keygen -Y verify` |
| `artefacts/sha256/HEX` | what records name, each under its own sha256 | `sha256sum` |
| `sbom.cdx.json` | libraries and model of the last evaluated release (CycloneDX 1.6), recomputed from the records | any CycloneDX tool |
| `manifest.json` | every file with its sha256, and what was left out | any JSON tool |

Left out: {left_out}.
What no bundle can show: whether numbers were measured honestly at the source, and what happened after the newest head you hold.
This bundle shows evidence; it does not claim that the system conforms.
"""


@dataclass(frozen=True)
class Export:
    """What was written."""

    folder: Path
    system: str
    size: int
    root: str
    first_trust_policy: str
    files: int
    left_out: tuple[str, ...]
    """Digests of what records name and the bundle does not hold."""

    def as_json(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "system": self.system, "head": f"{self.size}:{self.root}",
                "first_trust_policy": self.first_trust_policy, "files": self.files, "not_included": list(self.left_out)}


def export(archive: Archive, system: str, folder: Path, *, with_data: bool = False) -> Export:
    """Write the bundle of one system into a new or empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Misused(f"{folder} is not an empty folder.", rule="export", value=str(folder), remedy="Name a new one with --into.")
    raw = archive.ledger.entries()
    entries = [verify_bundle.Entry(entry.index, entry.body) for entry in raw]
    if not any(entry.system == system for entry in entries):
        raise Misused(f"Nothing in the ledger is about {system!r}.", rule="export", value=system, remedy="Run it first.")
    files: dict[str, bytes] = {"checkpoint.note": archive.ledger.note.encode()}
    files |= {f"entries/{entry.index}.json": entry.body for entry in raw}
    files |= {f"anchors/witness-{number}.note": note for number, note in enumerate(anchors.newest_cosigned(archive, archive.in_force()))}
    named = verify_bundle.named_artefacts(entries, system, lambda digest: _parsed(archive, digest))
    kept = {digest: content for digest, where in named.items()
            if (with_data or not where.endswith(DATA)) and (content := _read(archive, digest)) is not None
            and (with_data or not content.startswith(TABLE))}
    files |= {f"artefacts/sha256/{digest}": content for digest, content in kept.items()}
    reigns = [(organisation.model_dump(mode="json"), str(organisation.digest)) for _, organisation in archive.reigns()]
    files |= verify_bundle.derived_files(entries, reigns)
    files |= verify_bundle.proofs([entry.body for entry in raw], [entry.index for entry in entries if entry.system in ("", system)],
                                  files["checkpoint.note"])
    files |= verify_bundle.sbom(entries, system, lambda digest: _parsed(archive, digest))
    files |= verify_bundle.verdicts(entries, system, lambda digest: _parsed(archive, digest))
    files["verify.py"] = verifier_program()
    missing = sorted(set(named) - set(kept))
    head = archive.ledger.head()
    data = sum(1 for digest in missing if named[digest].endswith(DATA))
    files["README.md"] = README.format(
        system=system, size=head.size, root=head.root.hex(),
        left_out=f"{data} tables of data (ask for them with --with-data) and {len(missing) - data} other artefacts; `manifest.json` lists "
                 "them" if missing else "nothing").encode()
    files["manifest.json"] = verify_bundle.manifest(system, head.size, head.root.hex(), reigns[0][1], files, missing)
    _write(folder, files)
    return Export(folder, system, head.size, head.root.hex(), reigns[0][1], len(files), tuple(missing))


def _read(archive: Archive, digest: str) -> bytes | None:
    """The artefact, or None if it is gone or others' bytes: the verifier lists it as not included."""
    try:
        return archive.artefacts.get_bytes(Digest.parse(digest))
    except ArtefactCorrupt:
        return None


def _parsed(archive: Archive, digest: str) -> Any:
    content = _read(archive, digest)
    try:
        return parse_canonical(content) if content is not None else None
    except ComplianceError:
        return None


def verifier_program() -> bytes:
    """The auditor's verifier as one file that needs the standard library alone: what it imports from us stands in place of the imports."""
    program = Path(verify_bundle.__file__).read_text(encoding="utf-8")
    parts = [Path(str(module.__file__)).read_text(encoding="utf-8")
             for module in (verify_signatures, verify_passkeys, alert_answers, deployments, change_judges, change_rules, change)]
    ours = r"^from (__future__|compliance_assets\.\S+) import .*\n"
    # A module that is called by its name is this very file then.
    theirs = [re.sub(r"^from compliance_assets\.\S+ import \w+ as (\w+)$", r"\1 = sys.modules[__name__]", part, flags=re.MULTILINE)
              for part in parts]
    inside = "\n\n".join(re.sub(ours, "", part, flags=re.MULTILINE) for part in theirs)
    before, _, rest = program.partition("# <ours>")
    _, end, after = rest.partition("# </ours>\n")
    assert end, "the verifier says where what it needs of ours belongs"
    return (before + inside + after).encode()


def _write(folder: Path, files: dict[str, bytes]) -> None:
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise HomeUnusable(f"{folder} cannot be written: {error.strerror}.", rule="export", value=str(folder),
                           remedy="Choose a folder with room that you may write, with --into.") from error


if __name__ == "__main__":  # python -m compliance_assets.governance.export > verify.py
    sys.stdout.buffer.write(verifier_program())
