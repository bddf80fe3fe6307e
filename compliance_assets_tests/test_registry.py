"""One MLflow run for each training, one version for each candidate, and a life that goes one way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from compliance_assets import registry as registry_module
from compliance_assets.errors import RegistryError
from compliance_assets.evidence.home import Home
from compliance_assets.registry import REQUIRED_METADATA, TRANSITIONS, CandidateEntry, Registry
from compliance_assets.trust.canonical import sha256_bytes

NAME = "small_lender"
CONTENT = b"the bytes of a model file"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its schema and nothing in it: making one takes seconds."""
    home = Home(tmp_path_factory.mktemp("template"))
    Registry(home).prepare()
    return home.mlflow_db


@pytest.fixture
def registry(tmp_path: Path, template: Path) -> Registry:
    home = Home(tmp_path / "home")
    home.mlflow_artifacts.mkdir(parents=True)
    shutil.copy(template, home.mlflow_db)
    return Registry(home)


def entry(run: str = "run-1", *, candidate: str = "a", passed: bool = True, content: bytes = CONTENT) -> CandidateEntry:
    return CandidateEntry(
        system=NAME, run=run, candidate=sha256_bytes(candidate.encode()), model=sha256_bytes(content), content=content,
        trusted_types=("numpy.dtype",), columns=(("income", "float64"), ("purpose", "category")), passed=passed,
        started=time.time() - 2, params={"max_iter": "10"}, metrics={"validation_roc_auc": 0.8},
        tags={"aisdp.definition": "d" * 64})


def staged(registry: Registry, **changes: str) -> str:
    listed = registry.record_candidate(entry(**changes))
    assert listed.version is not None
    registry.describe(NAME, listed.version, {key: "filled" for key in REQUIRED_METADATA if key != "aisdp.candidate"})
    registry.stage(NAME, listed.version)
    return listed.version


def test_a_training_that_passed_is_one_finished_run_and_one_experimental_version(registry: Registry):
    listed = registry.record_candidate(entry())
    assert registry.runs_of(NAME, "run-1") == ((listed.run, "FINISHED"),)
    assert listed.version == "1"
    assert registry.lifecycle(NAME, "1") == "experimental"
    assert listed.as_references() == {"mlflow_run": listed.run, "registry_name": NAME, "registry_version": "1"}


def test_a_training_that_failed_is_one_failed_run_and_no_version(registry: Registry):
    listed = registry.record_candidate(entry(passed=False))
    assert registry.runs_of(NAME, "run-1") == ((listed.run, "FAILED"),)
    assert listed.version is None
    assert registry.version_of(NAME, entry().candidate) is None


def test_recording_twice_makes_one_run_and_one_version(registry: Registry):
    assert registry.record_candidate(entry()) == registry.record_candidate(entry())
    assert len(registry.runs_of(NAME, "run-1")) == 1


def test_the_same_candidate_in_another_run_is_not_registered_again(registry: Registry):
    first, second = registry.record_candidate(entry("run-1")), registry.record_candidate(entry("run-2"))
    assert (first.version, second.version) == ("1", "1")
    assert first.run != second.run


def test_another_candidate_is_another_version_even_if_its_file_is_the_same(registry: Registry):
    assert registry.record_candidate(entry(candidate="a")).version == "1"
    assert registry.record_candidate(entry("run-2", candidate="b")).version == "2"


def test_the_registry_holds_exactly_the_bytes_it_was_given(registry: Registry):
    version = registry.record_candidate(entry()).version
    assert version is not None
    assert registry.model_bytes(NAME, version) == CONTENT


def test_other_bytes_than_the_candidates_are_refused_before_anything_is_written(registry: Registry):
    with pytest.raises(RegistryError, match="not the candidate's"):
        registry.record_candidate(replace(entry(), content=b"others"))
    assert registry.runs_of(NAME, "run-1") == ()


def test_bytes_that_were_swapped_on_disk_are_seen_by_whoever_compares(registry: Registry):
    version = registry.record_candidate(entry()).version
    assert version is not None
    (path,) = registry.home.mlflow_artifacts.rglob("model.skops")
    path.write_bytes(b"swapped")
    assert sha256_bytes(registry.model_bytes(NAME, version)) != entry().model
    path.unlink()
    with pytest.raises(RegistryError, match="has no model file"):
        registry.model_bytes(NAME, version)


def test_a_run_that_a_dead_process_left_running_is_ended_by_the_next_one(registry: Registry):
    registry.record_candidate(entry("run-1"))
    client = registry_module._client(registry.uri)
    experiment = client.get_experiment_by_name(NAME).experiment_id
    left = client.create_run(experiment, tags={"aisdp.pipeline_execution_id": "run-dead"}).info.run_id
    registry.record_candidate(entry("run-2"))
    assert registry.runs_of(NAME, "run-dead") == ((left, "KILLED"),)


def test_a_run_that_its_own_retry_finds_running_is_taken_up_and_ended(registry: Registry):
    registry.record_candidate(entry("run-0"))
    client = registry_module._client(registry.uri)
    experiment = client.get_experiment_by_name(NAME).experiment_id
    left = client.create_run(experiment, tags={"aisdp.pipeline_execution_id": "run-1"}).info.run_id
    assert registry.record_candidate(entry("run-1")).run == left
    assert registry.runs_of(NAME, "run-1") == ((left, "FINISHED"),)


def test_a_version_is_not_staged_while_one_required_field_is_missing(registry: Registry):
    version = registry.record_candidate(entry()).version
    assert version is not None
    for left_out in ("aisdp.seed", "aisdp.evaluation_report"):
        registry.describe(NAME, version, {key: "filled" for key in REQUIRED_METADATA if key not in ("aisdp.candidate", left_out)})
        registry.describe(NAME, version, {left_out: "  "})
        assert registry.missing_metadata(NAME, version) == (left_out,)
        with pytest.raises(RegistryError, match=left_out):
            registry.stage(NAME, version)
    assert registry.lifecycle(NAME, version) == "experimental"


def test_metadata_outside_the_namespace_is_refused(registry: Registry):
    version = registry.record_candidate(entry()).version
    assert version is not None
    with pytest.raises(RegistryError, match=r"outside aisdp\.\*: lifecycle"):
        registry.describe(NAME, version, {"lifecycle": "production"})


def test_a_version_goes_from_experimental_to_staging_to_production_and_archives_the_one_before(registry: Registry):
    first, second = staged(registry), staged(registry, run="run-2", candidate="b")
    assert registry.pointed_at(NAME, "staging") == second
    assert registry.promote(NAME, first) is None
    assert (registry.lifecycle(NAME, first), registry.pointed_at(NAME, "production")) == ("production", first)
    assert registry.promote(NAME, second) == first
    assert registry.promote(NAME, second) is None
    assert registry.lifecycle(NAME, first) == "archived"
    assert (registry.pointed_at(NAME, "production"), registry.pointed_at(NAME, "staging")) == (second, None)


def test_a_rollback_puts_the_version_before_back_and_the_withdrawn_one_never_answers_again(registry: Registry):
    first, second = staged(registry), staged(registry, run="run-2", candidate="b")
    registry.promote(NAME, first)
    registry.promote(NAME, second)
    for _ in range(2):
        registry.rollback(NAME, first, leaving="withdrawn")
    assert registry.pointed_at(NAME, "production") == first
    assert registry.lifecycle(NAME, second) == "withdrawn"
    with pytest.raises(RegistryError, match="is withdrawn; it cannot become production"):
        registry.rollback(NAME, second, leaving="archived")
    assert registry.lifecycle(NAME, first) == "production"
    assert registry.pointed_at(NAME, "production") == first


def test_an_experimental_version_cannot_be_promoted(registry: Registry):
    version = registry.record_candidate(entry()).version
    assert version is not None
    with pytest.raises(RegistryError, match="is experimental; it cannot become production"):
        registry.promote(NAME, version)


def test_a_rejected_version_goes_nowhere_and_no_alias_points_at_it(registry: Registry):
    version = staged(registry)
    registry.close(NAME, version, "rejected")
    assert registry.pointed_at(NAME, "staging") is None
    with pytest.raises(RegistryError, match="nowhere"):
        registry.stage(NAME, version)


def test_no_transition_leads_back_from_what_was_rejected_or_withdrawn():
    assert TRANSITIONS["rejected"] == TRANSITIONS["withdrawn"] == ()
    assert set(TRANSITIONS["quarantined"]) == {"withdrawn"}


def test_a_version_that_was_deleted_from_the_registry_is_refused_by_name(registry: Registry):
    version = registry.record_candidate(entry()).version
    assert version is not None
    registry_module._client(registry.uri).delete_model_version(NAME, version)
    for ask in (registry.lifecycle, registry.model_bytes, registry.missing_metadata):
        with pytest.raises(RegistryError, match=f"lists no version {version} of {NAME}"):
            ask(NAME, version)


def test_a_lifecycle_that_was_forged_in_the_registry_is_not_believed(registry: Registry):
    version = registry.record_candidate(entry()).version
    assert version is not None
    registry_module._client(registry.uri).set_model_version_tag(NAME, version, "lifecycle", "blessed")
    with pytest.raises(RegistryError, match="no lifecycle that we gave it"):
        registry.lifecycle(NAME, version)


def test_mlflows_own_process_wide_address_is_not_touched(registry: Registry):
    import mlflow

    before = mlflow.get_tracking_uri()
    registry.record_candidate(entry())
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None
    assert "MLFLOW_TRACKING_URI" not in os.environ


_RECORD = """
import sys
from compliance_assets_tests.test_registry import entry
from compliance_assets.registry import Registry
from compliance_assets.evidence.home import Home
from pathlib import Path
print(Registry(Home(Path(sys.argv[1]))).record_candidate(entry(sys.argv[2], candidate=sys.argv[3])))
"""


def _at_once(home: Path, *arguments: tuple[str, str]) -> list[str]:
    """The same recording in as many processes at once as there are arguments; what each printed."""
    folder = Path(registry_module.__file__).parents[1]
    running = [subprocess.Popen([sys.executable, "-c", _RECORD, str(home), *given], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, cwd=folder) for given in arguments]
    said = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0] * len(running), said
    return [out.strip() for out, _ in said]


@pytest.mark.slow
def test_two_processes_that_find_no_database_make_one_schema_one_run_and_one_version(tmp_path: Path):
    home = Home(tmp_path / "home")
    home.mlflow_artifacts.mkdir(parents=True)
    first, second = _at_once(home.path, ("run-1", "a"), ("run-1", "a"))
    assert first == second
    registry = Registry(home)
    assert [status for _, status in registry.runs_of(NAME, "run-1")] == ["FINISHED"]
    assert registry.version_of(NAME, entry().candidate) == "1"


@pytest.mark.slow
def test_two_trainings_at_once_make_two_versions_and_leave_no_run_open(tmp_path: Path, registry: Registry):
    _at_once(registry.home.path, ("run-1", "a"), ("run-2", "b"))
    assert {registry.version_of(NAME, entry(candidate=which).candidate) for which in "ab"} == {"1", "2"}
    assert {status for run in ("run-1", "run-2") for _, status in registry.runs_of(NAME, run)} == {"FINISHED"}
