"""Where the lines of an inference log lie: in the journals of open days, and in one sealed parquet file for each day that is over.

A day counts as sealed from the moment its manifest is there; journals of that day beside it are then what a crash left behind, and
are not read twice. A sealed file is read only if it has the digest that its manifest names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compliance_assets.errors import UntrustedEvidence
from compliance_assets.trust.canonical import sha256_file

KINDS = ("decisions", "inputs")


def manifest_of(folder: Path, day: str) -> Path:
    return folder / f"sealed-{day}.json"


def day_of(path: Path) -> str:
    """`decisions-2026-11-25-…` and `inputs-2026-11-25.parquet` are both of that day."""
    return path.name.partition("-")[2][:10]


def files(log: Path, kind: str, since: str = "", day: str = "") -> Iterator[Path]:
    """The files of one kind below `log` (or that one file), by folder and name; only days from `since` on, only `day` if given."""
    if log.is_file():
        yield log
        return
    for path in sorted(log.rglob(f"{kind}-*")):
        sealed = manifest_of(path.parent, day_of(path)).is_file()
        if path.suffix == (".parquet" if sealed else ".jsonl") and (not since or day_of(path) >= since[:10]) \
                and day in ("", day_of(path)):
            yield path


def holds(path: Path, text: str) -> bool:
    """Whether it is worth reading a file for this text; a sealed one is always read."""
    return path.suffix == ".parquet" or text.encode() in path.read_bytes()


def bodies(path: Path) -> Iterator[dict[str, Any]]:
    """What was logged in a file, in order. A torn last line is what a crash leaves and is passed over; anything else refuses."""
    yield from _sealed(path) if path.suffix == ".parquet" else _journal(path)


def _journal(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.endswith(b"\n"):
                return
            try:
                body = json.loads(line)
            except ValueError:
                body = None
            if not isinstance(body, dict):
                raise _not_logged(f"Line {number} of {path.name}", f"{path}:{number}")
            yield body


def _sealed(path: Path) -> Iterator[dict[str, Any]]:
    import polars as pl

    manifest = json.loads(manifest_of(path.parent, day_of(path)).read_bytes())
    if manifest["files"][path.name]["sha256"] != sha256_file(path):
        raise _not_logged(f"The sealed {path.name}", str(path))
    for line in pl.read_parquet(path)["line"]:
        yield json.loads(line)


def _not_logged(what: str, value: str) -> UntrustedEvidence:
    return UntrustedEvidence(f"{what} is not what was logged.", rule="inference log", value=value,
                             remedy="Restore the file from its copy; do not edit logs.")
