"""Where does data come from?

Files (csv, parquet), a database (sql), a public repository (openml), or a documented model of a world (simulator). What
lives here: getting exactly the declared data, or a `SourceError` that says what is wrong and what to do. What does not:
cleaning (the system's own `prepare`), judging (stage 1), keeping (the artefact store).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from compliance_assets.policy.system import (
    CsvSource,
    OpenmlSource,
    ParquetSource,
    SimulatorSource,
    Source,
    SqlSource,
)
from compliance_assets.sources.snapshot import Snapshot
from compliance_assets.trust.canonical import Digest

__all__ = ["Snapshot", "declared_digest", "fetch"]


def fetch(source: Source, *, folder: Path, root: Path, scratch: Path,
          load_code: Callable[[str], Callable[..., Any]]) -> Snapshot:
    """The declared data, verified before it is parsed.

    `folder`: the system's own, `root`: the one above `systems/`; declared paths are looked up in this order. `scratch`
    may hold downloads. `load_code` turns `module:function` into the function (simulators).
    """
    if isinstance(source, CsvSource):
        from compliance_assets.sources.csv import fetch_csv

        return fetch_csv(source, folder=folder, root=root)
    if isinstance(source, ParquetSource):
        from compliance_assets.sources.parquet import fetch_parquet

        return fetch_parquet(source, folder=folder, root=root)
    if isinstance(source, SqlSource):
        from compliance_assets.sources.sql import fetch_sql

        return fetch_sql(source, folder=folder, root=root)
    if isinstance(source, OpenmlSource):
        from compliance_assets.sources.openml import fetch_openml

        return fetch_openml(source, scratch=scratch)
    from compliance_assets.sources.simulator import fetch_simulator

    return fetch_simulator(source, load_code=load_code)


def declared_digest(source: Source) -> Digest | None:
    """The digest that the declaration pins, without reading any data; None for a simulator, whose code is pinned instead."""
    if isinstance(source, CsvSource):
        from compliance_assets.sources.csv import csv_digest

        return csv_digest(source)
    if isinstance(source, ParquetSource | OpenmlSource):
        return Digest(source.sha256)
    if isinstance(source, SqlSource):
        return Digest(source.dataset_digest)
    assert isinstance(source, SimulatorSource)
    return None
