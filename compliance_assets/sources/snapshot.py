"""A snapshot is a table as its source gave it, with the digest that says which table it was.

What every kind of source shares lives here: the value they return, where declared paths are looked up, and how the bytes
of a file are held against the declared sha256 before anything parses them (Art. 10(2)(b), Art. 15(5): the data that was
promised, not the data that happens to lie there).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compliance_assets.errors import SourceError
from compliance_assets.trust.canonical import Digest, sha256_bytes

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Snapshot:
    """`frame`: the raw rows. `digest`: of the raw bytes, or of the rows where there are no bytes (SQL, simulator).

    `description`: one sentence for the quality report; never a password, never a path outside the repository.
    """

    frame: pl.DataFrame
    digest: Digest
    description: str


def located(path: str, folder: Path, root: Path) -> Path:
    """The declared file: beside `system.yaml`, or below the folder above `systems/`. SourceError if it is in neither."""
    for base in (folder, root):
        candidate = base / path
        if candidate.is_file():
            return candidate
    raise SourceError(
        f"The source file {path} is not there.", rule="source file exists", value=path,
        remedy=f"Put it below {folder.name}/ (beside system.yaml) or below the folder above systems/; "
               "the system's README says where it comes from.",
    )


def verified_bytes(path: Path, declared: str, name: str) -> bytes:
    """The file's bytes, read once, if their sha256 is the declared one. What is parsed later is these very bytes."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"The source file {name} cannot be read: {error.strerror}.", rule="source file is readable",
                          value=name, remedy="Check its permissions.") from error
    require_digest(sha256_bytes(content), declared, name)
    return content


def require_digest(found: Digest, declared: str, name: str) -> None:
    """Refuse, with both digests, unless they are the same."""
    if found != declared:
        raise SourceError(
            f"{name} is not the declared data: expected {declared}, found {found}.", rule="declared digest",
            value=str(found),
            remedy="Restore the declared data. If the change is intended, declare the new digest and have the "
                   "definition approved.",
        )


def require_rows(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The frame, if it holds at least one row, one column, and no column name twice (polars guarantees the last)."""
    if frame.height == 0 or frame.width == 0:
        raise SourceError(f"{name} holds no data: {frame.height} rows, {frame.width} columns.", rule="source has rows",
                          value=f"{frame.height}x{frame.width}", remedy="Check the export that produced it.")
    return frame


def require_distinct(columns: tuple[str, ...], name: str) -> None:
    """Refuse empty and repeated column names: the second one would silently win or be renamed."""
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice or "" in columns:
        raise SourceError(
            f"{name} has {'an unnamed column' if not twice else 'repeated column names: ' + ', '.join(twice)}.",
            rule="column names are distinct", value=", ".join(twice), remedy="Name every column once.",
        )
