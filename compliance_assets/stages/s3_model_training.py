"""Stage 3, Model Training: FeatureSet → CandidateModel (registry: experimental).

Fits the declared estimator on the training rows, under the declared mitigation, with the declared seed and threads, and keeps
it as a canonical skops file with a record of how it came about: settings, preparation, every trial, convergence, validation
metrics, which files were opened. The holdout is out of reach: the files given to training open nothing but the training and
validation rows, and say what they opened.

Refused when training did not converge or scores are not finite, when seed, environment, duration or resources are not
recorded, when the stored model does not come back the same, or when anything but training and validation rows was read.
Art. 11, Art. 15(1), Art. 15(5), Art. 17(1)(c), Annex IV(2)(a)-(c).

Candidates are the same to the bit for the same rows, seed, library versions and platform, whatever the number of threads:
linear algebra runs on one thread, and what only says how many threads were used is not part of the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np

from compliance_assets.errors import StageError
from compliance_assets.evidence.artefacts import ArtefactStore
from compliance_assets.metrics.multiclass import measure_multiclass
from compliance_assets.metrics.performance import measure_performance
from compliance_assets.metrics.regression import measure_regression
from compliance_assets.modelfile import favourable_scores, load, store, trusted_types
from compliance_assets.policy.gates import Finding, GateReport, Verdict, conclude, fact
from compliance_assets.policy.river import rule_named
from compliance_assets.policy.system import Target
from compliance_assets.registry import CandidateEntry, Registry
from compliance_assets.stages import outcomes, retraining, s3_gates, search
from compliance_assets.stages.estimators import make_estimator
from compliance_assets.stages.mitigation import Rows
from compliance_assets.stages.s2_feature_engineering import FeatureSet
from compliance_assets.stages.stage import Draft, Stage, Value, Work
from compliance_assets.stages.training_rows import TrainingFiles, read_rows, split_files
from compliance_assets.stages.training_watch import iterations, losses, watched_fit
from compliance_assets.trust.canonical import (
    Digest,
    canonical_json,
    decimal_string,
    digest_of,
    parse_canonical,
    state_digest,
)

RULE = rule_named("model_training")
MADE_FROM = ("system", "data", "features", "training")
"""The sections of the declaration that decide what is trained; the others only judge it."""
VALIDATION_METRICS = ("roc_auc", "average_precision", "log_loss", "brier_score", "accuracy")
_GATES = {gate.name: gate.version for gate in RULE.gates}


class CandidateModel(Value):
    """A fitted model as it stands in the artefact store, and what it was made from."""

    features: str
    model: str
    """sha256 of the canonical skops file."""
    state: str
    """Digest of what was learned, whatever file it is in."""
    probe: str
    """sha256 of the scores on the frozen probe, raw little-endian float64."""
    record: str
    """Digest of the training record, JSON."""
    estimator: str
    trusted_types: tuple[str, ...]
    seed: int
    feature_names: tuple[str, ...]
    mitigation: str
    release: str
    """Digest of what the candidate was made from: data, features and training as declared, the feature set."""

    def files(self) -> Mapping[str, str]:
        return {"model/model.skops": self.model, "model/probe": self.probe, "model/training_record.json": self.record}


def produce(work: Work, *, features: FeatureSet) -> Draft:
    """Train, store, record. Raises `StageError` or `DeclarationError` where there is nothing to judge."""
    system = work.definition.system
    asked = make_estimator(work.definition)  # a declaration that cannot be made is refused before anything is read
    files = TrainingFiles(work.artefacts, features)
    registry = system.features.registry
    train, validation = (read_rows(files, features, part, registry) for part in ("train", "validation"))
    outcomes.refuse_other_task(asked.estimator, system.data.target)
    if len(np.unique(train.labels)) < 2 or len(np.unique(validation.labels)) < 2:
        raise StageError("The training or validation rows hold one outcome only.", rule="two classes",
                         value=str(np.unique(train.labels).tolist()), remedy="Split again, or collect rows of the other outcome.")
    work.tell("training", estimator=system.training.estimator, rows=len(train.labels), features=train.frame.width,
              threads=system.training.resources.threads, seed=system.training.seed)
    watched = watched_fit(lambda: search.fitted(work.definition, train, validation), system.training.resources.threads)
    prepared, fitted, estimator = watched.result.prepared, watched.result.fitted, watched.result.estimator
    scores = favourable_scores(estimator, validation.frame)
    finite = bool(np.isfinite(scores).all())
    content = store(estimator)
    record = {
        "report": "training", "version": 1, "system": system.system,
        "estimator": system.training.estimator, "hyperparameters": watched.result.hyperparameters,
        "rationale": system.training.rationale, "seed": system.training.seed, "preparation": dict(prepared.preparation),
        "mitigation": dict(fitted.mitigation), "trials": [dict(trial) for trial in fitted.trials],
        "search": dict(fitted.search),
        "reproducibility": {"claimed": watched.observations["determinism"],
                            "probe": "declared" if system.training.reproducibility_probe else "not declared"},
        "rows": {"train": len(train.labels), "validation": len(validation.labels)},
        "opened": files.journal(),
        "convergence": {"warnings": watched.unconverged, "iterations": iterations(estimator),
                        "loss": losses(estimator, validation), "scores": len(scores),
                        "not_finite": int(np.count_nonzero(~np.isfinite(scores)))},
        "validation": _validation(validation, scores, estimator, system.data.target) if finite else {},
    }
    # Scored by themselves: some estimators give other last bits in a larger batch.
    probe = work.artefacts.put_bytes(s3_gates.probe_bytes(favourable_scores(estimator, validation.frame.head(s3_gates.PROBE_ROWS))))
    declaration = system.declaration()
    value = CandidateModel(
        system=system.system, features=features.digest, model=work.artefacts.put_bytes(content), state=state_digest(estimator),
        probe=probe, record=work.artefacts.put_bytes(canonical_json(record)), estimator=system.training.estimator,
        trusted_types=trusted_types(content), seed=system.training.seed, feature_names=tuple(train.frame.columns),
        mitigation=fitted.mitigation["kind"],
        release=digest_of({"features": features.digest, "declared": {name: declaration[name] for name in MADE_FROM}}))
    work.tell("trained", seconds=watched.observations["training_seconds"], bytes=len(content), model=value.model)
    return Draft(value, {**watched.observations, "model_bytes": len(content), "trials": len(fitted.trials)})


def judge(work: Work, draft: Draft, *, features: FeatureSet) -> Iterator[GateReport]:
    """Convergence, record, storage, isolation; from the sealed files alone."""
    candidate = cast(CandidateModel, draft.value)
    record = parse_canonical(work.artefacts.get_bytes(Digest(candidate.record)))
    yield conclude("convergence", _GATES["convergence"], s3_gates.convergence(record))
    yield conclude("record", _GATES["record"], s3_gates.recorded(record, draft.observations))
    files = TrainingFiles(work.artefacts, features)
    rows = read_rows(files, features, "validation", work.definition.system.features.registry)
    content = work.artefacts.get_bytes(Digest(candidate.model))
    yield conclude("storage", _GATES["storage"], (*s3_gates.storage(content, candidate, rows.frame), _probed(work, candidate, features)))
    own = {*split_files(features, "train").values(), *split_files(features, "validation").values()}
    yield conclude("isolation", _GATES["isolation"], (
        *s3_gates.isolation(set(record["opened"].values()), own, set(split_files(features, "holdout").values())),
        s3_gates.fitted_on_train(load(content, candidate.trusted_types), record["rows"]["train"])))


def _probed(work: Work, candidate: CandidateModel, features: FeatureSet) -> Finding:
    """The reproducibility probe (declared): train again, and hold the digest of what was learned against the candidate's."""
    if not work.definition.system.training.reproducibility_probe:
        return Finding("storage.retrained_state", Verdict.NOT_APPLICABLE, note="no reproducibility probe is declared")
    state = state_digest(retraining.trained_again(work, features))
    return fact("storage.retrained_state", state == candidate.state, value=state, bound=candidate.state,
                because="who trains again from the same rows, declaration and seed must get the same model")


def publish(work: Work, draft: Draft, reports: tuple[GateReport, ...], *, features: FeatureSet) -> Mapping[str, str]:
    """One MLflow run for this execution, passed or failed; a registered version, `experimental`, only if every gate passed."""
    candidate = cast(CandidateModel, draft.value)
    record = parse_canonical(work.artefacts.get_bytes(Digest(candidate.record)))
    system = work.definition.system
    dtypes = {feature.name: str(feature.dtype) for feature in system.features.registry}
    seconds = float(draft.observations["training_seconds"])
    tags = {
        "aisdp.feature_set_version": candidate.features, "aisdp.dataset_version": features.dataset,
        "aisdp.definition": str(work.definition.digest), "aisdp.model_state": candidate.state,
        "aisdp.launched_by": work.driver.launcher,
        **{f"aisdp.gate.{report.gate}": report.verdict.value for report in reports},
    }
    if work.driver.dagster_run_id is not None:
        tags["dagster_run_id"] = work.driver.dagster_run_id
    listed = Registry(work.home).record_candidate(CandidateEntry(
        system=system.system, run=work.driver.run_id, candidate=candidate.digest, model=Digest(candidate.model),
        content=work.artefacts.get_bytes(Digest(candidate.model)), trusted_types=candidate.trusted_types,
        columns=tuple((name, dtypes[name]) for name in candidate.feature_names), passed=bool(reports) and all(reports),
        started=work.now().timestamp() - seconds,
        params={"estimator": candidate.estimator, "seed": str(candidate.seed), "mitigation": candidate.mitigation,
                **{str(key): str(item) for key, item in record["hyperparameters"].items()}},
        metrics={**{f"validation_{name}": float(item) for name, item in record["validation"].items()},
                 **{name: float(draft.observations[name]) for name in ("training_seconds", "cpu_seconds", "peak_rss_bytes")}},
        tags=tags, description=f"{system.title}: {candidate.estimator}, release {candidate.release[:12]}"))
    return listed.as_references()


def open_model(artefacts: ArtefactStore, candidate: CandidateModel) -> Any:
    """The candidate's estimator, bytes and types checked."""
    return load(artefacts.get_bytes(Digest(candidate.model)), candidate.trusted_types)


def _validation(validation: Rows, scores: Any, estimator: Any, target: Target) -> dict[str, str]:
    if target.task == "regression":
        measured = measure_regression(("mae", "rmse", "r2"), validation.labels, scores)
    elif target.task == "multiclass":
        measured = measure_multiclass(("accuracy", "macro_f1", "log_loss"), outcomes.as_text(validation.labels, target),
                                      outcomes.class_table(estimator, validation.frame, target), target.classes or ())
    else:
        measured = measure_performance(VALIDATION_METRICS, validation.labels, scores, 0.5)
    return {one.metric: decimal_string(one.value) for one in measured if one.value is not None}


STAGE = Stage(RULE, CandidateModel, produce, judge, publish)
