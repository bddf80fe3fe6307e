"""A small lender whose model really answers: declared, trained, stored and served in seconds; healthy by default.

The server processes are real. The only thing replaced is the question put to the ledger, which has tests of its own: these
servers ask `ALLOWS`, a file in the home that lists the models that may answer.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance_assets.errors import OutOfTurn
from compliance_assets.evidence.artefacts import ArtefactStore
from compliance_assets.modelfile import store, trusted_types
from compliance_assets.policy.definition import Definition, load_definition
from compliance_assets.serving.spec import ServerSpec, take_snapshot
from compliance_assets.trust.canonical import Digest, sha256_bytes

TOKEN = "a-token-of-the-stop-switch"
FEATURES = '''
"""Features of the small lender."""

import polars as pl


def build(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select(
        (pl.col("debt") / pl.col("income")).alias("debt_to_income"),
        pl.col("years").cast(pl.Float64).alias("years_employed"),
        pl.col("housing").alias("home"),
        pl.col("guarantor").fill_null(False).alias("guaranteed"),
    )
'''
DECLARATION = """
system: small_lender
title: Small lender
provider: Example Lender
intended_purpose: Estimate whether a consumer loan is repaid, to support an officer.
risk: {annex_iii: "5(b)", basis: creditworthiness of natural persons}
aisdp: {reference: AISDP-small, module_2: docs/module-2.md}
data:
  source: {kind: parquet, path: raw.parquet, sha256: "ZEROS"}
  key: id
  target: {column: repaid, favourable: true}
  protected: {sex: {groups: [female, male]}}
  used_as_features: none
  split: {train: 0.6, validation: 0.2, holdout: 0.2, by: id, seed: 7}
  contract: expectations.json
  reference_population: {shares: {sex: {female: 0.5, male: 0.5}}, tolerance: 0.1, because: as in the region's census}
  minimum_cell: {rows: 10}
  provenance: {collected_by: tests, method: made up, period: "2026", original_purpose: tests, legal_basis: none needed,
               licence: none, contains_personal_data: false}
features:
  build: systems.small_lender.features:build
  proxy_review_above: 0.3
  proxy_because: a threshold for tests only
  registry:
    - {name: debt_to_income, dtype: float64, unit: ratio, range: [0, 100], from: [debt, income], nulls: refuse}
    - {name: years_employed, dtype: float64, unit: years, range: [0, 60], from: [years], nulls: refuse}
    - {name: home, dtype: category, unit: none, categories: [own, rent], from: [housing], nulls: refuse}
    - {name: guaranteed, dtype: bool, unit: none, from: [guarantor], nulls: refuse}
training:
  estimator: sklearn.ensemble.HistGradientBoostingClassifier
  hyperparameters: {max_iter: 10}
  seed: 7
  resources: {threads: 1, gpu: 0, pool: training}
  rationale: small and quick to train
evaluation:
  decision_threshold: 0.5
  performance: [{metric: roc_auc, at_least: 0.5, judged_on: point, because: better than a coin is enough here}]
  fairness:
    primary: selection_rate_ratio
    minimum_group: {rows: 10}
    bounds: [{metric: selection_rate_ratio, over: [sex], at_least: 0.5, judged_on: point, because: a bound for tests only}]
  robustness: [{metric: numeric_noise_decision_flip_rate, perturbation: numeric_noise, level: 0.1, at_most: 0.5, judged_on: point,
                because: a bound for tests only}]
  calibration: [{metric: brier_reliability, at_most: 0.5, judged_on: point, because: a bound for tests only}]
  drift: {against: [baseline], bounds: [{metric: psi, at_most: 5, judged_on: point, because: a bound for tests only}]}
  undecided: refuse
integration: {latency_p95_ms: 2000, latency_because: a slow shared machine, golden: golden.json, parity_rows: 50}
approval: {requires: [{role: owner, people: 1}], valid_for: 48h, separation: [distinct_people]}
deployment:
  environment: production
  steps:
    - {shadow: {requests: 20}}
    - {canary: {share: 0.5, requests: 20, minimum_group: 5}}
    - {full: {}}
  abort_when:
    - {metric: error_rate, above: 0.05}
    - {metric: latency_ratio_p95, above: 50}
    - {metric: selection_rate_ratio, below: 0.1, over: sex}
    - {metric: decision_flip_rate, above: 0.9}
    - {metric: unlogged_rate, above: 0.0}
  wait_seconds: 20
retraining: {on_new_data: false}
retention: {documentation_years: 10, operation_logs_months: 6}
residency: eu
"""


def _expect(kind: str, column: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_column_values_to_{kind}", "kwargs": {"column": column, **kwargs}}


CONTRACT = {"name": "small_lender", "expectations": [
    _expect("be_of_type", "id", type_="int64"), _expect("not_be_null", "id"),
    _expect("be_in_set", "sex", value_set=["female", "male"]), _expect("be_of_type", "repaid", type_="bool"),
    _expect("be_of_type", "debt", type_="float64"), _expect("be_between", "debt", min_value=0, max_value=5000),
    _expect("not_be_null", "debt"),
    _expect("be_of_type", "income", type_="float64"), _expect("be_between", "income", min_value=100, max_value=20000),
    _expect("not_be_null", "income"),
    _expect("be_of_type", "years", type_="int64"), _expect("be_between", "years", min_value=0, max_value=60),
    _expect("not_be_null", "years"),
    _expect("be_of_type", "housing", type_="str"), _expect("be_in_set", "housing", value_set=["own", "rent"]),
    _expect("not_be_null", "housing"),
    _expect("be_of_type", "guarantor", type_="bool"),
]}
ROW: dict[str, Any] = {"debt": 250.5, "income": 2000.0, "years": 4, "housing": "own", "guarantor": None}

_PROGRAM = """
import json, pathlib, sys
from compliance_assets.serving import server
sys.path.insert(0, {tests!r})
import small_server
sys.exit(server.main(sys.argv[1:], authorise=small_server.ask))
"""
COMMAND = (sys.executable, "-c", _PROGRAM.format(tests=str(Path(__file__).parent)))


def ask(spec: ServerSpec) -> object:
    """The ledger's place in these tests."""
    listed = Path(spec.home) / "ALLOWS"
    allowed = json.loads(listed.read_text()) if listed.is_file() else []
    if spec.model not in allowed:
        raise OutOfTurn(f"Model {spec.model[:12]} may not answer in {spec.environment}.", rule="serving authority",
                        value=spec.model, remedy="Deploy through the river.")
    return allowed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def people(count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Raw rows of made-up people, each within the contract; `sex` and `id` beside what the server takes."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return [{"id": i, "sex": ("female", "male")[i % 2], "debt": round(float(rng.uniform(0, 5000)), 2),
             "income": round(float(rng.uniform(100, 20000)), 2), "years": int(rng.integers(0, 61)),
             "housing": ("own", "rent")[int(rng.integers(0, 2))], "guarantor": (None, True, False)[int(rng.integers(0, 3))]}
            for i in range(count)]


def taken(row: dict[str, Any]) -> dict[str, Any]:
    """What the server takes of a person."""
    return {name: row[name] for name in ROW}


@dataclass(frozen=True)
class SmallLender:
    """A home with one declared system and as many trained models as asked for."""

    home: Path
    root: Path
    definition: Definition
    artefacts: ArtefactStore
    snapshot: Digest

    @classmethod
    def make(cls, folder: Path) -> SmallLender:
        system = folder / "systems" / "small_lender"
        system.mkdir(parents=True)
        (system / "system.yaml").write_text(DECLARATION.replace("ZEROS", "0" * 64))
        (system / "expectations.json").write_text(json.dumps(CONTRACT, indent=1))
        (system / "features.py").write_text(FEATURES)
        (system / "golden.json").write_text(json.dumps({"cases": []}))
        home = folder / ".compliance"
        home.mkdir()
        artefacts = ArtefactStore(home / "artefacts")
        definition = load_definition(system)
        return cls(home, folder, definition, artefacts, take_snapshot(definition, artefacts))

    def train(self, seed: int = 7, *, allowed: bool = True, kind: str = "trees") -> Digest:
        """A model that learned something; `allowed` to answer unless told otherwise."""
        import numpy as np
        from sklearn.ensemble import HistGradientBoostingClassifier

        from compliance_assets.features import serving_features

        rows = people(400, seed)
        frame = serving_features(self.definition, [taken(row) for row in rows])
        ratio = frame["debt_to_income"].to_numpy()
        labels = (ratio + np.random.default_rng(seed).normal(0, 0.3, len(ratio)) < np.median(ratio)).astype(int)
        model = HistGradientBoostingClassifier(max_iter=10, random_state=seed, categorical_features="from_dtype")
        content = store(model.fit(frame, labels))
        digest = self.artefacts.put_bytes(content)
        if allowed:
            self.allow(digest)
        return digest

    def allow(self, *models: Digest) -> None:
        """Say that these models may answer, beside those that may already."""
        path = self.home / "ALLOWS"
        before = json.loads(path.read_text()) if path.is_file() else []
        path.write_text(json.dumps([*before, *models]))

    def spec(self, model: Digest, **changed: Any) -> ServerSpec:
        types = trusted_types(self.artefacts.get_bytes(model)) if self.artefacts.exists(model) else ()
        given: dict[str, Any] = {
            "home": str(self.home), "root": str(self.root), "environment": "production", "purpose": "rollout",
            "server": "blue", "system": "small_lender", "release": sha256_bytes(b"release"), "model": model,
            "definition": self.definition.digest, "snapshot": self.snapshot, "trusted_types": types,
            "feature_names": tuple(f.name for f in self.definition.system.features.registry), "port": free_port(),
            "token": TOKEN, "authority": sha256_bytes(b"approval"), **changed}
        return ServerSpec.model_validate(given)


def requests(count: int, seed: int = 7) -> Iterator[dict[str, Any]]:
    """Bodies of POST /predict with one row and its monitoring group each."""
    for row in people(count, seed):
        yield {"rows": [taken(row)], "monitoring": [{"sex": row["sex"]}]}
