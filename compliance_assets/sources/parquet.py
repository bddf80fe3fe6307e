"""One parquet file, read only after its bytes have the declared sha256."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from compliance_assets.errors import SourceError
from compliance_assets.policy.system import ParquetSource
from compliance_assets.sources.snapshot import Snapshot, located, require_rows, verified_bytes
from compliance_assets.trust.canonical import Digest

if TYPE_CHECKING:
    import polars as pl


def fetch_parquet(source: ParquetSource, *, folder: Path, root: Path) -> Snapshot:
    """The whole file. SourceError: missing, other bytes than declared, not parquet, no rows."""
    content = verified_bytes(located(source.path, folder, root), source.sha256, source.path)
    frame = require_rows(parse_parquet(content, source.path), source.path)
    return Snapshot(frame, Digest(source.sha256), f"parquet {source.path}: {frame.height} rows, {frame.width} columns")


def parse_parquet(content: bytes, name: str) -> pl.DataFrame:
    """The frame in these bytes. `name` is for the refusal."""
    import polars as pl

    try:
        return pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(f"{name} is not a parquet file: {str(error).splitlines()[0]}.", rule="source parses", value=name,
                          remedy="Write it again as parquet.") from error
