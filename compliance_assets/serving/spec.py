"""What a server is started with: which version, for what purpose, from which evidence, on which port.

A spec is a JSON file that only its owner can read (it holds the token of the stop switch). It names everything by digest;
the server believes none of it: it checks the bytes, and asks the ledger whether this version may answer here.
The files of the definition travel as a *snapshot* in the artefact store, so that a server restarted years later runs the
code that was approved, not the code that stands in the working tree by then.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compliance_assets.errors import ArtefactCorrupt, ServingError
from compliance_assets.trust.canonical import Digest, canonical_json, parse_canonical, sha256_bytes

if TYPE_CHECKING:
    from compliance_assets.evidence.artefacts import ArtefactStore
    from compliance_assets.policy.definition import Definition

SHA256 = r"^[0-9a-f]{64}$"
LARGEST_FILE = 8 * 1024 * 1024
MOST_FILES = 500
_PASSED_OVER = ("__pycache__",)


class ServerSpec(BaseModel):
    """Everything one server process needs. Frozen; unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: str
    root: str
    """The project folder: `organisation.yaml` and `systems/` stand in it."""
    environment: str
    purpose: Literal["integration", "rollout"]
    server: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$", description="blue, green or integration: names the log")
    system: str
    release: str
    model: str = Field(pattern=SHA256)
    definition: str = Field(pattern=SHA256)
    snapshot: str = Field(pattern=SHA256)
    trusted_types: tuple[str, ...]
    feature_names: tuple[str, ...]
    port: int = Field(ge=1, le=65535)
    host: Literal["127.0.0.1"] = "127.0.0.1"
    token: str = Field(min_length=16, description="of the stop switch")
    authority: str
    """Digest of the approval or the staged model that the server's right to answer rests on; told, then checked."""

    @property
    def folder(self) -> Path:
        """Where this environment's logs, switch and snapshots lie."""
        return Path(self.home) / "serving" / self.environment

    def write(self, path: Path) -> Path:
        """Write it so that only its owner can read it."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(self.model_dump_json(indent=1))
        return path

    @classmethod
    def read(cls, path: Path) -> ServerSpec:
        try:
            return cls.model_validate(json.loads(path.read_bytes()))
        except (OSError, ValueError, ValidationError) as error:
            raise ServingError(f"{path.name} is not the spec of a server: {str(error).splitlines()[0]}.", rule="server spec",
                               value=str(path), remedy="Let `compliance serve` or stage 6 write it.") from error


def take_snapshot(definition: Definition, artefacts: ArtefactStore) -> Digest:
    """Store every file of a system's folder by digest; returns the digest of the list. Same files, same digest."""
    root = definition.root
    found: dict[str, str] = {}
    packages = [folder / "__init__.py" for folder in (definition.folder, *definition.folder.parents)
                if folder != root and root in folder.parents]
    for path in (*sorted(definition.folder.rglob("*")), *packages):
        name = path.relative_to(root)
        if path.is_symlink() or not path.is_file() or any(p in _PASSED_OVER or p.startswith(".") for p in name.parts):
            continue
        if path.stat().st_size > LARGEST_FILE or len(found) >= MOST_FILES:
            raise ServingError(f"{name} is too large to travel with the definition.", rule="definition snapshot", value=str(name),
                               remedy=f"Keep data out of systems/: at most {MOST_FILES} files of {LARGEST_FILE >> 20} MiB.")
        found[name.as_posix()] = artefacts.put_bytes(path.read_bytes())
    return artefacts.put_bytes(canonical_json({"folder": definition.folder.relative_to(root).as_posix(), "files": found}))


def restore_snapshot(snapshot: Digest, artefacts: ArtefactStore, into: Path) -> Path:
    """Lay a snapshot out under `into`; returns the system's folder. Files already there must have the right bytes."""
    listed: dict[str, Any] = parse_canonical(artefacts.get_bytes(snapshot))
    for name, digest in listed["files"].items():
        target = into / name
        if into.resolve() not in target.resolve().parents:
            raise ArtefactCorrupt(f"A definition snapshot names a file outside itself: {name}.", rule="definition snapshot",
                                  value=name, remedy="Do not use it: it was not written by this program.")
        content = artefacts.get_bytes(Digest.parse(digest))
        if target.is_file() and sha256_bytes(target.read_bytes()) == digest:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        unfinished.write_bytes(content)
        unfinished.replace(target)
    return into / str(listed["folder"])
