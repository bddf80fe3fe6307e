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

import dataclasses
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from compliance_assets.errors import StageError
from compliance_assets.evidence.artefacts import ArtefactStore
from compliance_assets.features import registered, registry_types
from compliance_assets.metrics.performance import measure_performance
from compliance_assets.modelfile import favourable_scores, load, store, trusted_types
from compliance_assets.policy.gates import Finding, GateReport, Verdict, conclude, fact
from compliance_assets.policy.river import rule_named
from compliance_assets.registry import CandidateEntry, Registry
from compliance_assets.stages.estimators import make_estimator, use_threads
from compliance_assets.stages.mitigation import Rows, fit
from compliance_assets.stages.s2_feature_engineering import FeatureSet, read_features, read_groups
from compliance_assets.stages.stage import Draft, Stage, Value, Work
from compliance_assets.trust.canonical import (
    Digest,
    canonical_json,
    decimal_string,
    digest_of,
    parse_canonical,
    sha256_bytes,
    state_digest,
)

if TYPE_CHECKING:
    import polars as pl

    from compliance_assets.policy.system import Feature

Part = Literal["train", "validation", "holdout"]
RULE = rule_named("model_training")
PROBE_ROWS = 256
"""The first validation rows by key; what the model answers on them is part of its identity."""
MADE_FROM = ("system", "data", "features", "training")
"""The sections of the declaration that decide what is trained; the others only judge it."""
VALIDATION_METRICS = ("roc_auc", "average_precision", "log_loss", "brier_score", "accuracy")
LIBRARIES = ("scikit-learn", "fairlearn", "numpy", "scipy", "polars", "skops")
_GATES = {gate.name: gate.version for gate in RULE.gates}
_CURVE_ROWS = 5_000
_TESTED = ("sklearn.ensemble._hist_gradient_boosting.", "sklearn.ensemble._forest.", "sklearn.linear_model.", "sklearn.tree.")
_OBSERVED = ("training_seconds", "cpu_seconds", "peak_rss_bytes", "threads", "libraries", "determinism")


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
    """Features, labels and groups (the key, then one column for each attribute) as arrays."""
    key, *attributes = groups.columns
    return Rows(frame, np.asarray(labels, dtype=np.int8), {name: groups[name].to_numpy() for name in attributes},
                groups[key].to_numpy())


def produce(work: Work, *, features: FeatureSet) -> Draft:
    """Train, store, record. Raises `StageError` or `DeclarationError` where there is nothing to judge."""
    system = work.definition.system
    prepared = make_estimator(work.definition)
    files = TrainingFiles(work.artefacts, features)
    registry = system.features.registry
    train, validation = (read_rows(files, features, part, registry) for part in ("train", "validation"))
    if len(np.unique(train.labels)) < 2 or len(np.unique(validation.labels)) < 2:
        raise StageError("The training or validation rows hold one outcome only.", rule="two classes",
                         value=str(np.unique(train.labels).tolist()), remedy="Split again, or collect rows of the other outcome.")
    work.tell("training", estimator=system.training.estimator, rows=len(train.labels), features=train.frame.width,
              threads=system.training.resources.threads, seed=system.training.seed)
    watched = _watch(lambda: fit(prepared, system, train, validation), prepared.estimator, system.training.resources.threads)
    fitted, estimator = watched.result, watched.result.estimator
    scores = favourable_scores(estimator, validation.frame)
    finite = bool(np.isfinite(scores).all())
    content = store(estimator)
    record = {
        "report": "training", "version": 1, "system": system.system,
        "estimator": system.training.estimator, "hyperparameters": system.declaration()["training"]["hyperparameters"],
        "rationale": system.training.rationale, "seed": system.training.seed, "preparation": dict(prepared.preparation),
        "mitigation": dict(fitted.mitigation), "trials": [dict(trial) for trial in fitted.trials],
        "rows": {"train": len(train.labels), "validation": len(validation.labels)},
        "opened": files.journal(),
        "convergence": {"warnings": watched.unconverged, "iterations": _iterations(estimator),
                        "loss": _losses(estimator, validation), "scores": len(scores),
                        "not_finite": int(np.count_nonzero(~np.isfinite(scores)))},
        "validation": _validation(validation, scores) if finite else {},
    }
    probe = work.artefacts.put_bytes(scores[:PROBE_ROWS].astype("<f8").tobytes())
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
    yield conclude("convergence", _GATES["convergence"], _convergence(record))
    yield conclude("record", _GATES["record"], _recorded(record, draft.observations))
    yield conclude("storage", _GATES["storage"], _storage(work, candidate, features))
    yield conclude("isolation", _GATES["isolation"], _isolation(record, features))


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


# ------------------------------------------------------------------------------------------------------- what was observed


@dataclasses.dataclass(frozen=True)
class _Watched:
    result: Any
    unconverged: list[str]
    observations: dict[str, Any]


def _watch(run: Callable[[], Any], estimator: Any, threads: int) -> _Watched:
    """Fit with the declared threads (one for linear algebra), catching warnings, counting seconds and memory."""
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    _forget_peak()
    wall, processor = time.perf_counter(), time.process_time()
    use_threads(estimator, threads)
    with warnings.catch_warnings(record=True) as caught, threadpool_limits(limits={"openmp": threads, "blas": 1}):
        warnings.simplefilter("always")
        try:
            result = run()
        except (ValueError, TypeError, ArithmeticError) as error:  # what scikit-learn raises on values it does not take
            raise StageError(f"Training failed: {str(error).strip().splitlines()[0]}.", rule="training", value=type(error).__name__,
                             remedy="Correct the hyperparameters or the features.") from error
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak, scope = _peak_bytes()
    use_threads(result.estimator, None)
    unconverged = [str(item.message) for item in caught if issubclass(item.category, ConvergenceWarning)]
    others = sorted({f"{item.category.__name__}: {item.message}" for item in caught
                     if not issubclass(item.category, ConvergenceWarning)})
    kind = f"{type(_last(result.estimator)).__module__}."
    return _Watched(result, unconverged, {
        "training_seconds": decimal_string(round(wall, 3)), "cpu_seconds": decimal_string(round(processor, 3)),
        "peak_rss_bytes": peak, "peak_rss_of": scope, "threads": threads, "blas_threads": 1, "gpu": 0, "warnings": others,
        "libraries": {name: version(name) for name in LIBRARIES},
        "determinism": "bitwise on the same platform and library versions, for any number of threads" if kind.startswith(_TESTED)
        else "seeded; bitwise equality was not tested for this kind of estimator",
    })


def _forget_peak() -> None:
    """Linux counts a process's highest memory from when this is written; elsewhere from when the process began."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_bytes() -> tuple[int, str]:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024, "this training"
    except OSError:
        pass
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "the process so far"


def _last(estimator: Any) -> Any:
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def _iterations(estimator: Any) -> dict[str, Any]:
    """How far each fitted part went: `n_iter_`, and what it was allowed."""
    model = _last(estimator)
    found: dict[str, Any] = {}
    if hasattr(model, "n_iter_"):
        found["used"] = [int(n) for n in np.ravel(model.n_iter_)]
        settings = model.get_params(deep=False)
        if settings.get("max_iter") is not None:
            found["allowed"] = int(settings["max_iter"])
    if hasattr(model, "estimators_"):
        found["estimators"] = len(model.estimators_)
    return found


def _losses(estimator: Any, validation: Rows) -> dict[str, list[str]]:
    """Loss by iteration where the estimator has one: its own curve, or log loss on the first validation rows as it grew."""
    model = _last(estimator)
    found: dict[str, list[str]] = {}
    for name, attribute in (("training", "loss_curve_"), ("early_stopping_training", "train_score_"),
                            ("early_stopping_validation", "validation_score_")):
        curve = getattr(model, attribute, None)
        if curve is not None and len(curve):
            found[name] = [_text(item) for item in curve]
    if hasattr(model, "staged_predict_proba"):
        rows = validation.frame.head(_CURVE_ROWS)
        matrix = rows if model is estimator else estimator[:-1].transform(rows)
        labels = validation.labels[:_CURVE_ROWS]
        favourable = [int(label) for label in model.classes_].index(1)
        found["validation"] = [_text(_log_loss(labels, stage[:, favourable])) for stage in model.staged_predict_proba(matrix)]
    return found


def _log_loss(labels: Any, scores: Any) -> float:
    given = np.where(labels == 1, scores, 1 - scores)
    return float(-np.log(np.maximum(given, np.finfo(np.float64).eps)).mean())


def _text(value: Any) -> str:
    number = float(value)
    return decimal_string(number) if np.isfinite(number) else repr(number)


def _validation(validation: Rows, scores: Any) -> dict[str, str]:
    measured = measure_performance(VALIDATION_METRICS, validation.labels, scores, 0.5)
    return {one.metric: decimal_string(one.value) for one in measured if one.value is not None}


# ----------------------------------------------------------------------------------------------------------------- gates


def _convergence(record: Mapping[str, Any]) -> Iterator[Finding]:
    found = record["convergence"]
    yield fact("convergence.warnings", not found["warnings"], value=len(found["warnings"]), bound=0,
               note="; ".join(found["warnings"]),
               because="an estimator that stopped before it converged is not the one that was declared")
    yield fact("convergence.finite_scores", found["not_finite"] == 0 and found["scores"] > 0, value=found["not_finite"], bound=0,
               n=found["scores"], because="a score that is not a number decides nothing")
    curves = found["loss"]
    if curves:
        broken = sum(item in ("nan", "inf", "-inf") for curve in curves.values() for item in curve)
        yield fact("convergence.finite_loss", broken == 0, value=broken, bound=0, n=sum(map(len, curves.values())))
    else:
        yield Finding("convergence.finite_loss", Verdict.NOT_APPLICABLE, note="this estimator keeps no loss by iteration")


def _recorded(record: Mapping[str, Any], observations: Mapping[str, Any]) -> Iterator[Finding]:
    for name in ("seed", "hyperparameters", "preparation", "mitigation", "trials", "validation", "rationale"):
        empty_is_fine = name in ("trials", "hyperparameters", "seed")
        yield fact(f"record.{name}", name in record and (empty_is_fine or bool(record[name])))
    for name in _OBSERVED:
        yield fact(f"record.{name}", name in observations and observations[name] not in ("", None, {}),
                   value=observations[name] if name in observations and isinstance(observations[name], int | str) else None)


def _storage(work: Work, candidate: CandidateModel, features: FeatureSet) -> Iterator[Finding]:
    content = work.artefacts.get_bytes(Digest(candidate.model))
    back = load(content, candidate.trusted_types)
    state = state_digest(back)
    yield fact("storage.same_state", state == candidate.state, value=state, bound=candidate.state)
    rows = read_rows(TrainingFiles(work.artefacts, features), features, "validation", work.definition.system.features.registry)
    probe = sha256_bytes(favourable_scores(back, rows.frame)[:PROBE_ROWS].astype("<f8").tobytes())
    yield fact("storage.same_predictions", probe == candidate.probe, value=probe, bound=candidate.probe,
               n=min(PROBE_ROWS, len(rows.labels)), because="what is stored must answer as what was trained, to the bit")
    again = sha256_bytes(store(back))
    yield fact("storage.same_bytes", again == candidate.model, value=again, bound=candidate.model)
    yield fact("storage.reviewed_types", trusted_types(content) == candidate.trusted_types,
               value=", ".join(candidate.trusted_types) or "none beyond skops' own")


def _isolation(record: Mapping[str, Any], features: FeatureSet) -> Iterator[Finding]:
    opened = set(record["opened"].values())
    own = {*split_files(features, "train").values(), *split_files(features, "validation").values()}
    holdout = set(split_files(features, "holdout").values())
    seen = opened & (holdout - own)
    yield fact("isolation.holdout_unopened", bool(opened) and not seen, value=len(seen), bound=0, n=len(opened),
               because="what a model is tested on must not have been seen while it was made")
    yield fact("isolation.own_files_only", bool(opened) and opened <= own, value=len(opened - own), bound=0, n=len(opened))
    yield fact("isolation.holdout_is_another", not holdout & own, value=len(holdout & own), bound=0,
               because="a holdout file that is also a training file hides nothing")


STAGE = Stage(RULE, CandidateModel, produce, judge, publish)
