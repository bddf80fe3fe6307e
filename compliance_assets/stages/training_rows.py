"""What training may open: the training and validation rows of a feature set, and nothing else; and what of it was opened.

The holdout is out of reach because it is not among these files, not because nobody asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from compliance_assets.errors import StageError
from compliance_assets.evidence.artefacts import ArtefactStore
from compliance_assets.features import registered, registry_types
from compliance_assets.metrics.groups import coded
from compliance_assets.stages.mitigation import Rows
from compliance_assets.stages.s2_feature_engineering import FeatureSet, read_features, read_groups
from compliance_assets.trust.canonical import Digest

if TYPE_CHECKING:
    import polars as pl

    from compliance_assets.policy.system import Feature

Part = Literal["train", "validation", "holdout"]


class TrainingFiles(ArtefactStore):
    """The artefact store as training sees it: the training and validation files, nothing else; and what was opened."""

    def __init__(self, artefacts: ArtefactStore, features: FeatureSet) -> None:
        super().__init__(artefacts.root)
        self._roles = {digest: f"{part}/{what}" for part in ("train", "validation")
                       for what, digest in split_files(features, part).items()}
        self.opened: set[str] = set()

    def _admit(self, digest: str) -> None:
        if digest not in self._roles:
            raise StageError("Training asked for a file that is not among its own.", rule="isolation of the holdout", value=digest,
                             remedy="Train on train and validation only.")
        self.opened.add(digest)

    def get_bytes(self, digest: Digest) -> bytes:
        self._admit(digest)
        return super().get_bytes(digest)

    def open_path(self, digest: Digest) -> Path:
        self._admit(digest)
        return super().open_path(digest)

    def copy_to(self, digest: Digest, path: Path) -> None:
        self._admit(digest)
        super().copy_to(digest, path)

    def journal(self) -> dict[str, str]:
        """Role → digest of every file that was opened."""
        return {self._roles[digest]: digest for digest in sorted(self.opened, key=self._roles.__getitem__)}


def split_files(features: FeatureSet, part: Part) -> dict[str, str]:
    """The three files of one part, by what they hold."""
    files = features.splits[part]
    return {"features": files.features, "labels": files.labels, "groups": files.groups}


def read_rows(artefacts: ArtefactStore, features: FeatureSet, part: Part, registry: Sequence[Feature]) -> Rows:
    """One part as training and evaluation see it; every file is verified when it is opened.

    Types come from the registry, not from the feature report: that report describes the holdout too, and training must not
    open it.
    """
    import polars as pl

    frame = registered(read_features(artefacts, features, part), registry_types(registry))
    labels = pl.read_parquet(artefacts.open_path(Digest(features.splits[part].labels)))["label"].to_numpy()
    return rows_of(frame, labels, read_groups(artefacts, features, part))


def rows_of(frame: pl.DataFrame, labels: Any, groups: pl.DataFrame) -> Rows:
    """Features and groups (the key, then one column for each attribute) as columns, labels and keys as arrays."""
    key, *attributes = groups.columns
    return Rows(frame, np.asarray(labels), {name: coded(name, {name: groups[name]}) for name in attributes},
                groups[key].to_numpy())
