"""A bench on which stages 3 and 4 stand alone: the small lender's declaration, and a feature set laid out by hand.

Rows come from the lender's own simulator and `build`, but without stages 1 and 2: no contract is run, nothing is signed.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import polars as pl

from compliance_assets.evidence.artefacts import ArtefactStore
from compliance_assets.evidence.home import Home
from compliance_assets.features import compute, registered, registry_types
from compliance_assets.policy.definition import Definition, load_definition
from compliance_assets.policy.gates import GateReport
from compliance_assets.sources.partition import derived, favourable
from compliance_assets.stages import s3_model_training as s3
from compliance_assets.stages import s4_model_evaluation as s4
from compliance_assets.stages.s1_data_preparation import parquet_bytes
from compliance_assets.stages.s2_feature_engineering import FeatureFiles, FeatureSet
from compliance_assets.stages.stage import Draft, Driver, Work
from compliance_assets.trust.canonical import canonical_json
from compliance_assets_tests.small_lender import write_small_lender

PARTS = {"train": slice(0, 600), "validation": slice(600, 900), "holdout": slice(900, 1500)}


@dataclass
class Bench:
    """One declaration with its feature set, and what the stages need to work on it."""

    definition: Definition
    home: Home
    features: FeatureSet
    references: dict[str, str] = field(default_factory=dict)
    run: str = "run-1"
    told: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    @property
    def work(self) -> Work:
        def tell(event: str, **facts: object) -> None:
            self.told.append((event, facts))

        scratch = self.home.path / "scratch"
        scratch.mkdir(exist_ok=True)
        return Work(definition=self.definition, artefacts=self.artefacts, scratch=scratch, tell=tell,
                    driver=Driver(self.run, "tester"), home=self.home, organisation=cast(Any, None), archive=cast(Any, None),
                    now=lambda: dt.datetime(2026, 11, 25, tzinfo=dt.UTC), references=self.references)

    @property
    def artefacts(self) -> ArtefactStore:
        return ArtefactStore(self.home.artefacts)

    def trained(self) -> Draft:
        return s3.produce(self.work, features=self.features)

    def training_gates(self, draft: Draft) -> dict[str, GateReport]:
        return {report.gate: report for report in s3.judge(self.work, draft, features=self.features)}

    def evaluated(self, candidate: s3.CandidateModel) -> Draft:
        return s4.produce(self.work, candidate_model=candidate, features=self.features)

    def evaluation_gates(self, draft: Draft, candidate: s3.CandidateModel) -> dict[str, GateReport]:
        return {report.gate: report for report in s4.judge(self.work, draft, candidate_model=candidate, features=self.features)}


def bench(root: Path, *, frames: dict[str, pl.DataFrame] | None = None, home: Home | None = None, **changes: Any) -> Bench:
    """The small lender with these changes of its declaration; `frames`: raw rows of each part instead of the simulator's."""
    definition = load_definition(write_small_lender(root, **changes))
    place = home or Home(root / "home")
    place.mlflow_artifacts.mkdir(parents=True, exist_ok=True)
    features = laid_out(ArtefactStore(place.artefacts), definition, frames or raw_parts(definition))
    return Bench(definition, place, features)


def raw_parts(definition: Definition) -> dict[str, pl.DataFrame]:
    """1500 simulated rows as 600, 300 and 600."""
    source = definition.system.data.source
    rows = definition.load_code(source.build)(rows=1500, seed=source.seed, **source.knobs)
    frame = rows.collect() if isinstance(rows, pl.LazyFrame) else rows
    return {part: frame[place] for part, place in PARTS.items()}


def laid_out(store: ArtefactStore, definition: Definition, frames: dict[str, pl.DataFrame]) -> FeatureSet:
    """The feature set of these raw rows, as stage 2 lays it out."""
    system, splits = definition.system, {}
    for part, raw in frames.items():
        ordered = raw.sort(system.data.key)
        features = registered(compute(definition, ordered), registry_types(system.features.registry))
        label = favourable(ordered[system.data.target.column], system.data.target.favourable).cast(pl.Int8).alias("label")
        groups = ordered.select(system.data.key).with_columns(
            derived(ordered, name, declared).rename(name) for name, declared in system.data.protected.items())
        keep = [features.with_columns(pl.col(pl.Enum).cast(pl.String)), label.to_frame(), groups]
        files = [store.put_bytes(parquet_bytes(frame)) for frame in keep]
        splits[part] = FeatureFiles(features=files[0], labels=files[1], groups=files[2], rows=ordered.height)
    report = {"registry": [{"name": f.name, "dtype": f.dtype, "categories": list(f.categories or ())}
                           for f in system.features.registry]}
    return FeatureSet(system=system.system, dataset="0" * 64, names=tuple(f.name for f in system.features.registry), splits=splits,
                      report=store.put_bytes(canonical_json(report)))
