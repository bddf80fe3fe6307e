"""Public data through the river's computing stages, as declared systems: what must be read is read, what must stop stops."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compliance_assets.metrics.fairness import measure_fairness
from compliance_assets.policy.gates import Finding, GateReport, Verdict
from compliance_assets.stages import s1_data_preparation as s1
from compliance_assets.stages import s3_model_training as s3
from compliance_assets.stages import s4_model_evaluation as s4
from compliance_assets_tests.public_systems import DATA, PREDICTS_NOBODY, german, taiwan
from compliance_assets_tests.stages.preparing import Prepared, computed, failed, work_on

needs_german = pytest.mark.skipif(not (DATA / "german").is_dir(), reason=f"the German Credit data set is not in {DATA}")
needs_taiwan = pytest.mark.skipif(not (DATA / "taiwan_default").is_dir(), reason=f"the Taiwan card clients are not in {DATA}")


@dataclass(frozen=True)
class Run:
    """Stages 1 to 4 of one declared system, every gate judged."""

    prepared: Prepared
    features: dict[str, GateReport]
    training: dict[str, GateReport]
    evaluation: dict[str, GateReport]
    decisions: Any
    draft: Any
    inputs: dict[str, Any]

    def finding(self, id: str) -> Finding:
        return next(found for gate in self.evaluation.values() for found in gate.findings if found.id == id)


def prepared_in(folder: Path) -> Prepared:
    work = work_on(folder, folder.parents[1] / "store")
    work.scratch.mkdir(exist_ok=True)
    draft = s1.produce(work)
    return Prepared(work, draft, {report.gate: report for report in s1.judge(work, draft)})


def through(folder: Path) -> Run:
    import polars as pl

    done = prepared_in(folder)
    done.work.artefacts.put_bytes(done.dataset.manifest())
    features, judged = computed(done)
    candidate = s3.produce(done.work, features=features.value)  # type: ignore[arg-type]
    trained = {report.gate: report for report in s3.judge(done.work, candidate, features=features.value)}  # type: ignore[arg-type]
    inputs = {"candidate_model": candidate.value, "features": features.value}
    draft = s4.produce(done.work, **inputs)  # type: ignore[arg-type]
    evaluated = {report.gate: report for report in s4.judge(done.work, draft, **inputs)}  # type: ignore[arg-type]
    decisions = pl.read_parquet(done.work.artefacts.open_path(draft.value.scores))["decision"]  # type: ignore[attr-defined]
    return Run(done, judged, trained, evaluated, decisions, draft, inputs)


# -------------------------------------------------------------------------------------------------------------- German


@needs_german
def test_german_credit_passes_three_stages_and_its_group_of_37_is_insufficient_data(tmp_path: Path) -> None:
    run = through(german(tmp_path))
    assert run.prepared.failed() == {}
    assert run.prepared.dataset.groups == {"age_band": {"below_26": 190, "from_26": 810}, "foreign": {"A201": 963, "A202": 37}}
    assert failed(run.features) == {}
    assert failed(run.training) == {}
    assert run.evaluation["performance"]
    foreign = run.finding("fairness.foreign.selection_rate_ratio")
    assert foreign.verdict is Verdict.INSUFFICIENT_DATA
    assert "A202" in foreign.note
    assert not run.evaluation["fairness"]


@needs_german
def test_a_cell_below_the_declared_minimum_already_stops_the_data(tmp_path: Path) -> None:
    done = prepared_in(german(tmp_path, **{"data.minimum_cell": {"rows": 50, "positives": 20, "negatives": 4}}))
    assert done.failed() == {"cell_sizes": ["cell_sizes.foreign.A202"]}


@needs_german
@pytest.mark.parametrize(("cut", "ratio", "reaches"), [(26, (110 / 190) / (590 / 810), False), (25, (88 / 149) / (612 / 851), True)])
def test_the_prepared_german_labels_stand_on_either_side_of_four_fifths_by_the_cut(tmp_path: Path, cut: int, ratio: float, reaches: bool) -> None:
    shares = {"age_band": {f"below_{cut}": 0.17, f"from_{cut}": 0.83}}
    done = prepared_in(german(tmp_path, **{"data.protected.age_band.cuts": [cut], "data.reference_population.shares": shares, "data.reference_population.tolerance": 0.03}))
    assert done.failed() == {}
    import polars as pl

    rows = pl.concat([s1.read_part(done.work.artefacts, done.dataset, part) for part in ("train", "validation", "holdout")])
    good = (rows["risk"] == "1").to_numpy().astype(int)
    measured = measure_fairness(("selection_rate_ratio",), good, good, {"age_band": rows["group.age_band"]}, ("age_band",))[0]
    assert measured.value is not None
    assert measured.value == ratio  # .7948 and .8212
    assert (measured.value >= 0.80) is reaches


# -------------------------------------------------------------------------------------------------------------- Taiwan


@needs_taiwan
def test_taiwans_file_of_carriage_returns_is_read_whole_and_has_the_published_rates(tmp_path: Path) -> None:
    done = prepared_in(taiwan(tmp_path))
    assert done.failed() == {}
    assert done.dataset.rows == 30_000
    assert done.dataset.groups == {"sex": {"1": 11_888, "2": 18_112}}
    import polars as pl

    rows = pl.concat([s1.read_part(done.work.artefacts, done.dataset, part) for part in ("train", "validation", "holdout")])
    rates = dict(rows.group_by("SEX").agg((pl.col("default.payment.next.month") == "1").mean()).iter_rows())
    assert {sex: f"{rate:.4f}" for sex, rate in sorted(rates.items())} == {"1": "0.2417", "2": "0.2078"}


@needs_taiwan
def test_a_model_that_predicts_nobody_to_default_does_not_pass_on_accuracy(tmp_path: Path) -> None:
    run = through(taiwan(tmp_path, **PREDICTS_NOBODY))
    assert run.prepared.failed() == {}
    assert failed(run.training) == {}
    assert float(run.decisions.mean()) > 0.999
    assert run.finding("performance.accuracy").verdict is Verdict.PASS  # 78 in 100 are right, as declared
    assert failed({"performance": run.evaluation["performance"]}) == {"performance": ["performance.accuracy.above_constant"]}


@needs_taiwan
def test_a_model_that_sees_who_defaults_passes_on_the_same_bound(tmp_path: Path) -> None:
    run = through(taiwan(tmp_path))
    assert failed({"performance": run.evaluation["performance"]}) == {}
    assert run.finding("performance.accuracy.above_constant").verdict is Verdict.PASS
