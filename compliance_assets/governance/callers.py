"""Rows as callers would send them, taken from a registered dataset: for demonstrations and load on this machine."""

from __future__ import annotations

from typing import Any

from compliance_assets.errors import OutOfTurn
from compliance_assets.pipeline import River, published
from compliance_assets.serving.interface import needed_columns
from compliance_assets.sources.partition import group_column
from compliance_assets.stages.s1_data_preparation import Dataset
from compliance_assets.trust.canonical import Digest


def callers(river: River, system: str, part: str, count: int) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """`count` rows of a part of the latest dataset that passed, and each row's protected groups (for monitoring only)."""
    import polars as pl

    digest = river.head(system, "dataset")
    if digest is None:
        raise OutOfTurn(f"{system} has no dataset that passed.", rule="evidence", value=system,
                        remedy=f"Run it first: `compliance run {system}`.")
    published(river, system, "dataset", digest)
    dataset = river.value("dataset", digest)
    assert isinstance(dataset, Dataset)
    declared = river.definition(system).system
    frame = pl.read_parquet(river.archive.artefacts.open_path(Digest.parse(dataset.splits[part].file))).head(count)
    groups = frame.select([pl.col(group_column(name)).alias(name) for name in declared.data.protected])
    return frame.select(needed_columns(declared)).to_dicts(), groups.to_dicts()
