"""Stage 4, Model Evaluation: CandidateModel + FeatureSet → EvaluationReport.

Scores the holdout, which nothing before has opened for learning, and holds what it finds against the bounds that were declared
beforehand (Art. 9(8)): performance, then fairness, robustness, calibration, and drift against the model in production and the
one first assessed. The first gate that may not be passed halts the later ones. Performance is judged on the unfavourable end of
the 95 % interval; fairness is INCONCLUSIVE while the interval straddles its bound; what cannot be measured is an ERROR.
Art. 9(6), Art. 9(8), Art. 10(2)(f)-(g), Art. 13(3)(b)(ii), Art. 15(1)-(4), Annex IV(2)(g), Annex IV(3).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, cast

import numpy as np

from compliance_assets.errors import OutOfTurn
from compliance_assets.metrics.clusters import Clusters
from compliance_assets.modelfile import favourable_scores
from compliance_assets.policy.gates import Finding, GateReport, conclude
from compliance_assets.policy.river import rule_named
from compliance_assets.stages import outcomes, s4_drift, s4_gates, s4_holdout, s4_robustness, s4_slices
from compliance_assets.stages.evaluation_report import measured, robustness_curve
from compliance_assets.stages.s1_data_preparation import parquet_bytes
from compliance_assets.stages.s2_feature_engineering import FeatureSet, load_features
from compliance_assets.stages.s3_model_training import CandidateModel, open_model
from compliance_assets.stages.stage import Draft, Report, Stage, Work
from compliance_assets.stages.training_rows import rows_of
from compliance_assets.trust.canonical import canonical_json, decimal_string

if TYPE_CHECKING:
    from compliance_assets.policy.system import System

RULE = rule_named("model_evaluation")
_GATES = {gate.name: gate.version for gate in RULE.gates}


class EvaluationReport(Report):
    """What was measured on the holdout, and how every gate was judged."""

    candidate: str
    features: str
    scores: str
    """Parquet: key, label (1 favourable), score, decision of every holdout row, in the order of the key; of several classes or a
    number also the outcome, and each class's probability."""
    report: str
    """Digest of the full measurements, JSON."""

    def files(self) -> Mapping[str, str]:
        return {"evaluation/scores.parquet": self.scores, "evaluation/report.json": self.report}


def produce(work: Work, *, candidate_model: CandidateModel, features: FeatureSet) -> Draft:
    """Score the holdout and measure what does not depend on a bound."""
    import polars as pl

    if candidate_model.features != features.digest:
        raise OutOfTurn("The candidate was trained on another feature set.", rule="one release", value=candidate_model.features,
                        remedy="Evaluate it on the holdout of its own feature set.")
    system, started = work.definition.system, time.perf_counter()
    rows = rows_of(*load_features(work.artefacts, features, "holdout"))
    estimator = open_model(work.artefacts, candidate_model)
    score = favourable_scores(estimator, rows.frame)
    finite = np.isfinite(score)
    decided = finite & (np.where(finite, score, 0.0) >= system.evaluation.decision_threshold)
    # A score that is not a number decides nothing: its decision is null, and the gates answer ERROR.
    target = system.data.target
    label = outcomes.good(rows.labels, target)
    table = outcomes.class_table(estimator, rows.frame, target) if target.task == "multiclass" else None
    frame = pl.DataFrame({system.data.key: rows.keys, "label": label, "score": score, "decision": decided.astype(np.int8)})
    if target.task != "binary":
        frame = frame.with_columns(outcome=rows.labels)
    if table is not None:
        frame = frame.with_columns(pl.Series(f"probability.{name}", table[:, place]) for place, name in enumerate(target.classes or ()))
    frame = frame.with_columns(decision=pl.when(pl.col("score").is_finite()).then(pl.col("decision")))
    whose = None if system.data.together is None else Clusters.of(s4_holdout.column_of(work, features, system.data.together),
                                                                  system.data.together)
    seen = None if whose is None else s4_holdout.sampled(system, whose, label, score, rows.labels, table)
    work.tell("scored", rows=frame.height, not_finite=int(np.count_nonzero(~finite)))
    body = {"report": "evaluation", "version": 1, "system": system.system, "candidate": candidate_model.digest,
            "features": features.digest, "references": dict(work.references),
            **measured(system, label, score, rows.groups, compared_over(system), s4_holdout.expected_groups(system), rows.labels,
                       table, seen),
            "robustness_curve": robustness_curve(lambda frame: favourable_scores(estimator, frame), rows.frame, label, score,
                                                 system.evaluation.decision_threshold, s4_robustness.inputs_of(system), whose)}
    scores = work.artefacts.put_bytes(parquet_bytes(frame))
    if system.evaluation.time_slices is not None:
        body["time_slices"] = s4_slices.reported(s4_holdout.Holdout(work, scores, candidate_model, features))
    value = EvaluationReport(
        system=system.system, candidate=candidate_model.digest, features=features.digest,
        scores=scores, report=work.artefacts.put_bytes(canonical_json(body)))
    return Draft(value, {"scoring_and_measuring_seconds": decimal_string(round(time.perf_counter() - started, 3)),
                         "holdout_rows": frame.height})


def compared_over(system: System) -> tuple[str, ...]:
    """Every attribute and intersection that is declared anywhere, in the order of declaration."""
    sliced = system.evaluation.time_slices
    bounds = (*system.evaluation.fairness.bounds, *system.evaluation.performance, *system.evaluation.calibration,
              *(sliced.bounds if sliced is not None else ()))
    return tuple(dict.fromkeys((*system.data.protected, *(over for bound in bounds for over in bound.over))))


def judge(work: Work, draft: Draft, *, candidate_model: CandidateModel, features: FeatureSet) -> Iterator[GateReport]:
    """The five gates, in order; each is computed only when it is asked for."""
    seen = s4_holdout.Holdout(work, cast(EvaluationReport, draft.value).scores, candidate_model, features)
    declared = work.definition.system.evaluation
    yield _gate("performance", (*(s4_gates.performance(seen, bound) for bound in declared.performance),
                                s4_slices.held(seen, "performance")))
    yield _gate("fairness", (*(s4_gates.fairness(seen, bound) for bound in declared.fairness.bounds), s4_slices.held(seen, "fairness")))
    yield _gate("robustness", (s4_robustness.robustness(seen, bound) for bound in declared.robustness))
    yield _gate("calibration", (*(s4_gates.calibration(seen, bound) for bound in declared.calibration),
                                s4_slices.held(seen, "calibration")))
    yield _gate("drift", (s4_drift.drift(seen, role) for role in declared.drift.against))


def _gate(name: str, found: Iterable[Iterator[Finding]]) -> GateReport:
    return conclude(name, _GATES[name], chain.from_iterable(found))


STAGE = Stage(RULE, EvaluationReport, produce, judge)
