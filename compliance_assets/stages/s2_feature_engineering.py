"""Stage 2 turns the dataset into the features that a model may see, and shows that a server will compute the very same.

What happens, in order: for each part, the raw columns that the registry names (no label, no protected attribute unless declared)
go through the system's own `build`; labels become 1 where the outcome is favourable (`outcomes`); features, labels and groups are kept as
three row-aligned files. Then it is written down which feature comes from which column, what range it has, what is missing, and how
strongly it goes together with a protected attribute.

Refused (a gate fails) when names, order or types are not those of the registry, a feature is not registered, a value leaves its
documented range, something is missing where it must not be, a protected attribute enters without a declared reason, a proxy is not
assessed, a value was known too late or tells the outcome (where that is declared), or single rows
give other features than the whole. Supports AI Act Art. 10(2)(c), 10(2)(f), Annex IV(2)(b), 2(d).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import BaseModel, ConfigDict

from compliance_assets.errors import StageError
from compliance_assets.features import compute, feature_type, registered, source_columns
from compliance_assets.policy.gates import GateReport, conclude
from compliance_assets.policy.river import rule_named
from compliance_assets.sources.partition import PARTS, group_column
from compliance_assets.stages import outcomes, s2_gates
from compliance_assets.stages.outcomes import learned
from compliance_assets.stages.s1_data_preparation import Dataset, parquet_bytes, read_part
from compliance_assets.stages.side_by_side import side_by_side
from compliance_assets.stages.stage import Draft, Stage, Value, Work
from compliance_assets.trust.canonical import Digest, canonical_json, decimal_string, parse_canonical

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from compliance_assets.evidence.artefacts import ArtefactStore
    from compliance_assets.policy.system import Features

RULE = rule_named("feature_engineering")


class FeatureFiles(BaseModel):
    """One part, three files with the same rows in the same order (by key): sha256 of each, and the number of rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    features: str
    labels: str
    groups: str
    rows: int


class FeatureSet(Value):
    """The features of every row of a dataset. `names` in registry order; `dataset` is the digest of what they come from."""

    dataset: str
    names: tuple[str, ...]
    splits: dict[str, FeatureFiles]
    report: str

    def files(self) -> Mapping[str, str]:
        return {f"features/{part}.{kind}.parquet": getattr(self.splits[part], kind)
                for part in PARTS for kind in ("features", "labels", "groups")} | {"features/report.json": self.report}


def produce(work: Work, dataset: Dataset) -> Draft:
    """Compute, align, keep, measure. `StageError` when the features cannot be computed at all."""
    started = time.perf_counter()
    system = work.definition.system
    registry = system.features.registry
    built: dict[str, pl.DataFrame] = {}
    splits: dict[str, FeatureFiles] = {}
    for part in PARTS:
        raw = read_part(work.artefacts, dataset, part)
        frame = compute(work.definition, raw)
        built[part] = frame
        # What is stored is what a model may see: registered features, in registry order. What else was built is in the report.
        present = frame.select([feature.name for feature in registry if feature.name in frame.columns])
        good = learned(raw[system.data.target.column], system.data.target)
        if good.null_count():
            raise StageError(f"{good.null_count()} rows of {part} have no label.", rule="labels are complete",
                             value=str(good.null_count()), remedy="The label gate of stage 1 refuses such data; prepare it again.")
        attributes = {attribute: raw[group_column(attribute)] for attribute in system.data.protected}
        groups = raw.select(system.data.key).with_columns(**attributes)
        splits[part] = FeatureFiles(
            features=_keep(work, _as_text(present)), labels=_keep(work, good.to_frame()),
            groups=_keep(work, groups), rows=raw.height,
        )
        work.tell("computed", part=part, rows=raw.height, features=present.width)
    value = FeatureSet(
        system=system.system, dataset=str(dataset.digest),
        names=tuple(feature.name for feature in registry if feature.name in built["train"].columns),
        splits=splits, report=str(work.artefacts.put_bytes(canonical_json(_report(work, dataset, built, splits)))),
    )
    return Draft(value, {"seconds": decimal_string(round(time.perf_counter() - started, 3))})


def judge(work: Work, draft: Draft, dataset: Dataset) -> Iterator[GateReport]:
    """The eight gates of stage 2, from the sealed files and the declaration now in force."""
    value = cast(FeatureSet, draft.value)
    system = work.definition.system
    report = parse_canonical(work.artefacts.get_bytes(Digest(value.report)))
    stored = {part: read_features(work.artefacts, value, part) for part in PARTS}
    groups = read_groups(work.artefacts, value, "train").drop(system.data.key)
    summarised = s2_gates.summaries(stored.values(), system.features)
    findings = (
        s2_gates.schema(report, value, stored, dataset, system),
        s2_gates.registered(report, system.features),
        s2_gates.ranges(summarised, system.features),
        s2_gates.nulls(summarised, system.features),
        s2_gates.prohibited(system),
        s2_gates.proxies(report["proxies"], stored["train"], groups, system.features),
        s2_gates.leakage(work, dataset, stored["train"], _training_labels(work, value)),
        s2_gates.parity(work, dataset, stored),
    )
    for gate, found in zip(RULE.gates, findings, strict=True):
        yield conclude(gate.name, gate.version, found)


def _training_labels(work: Work, value: FeatureSet) -> NDArray[np.int64]:
    """1 where the outcome of a training row is favourable, else 0; (n,)."""
    import polars as pl

    labels = pl.read_parquet(work.artefacts.open_path(Digest(value.splits["train"].labels)))["label"].to_numpy()
    return outcomes.good(labels, work.definition.system.data.target).astype(np.int64)


def load_features(artefacts: ArtefactStore, features: FeatureSet,
                  split: str) -> tuple[pl.DataFrame, NDArray[Any], pl.DataFrame]:
    """One part, ready to learn from or to judge by: (X, y, groups), rows aligned and sorted by key.

    X: (n, features) in registry order and registered types, categories as Enum. y: (n,) as it is learned (`outcomes`).
    groups: (n, 1 + attributes): the key, then one text column per protected attribute.
    """
    import polars as pl

    report = parse_canonical(artefacts.get_bytes(Digest(features.report)))
    types = tuple((item["name"], feature_type(item["dtype"], item["categories"])) for item in report["registry"])
    frame = registered(read_features(artefacts, features, split), types)
    labels = pl.read_parquet(artefacts.open_path(Digest(features.splits[split].labels)))["label"].to_numpy()
    return frame, labels, read_groups(artefacts, features, split)


def read_features(artefacts: ArtefactStore, features: FeatureSet, split: str) -> pl.DataFrame:
    """The stored features of one part as they are: categories as text, whether registered or not."""
    import polars as pl

    return pl.read_parquet(artefacts.open_path(Digest(features.splits[split].features)))


def read_groups(artefacts: ArtefactStore, features: FeatureSet, split: str) -> pl.DataFrame:
    """The key and the protected groups of one part."""
    import polars as pl

    return pl.read_parquet(artefacts.open_path(Digest(features.splits[split].groups)))


def _as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Categories as text, so that a value outside the registry is kept for the gate to find."""
    import polars as pl

    return frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def _keep(work: Work, frame: pl.DataFrame) -> str:
    return str(work.artefacts.put_bytes(parquet_bytes(frame)))


def _report(work: Work, dataset: Dataset, built: Mapping[str, pl.DataFrame],
            splits: Mapping[str, FeatureFiles]) -> dict[str, Any]:
    import polars as pl

    features: Features = work.definition.system.features
    groups = pl.read_parquet(work.artefacts.open_path(Digest(splits["train"].groups)))
    train = _as_text(built["train"])

    def values_of(frame: pl.DataFrame) -> dict[str, Any]:
        text = _as_text(frame)
        return {feature.name: s2_gates.summary(text[feature.name], feature)
                for feature in features.registry if feature.name in text.columns}

    return {
        "report": "features", "version": 1, "system": work.definition.system.system, "dataset": str(dataset.digest),
        "code": features.build,
        "registry": [{"name": feature.name, "dtype": feature.dtype, "unit": feature.unit, "nulls": feature.nulls,
                      "categories": list(feature.categories or ())} for feature in features.registry],
        "built": {part: [{"name": name, "dtype": str(dtype)} for name, dtype in frame.schema.items()]
                  for part, frame in built.items()},
        "values": dict(zip(built, side_by_side(values_of, built.values()), strict=True)),
        "proxies": s2_gates.associations(train, groups.drop(work.definition.system.data.key), features),
        "step": {
            "before": {"code": features.build, "purpose": " ".join(
                (work.definition.load_code(features.build).__doc__ or "not documented").split()),
                "columns": list(source_columns(features.registry)), "rows": {part: dataset.splits[part].rows for part in PARTS},
                "expected": [feature.name for feature in features.registry], "validated_by": "the feature registry"},
            "after": {"columns": {part: frame.columns for part, frame in built.items()},
                      "rows": {part: frame.height for part, frame in built.items()},
                      "groups": "rows are kept one for one, so group shares and label rates are those of the dataset"}},
        "lineage": {feature.name: {"columns": list(feature.from_), "code": features.build} for feature in features.registry},
    }


STAGE = Stage(RULE, FeatureSet, produce, judge)
