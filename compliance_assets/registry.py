"""Where are models listed? In MLflow: one run for each training, one version for each candidate, its place in life as a tag.

The only module that speaks MLflow. It uses `MlflowClient` on the home's own SQLite file, with its address passed to every
client: no server, no network, no active run, no process-wide tracking URI. Every write holds the home's `mlflow` lock, so two
processes make one run and one schema. Aliases (`staging`, `production`) are pointers; the tag `lifecycle` is the state;
MLflow's deprecated stages are not used. Rows here can be deleted by anybody who can write the file: the registry shows what
the ledger proves, and `model_bytes` is compared with the evidence by whoever consumes it (Art. 12(1), Art. 15(5)).
"""

from __future__ import annotations

import functools
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import unquote, urlparse

from compliance_assets.errors import RegistryError
from compliance_assets.evidence.home import Home
from compliance_assets.heavy import heavy_import
from compliance_assets.trust.canonical import Digest, sha256_bytes

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

Lifecycle = Literal["experimental", "staging", "production", "archived", "rejected", "withdrawn", "quarantined"]

TRANSITIONS: Mapping[Lifecycle, tuple[Lifecycle, ...]] = MappingProxyType({
    "experimental": ("staging", "rejected", "quarantined"),
    "staging": ("production", "archived", "rejected", "withdrawn", "quarantined"),
    "production": ("archived", "withdrawn", "quarantined"),
    "archived": ("production", "withdrawn", "quarantined"),
    "rejected": (),
    "withdrawn": (),
    "quarantined": ("withdrawn",),
})
"""Where a version may go from where it is. What was rejected, withdrawn or quarantined never answers again."""

REQUIRED_METADATA: Mapping[str, str] = MappingProxyType({
    "aisdp.dataset_version": "digest of the dataset that it was trained on",
    "aisdp.feature_set_version": "digest of the feature set",
    "aisdp.holdout_version": "digest of the holdout that it was evaluated on",
    "aisdp.candidate": "digest of the candidate model",
    "aisdp.artefact_sha256": "sha256 of the model file",
    "aisdp.model_state": "digest of what the model learned",
    "aisdp.release": "the release that it belongs to",
    "aisdp.hyperparameters": "as declared, JSON",
    "aisdp.seed": "the seed of training",
    "aisdp.code_commit": "commit of the training code",
    "aisdp.pipeline_execution_id": "the run that trained it",
    "aisdp.definition": "digest of the definition that it was judged under",
    "aisdp.thresholds": "digest of the declared bounds",
    "aisdp.environment": "digest of Python, platform and libraries",
    "aisdp.evaluation_report": "digest of the evaluation report",
    "aisdp.performance_metrics": "every performance finding, JSON",
    "aisdp.fairness_metrics": "every fairness finding, JSON",
    "aisdp.production_model": "the candidate in production when it was evaluated, or why there is none",
    "aisdp.baseline_model": "the candidate first assessed, or why there is none",
    "aisdp.approval_status": "pending, approved or rejected",
})
"""Every tag that a version must carry, filled, before it may be staged; and what it says."""

_MODEL_FILE = "model.skops"
_DRIVER_RUN = "aisdp.pipeline_execution_id"


@dataclass(frozen=True)
class CandidateEntry:
    """What stage 3 lists: one training, and if it passed its gates, one candidate."""

    system: str
    run: str
    """The driver's run id: one MLflow run each."""
    candidate: Digest
    model: Digest
    content: bytes
    """The canonical skops file; its sha256 is `model`."""
    trusted_types: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    """Input columns in order: name and feature dtype (float64, int64, bool, category …)."""
    passed: bool
    started: float
    """Seconds since the epoch; for MLflow's timeline only."""
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True)
class Listed:
    """Where a candidate is listed: the MLflow run, and the registered version if it passed."""

    run: str
    name: str
    version: str | None

    def as_references(self) -> dict[str, str]:
        """For the stage record."""
        found = {"mlflow_run": self.run, "registry_name": self.name}
        return found if self.version is None else {**found, "registry_version": self.version}


class Registry:
    """The model registry of one home. Any number of processes may use it at once."""

    def __init__(self, home: Home) -> None:
        self.home = home

    @property
    def uri(self) -> str:
        """The address of MLflow's store, for whoever shows its pages."""
        return f"sqlite:///{self.home.mlflow_db}"

    # ------------------------------------------------------------------------------------------------------------ reading

    def version_of(self, name: str, candidate: str) -> str | None:
        """The version under which this candidate is listed, or None."""
        with self._reading() as client:
            return _version_of(client, name, candidate)

    def lifecycle(self, name: str, version: str) -> Lifecycle:
        """Where the version stands. Raises `RegistryError` if there is no such version, or if its state is unknown."""
        with self._reading() as client:
            return _lifecycle(_existing(client, name, version))

    def metadata(self, name: str, version: str) -> dict[str, str]:
        """Every tag of the version."""
        with self._reading() as client:
            return dict(_existing(client, name, version).tags)

    def missing_metadata(self, name: str, version: str) -> tuple[str, ...]:
        """The required tags that the version does not carry, or carries empty."""
        tags = self.metadata(name, version)
        return tuple(key for key in REQUIRED_METADATA if key not in tags or not tags[key].strip())

    def pointed_at(self, name: str, alias: Literal["staging", "production"]) -> str | None:
        """The version that the alias points at, or None."""
        with self._reading() as client:
            return _aliases(client, name).get(alias)

    def model_bytes(self, name: str, version: str) -> bytes:
        """The model file exactly as the registry holds it. The caller compares its digest with the evidence."""
        with self._reading() as client:
            source = str(_existing(client, name, version).source)
        path = Path(unquote(urlparse(source).path) if source.startswith("file:") else source) / _MODEL_FILE
        try:
            return path.read_bytes()
        except OSError as error:
            raise RegistryError(f"Version {version} of {name} has no model file: {error.strerror}.",
                                rule="registry holds the model", value=str(path),
                                remedy="Put the file back from the artefact store, by its digest.") from error

    def runs_of(self, system: str, run: str) -> tuple[tuple[str, str], ...]:
        """The MLflow runs of one driver run: id and status. There is one, or none yet."""
        with self._reading() as client:
            experiment = client.get_experiment_by_name(system)
            found = [] if experiment is None else client.search_runs(
                [experiment.experiment_id], f"tags.`{_DRIVER_RUN}` = '{_quoted(run)}'")
            return tuple((item.info.run_id, item.info.status) for item in found)

    # ------------------------------------------------------------------------------------------------------------ writing

    def prepare(self) -> None:
        """Make the store's schema now, so that nobody waits for it later."""
        with self._writing():
            pass

    def record_candidate(self, entry: CandidateEntry) -> Listed:
        """List one training: one MLflow run for each driver run, ended FINISHED or FAILED; a version only if it passed.

        Doing it again changes nothing. The same candidate is never registered twice.
        """
        if sha256_bytes(entry.content) != entry.model:
            raise RegistryError("The bytes to register are not the candidate's.", rule="registry bytes = evaluated bytes",
                                value=entry.model, remedy="Take them from the artefact store by their digest.")
        with self._writing() as client:
            experiment = self._experiment(client, entry.system)
            run = _run_of(client, experiment, entry)
            try:
                _describe_run(client, run, entry)
                version = self._register(client, experiment, run, entry) if entry.passed else None
            except BaseException:
                client.set_terminated(run, "FAILED")
                raise
            client.set_terminated(run, "FINISHED" if entry.passed else "FAILED")
            return Listed(run, entry.system, version)

    def describe(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Attach metadata to a version. Every key is `aisdp.*`."""
        foreign = sorted(key for key in tags if not key.startswith("aisdp."))
        if foreign:
            raise RegistryError(f"Metadata outside aisdp.*: {', '.join(foreign)}.", rule="namespaced metadata", value=foreign[0],
                                remedy="Name it aisdp.<what>.")
        with self._writing() as client:
            _existing(client, name, version)
            for key, value in tags.items():
                client.set_model_version_tag(name, version, key, value)

    def stage(self, name: str, version: str) -> None:
        """experimental → staging, once every required field is there."""
        missing = self.missing_metadata(name, version)
        if missing:
            raise RegistryError(f"Version {version} of {name} lacks {', '.join(missing)}.", rule="required metadata",
                                value=", ".join(missing), remedy="Attach them with `describe` first.")
        with self._writing() as client:
            _move(client, name, version, "staging")
            client.set_registered_model_alias(name, "staging", version)

    def promote(self, name: str, version: str) -> str | None:
        """staging (or, after a rollback, archived) → production; the version before it is archived and returned."""
        with self._writing() as client:
            before = _aliases(client, name).get("production")
            _move(client, name, version, "production")
            client.set_registered_model_alias(name, "production", version)
            if _aliases(client, name).get("staging") == version:
                client.delete_registered_model_alias(name, "staging")
            for other in client.search_model_versions(f"name = '{_quoted(name)}'"):
                if str(other.version) != version and _lifecycle(other) == "production":
                    _move(client, name, str(other.version), "archived")
            return before if before != version else None

    def rollback(self, name: str, to: str, *, leaving: Literal["archived", "withdrawn", "quarantined"]) -> None:
        """`to` answers for production again; the version that did so until now goes where `leaving` says."""
        with self._writing() as client:
            _may_move(client, name, to, "production")  # before anything is taken away
            for other in client.search_model_versions(f"name = '{_quoted(name)}'"):
                if str(other.version) != to and _lifecycle(other) == "production":
                    _move(client, name, str(other.version), leaving)
            _move(client, name, to, "production")
            client.set_registered_model_alias(name, "production", to)

    def close(self, name: str, version: str, state: Literal["archived", "rejected", "withdrawn", "quarantined"]) -> None:
        """Take a version out of the way to production; aliases that point at it go."""
        with self._writing() as client:
            _move(client, name, version, state)
            for alias, at in _aliases(client, name).items():
                if at == version:
                    client.delete_registered_model_alias(name, alias)

    # ------------------------------------------------------------------------------------------------------------ the parts

    @contextmanager
    def _reading(self) -> Iterator[MlflowClient]:
        if not self.home.mlflow_db.exists():
            self.prepare()
        with _speaking():
            yield _client(self.uri)

    @contextmanager
    def _writing(self) -> Iterator[MlflowClient]:
        with self.home.lock("mlflow", wait=True), _speaking():
            self._appear_whole()
            yield _client(self.uri)

    def _appear_whole(self) -> None:
        """MLflow builds its tables in many steps and cannot go on from the middle: a killed one must leave no database behind."""
        if self.home.mlflow_db.exists():
            return
        draft = self.home.mlflow_db.with_name("mlflow.draft.db")
        for left in (draft, draft.with_name(f"{draft.name}-journal")):
            left.unlink(missing_ok=True)
        _client.__wrapped__(f"sqlite:///{draft}")
        os.replace(draft, self.home.mlflow_db)

    def _experiment(self, client: MlflowClient, system: str) -> str:
        found = client.get_experiment_by_name(system)
        if found is not None:
            return cast(str, found.experiment_id)
        location = (self.home.mlflow_artifacts / system).as_uri()
        return cast(str, client.create_experiment(system, artifact_location=location))

    def _register(self, client: MlflowClient, experiment: str, run: str, entry: CandidateEntry) -> str:
        known = _version_of(client, entry.system, entry.candidate)
        if known is not None:
            return known
        if not client.search_registered_models(f"name = '{_quoted(entry.system)}'"):
            client.create_registered_model(entry.system)
        listed = client.create_logged_model(experiment, name=entry.system, source_run_id=run, model_type="classifier",
                                            tags={"aisdp.candidate": entry.candidate})
        with tempfile.TemporaryDirectory() as folder:
            _write_model(Path(folder), entry, run, listed.model_id)
            client.log_model_artifacts(listed.model_id, folder)
        client.finalize_logged_model(listed.model_id, "READY")
        # The folder itself as source: a models:/ address would be looked up at MLflow's process-wide tracking URI.
        made = client.create_model_version(
            entry.system, source=listed.artifact_location, run_id=run, model_id=listed.model_id, description=entry.description,
            tags={**entry.tags, "aisdp.candidate": entry.candidate, "aisdp.artefact_sha256": entry.model,
                  _DRIVER_RUN: entry.run, "lifecycle": "experimental"})
        return str(made.version)


@contextmanager
def _speaking() -> Iterator[None]:
    """What MLflow refuses becomes a refusal of ours."""
    _quiet()
    with heavy_import("mlflow"):
        from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise RegistryError(f"The model registry refused: {error.message}", rule="registry", value=error.error_code,
                            remedy="Look at it with `mlflow ui` on the home's mlflow.db.") from error


@functools.cache
def _quiet() -> None:
    """No telemetry and no chatter; set before MLflow is imported, which is when it looks."""
    import logging

    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)


@functools.cache
def _client(uri: str) -> MlflowClient:
    import logging
    import warnings

    with warnings.catch_warnings(), heavy_import("mlflow.store.tracking.sqlalchemy_store"):
        # MLflow's mappers use what SQLAlchemy 2.1 deprecates; said once, while they are imported, to nobody who can mend it.
        warnings.simplefilter("ignore", DeprecationWarning)
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # importing it has set its own
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_registered_models(max_results=1)
    return client


def _quoted(text: str) -> str:
    if "'" in text:
        raise RegistryError("A quote has no place in a name here.", rule="registry names", value=text, remedy="Rename it.")
    return text


def _run_of(client: MlflowClient, experiment: str, entry: CandidateEntry) -> str:
    """The MLflow run of this driver run, made if it is not there. Whoever writes holds the lock until its run has ended, so
    a run that is still RUNNING here was left by a process that died: it is ended as KILLED."""
    mine = client.search_runs([experiment], f"tags.`{_DRIVER_RUN}` = '{_quoted(entry.run)}'")
    for left in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if left.info.run_id not in [run.info.run_id for run in mine]:
            client.set_terminated(left.info.run_id, "KILLED")
    if mine:
        return cast(str, mine[0].info.run_id)
    made = client.create_run(experiment, start_time=int(entry.started * 1000), run_name=entry.run,
                             tags={_DRIVER_RUN: entry.run, "aisdp.system": entry.system})
    return cast(str, made.info.run_id)


def _describe_run(client: MlflowClient, run: str, entry: CandidateEntry) -> None:
    from mlflow.entities import Metric, Param, RunTag

    at = int(time.time() * 1000)
    known = client.get_run(run).data.params
    params = [Param(key, value) for key, value in entry.params.items() if key not in known or known[key] != value]
    tags = {**entry.tags, "aisdp.candidate": entry.candidate, "aisdp.artefact_sha256": entry.model}
    client.log_batch(run, metrics=[Metric(key, value, at, 0) for key, value in entry.metrics.items()], params=params,
                     tags=[RunTag(key, value) for key, value in tags.items()])


def _write_model(folder: Path, entry: CandidateEntry, run: str, model_id: str) -> None:
    """An MLflow model folder around our own bytes: MLflow's `log_model` would dump the estimator again, to other bytes.

    `MLmodel` is written as JSON, which is YAML too, so that MLflow's own model classes (2 s to import) are not needed.
    """
    from importlib.metadata import version

    kinds = {"float64": "double", "float32": "float", "int64": "long", "int32": "integer", "bool": "boolean", "category": "string"}
    columns = [{"name": name, "type": kinds[dtype], "required": True} for name, dtype in entry.columns]
    described = {
        "artifact_path": "", "run_id": run, "model_id": model_id, "mlflow_version": version("mlflow"),
        "signature": {"inputs": json.dumps(columns), "outputs": json.dumps([{"type": "long", "required": True}]), "params": None},
        "flavors": {
            "python_function": {"loader_module": "mlflow.sklearn", "model_path": _MODEL_FILE, "predict_fn": "predict",
                                "env": {"virtualenv": "requirements.txt"}, "python_version": platform.python_version()},
            "sklearn": {"pickled_model": _MODEL_FILE, "sklearn_version": version("scikit-learn"), "serialization_format": "skops",
                        "skops_trusted_types": list(entry.trusted_types), "code": None},
        },
    }
    needed = [f"{name}=={version(name)}" for name in ("scikit-learn", "skops", "numpy", "polars")]
    (folder / _MODEL_FILE).write_bytes(entry.content)
    (folder / "requirements.txt").write_text("\n".join(needed) + "\n")
    (folder / "MLmodel").write_text(json.dumps(described, indent=2) + "\n")


def _version_of(client: MlflowClient, name: str, candidate: str) -> str | None:
    found = client.search_model_versions(f"name = '{_quoted(name)}' and tags.`aisdp.candidate` = '{_quoted(candidate)}'")
    return min((str(item.version) for item in found), key=int, default=None)


def _existing(client: MlflowClient, name: str, version: str) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, version)
    except MlflowException as error:
        raise RegistryError(f"The registry lists no version {version} of {name}.", rule="registry lists the version",
                            value=f"{name}/{version}", remedy="Train it again, or restore the registry from its backup.") from error


def _lifecycle(version: ModelVersion) -> Lifecycle:
    tags: Mapping[str, Any] = version.tags
    if "lifecycle" not in tags or tags["lifecycle"] not in TRANSITIONS:
        raise RegistryError(f"Version {version.version} of {version.name} has no lifecycle that we gave it.", rule="lifecycle",
                            value=str(tags["lifecycle"]) if "lifecycle" in tags else "", remedy="Compare it with the ledger.")
    return cast(Lifecycle, tags["lifecycle"])


def _may_move(client: MlflowClient, name: str, version: str, to: Lifecycle) -> bool:
    """Whether the version still has to go to `to`; refuses if it may not."""
    now = _lifecycle(_existing(client, name, version))
    if now != to and to not in TRANSITIONS[now]:
        raise RegistryError(f"Version {version} of {name} is {now}; it cannot become {to}.", rule="lifecycle", value=now,
                            remedy=f"From {now} it may go to: {', '.join(TRANSITIONS[now]) or 'nowhere'}.")
    return now != to


def _move(client: MlflowClient, name: str, version: str, to: Lifecycle) -> None:
    if _may_move(client, name, version, to):
        client.set_model_version_tag(name, version, "lifecycle", to)


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}
