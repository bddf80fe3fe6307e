"""Nothing goes around the gates: one test for each way that plain Dagster leaves open, from Python.

Each way is tried in three worlds: training on a dataset whose gate failed, registering a model whose fairness gate failed, and
deploying without approval. In plain Dagster most of these succeed. The webserver, the command lines and the daemon are tried
in `test_bypasses_served`.

So that it is the wall that refuses, and not a pointer that happens to be missing, each way is tried with Dagster pointing at what
did not pass; where something else says no first (Dagster's own validation, the barrier's gate), the wall is asked behind it.
`python -m compliance_assets_tests.emptied_wall` shows that each of these tests fails without the wall.
"""

from __future__ import annotations

import json
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData

from compliance_assets.evidence.lookup import chained, tree_of
from compliance_assets.orchestration.assets import system_definitions
from compliance_assets.policy.river import rule_named
from compliance_assets.trust.canonical import Digest
from compliance_assets.trust.merkle import leaf_hash
from compliance_assets_tests.orchestration.dagster_world import dagster_world, key
from compliance_assets_tests.orchestration.scenarios import (
    BAD_DATA,
    SCENARIOS,
    Attempt,
    Scenario,
    attempt,
    prepare,
)
from compliance_assets_tests.project import SYSTEM, copied, run_to


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each world, made once."""
    return {}


def _world(scenario: Scenario, prepared: dict[str, Path], factory: pytest.TempPathFactory) -> Path:
    if scenario.name not in prepared:
        prepared[scenario.name] = prepare(factory.mktemp("prepared") / "world", scenario)
    return prepared[scenario.name]


@pytest.fixture(params=[pytest.param(scenario, id=scenario.barrier, marks=() if scenario is BAD_DATA else pytest.mark.slow)
                        for scenario in SCENARIOS])
def tried(request: pytest.FixtureRequest, prepared: dict[str, Path], tmp_path_factory: pytest.TempPathFactory,
          tmp_path: Path) -> Iterator[Attempt]:
    """Somebody about to try, in each of the three worlds."""
    scenario: Scenario = request.param
    with attempt(_world(scenario, prepared, tmp_path_factory), scenario, tmp_path / "world") as world:
        yield world


@pytest.fixture
def bad_data(prepared: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[Attempt]:
    with attempt(_world(BAD_DATA, prepared, tmp_path_factory), BAD_DATA, tmp_path / "world") as world:
        yield world


def forge_checks(world: Attempt) -> None:
    """Tell Dagster that every gate of the barrier passed, on its latest materialisation."""
    latest = world.instance.fetch_materializations(world.barrier, limit=1).records[0]
    target = AssetCheckEvaluationTargetMaterializationData(storage_id=latest.storage_id, run_id=latest.run_id, timestamp=latest.timestamp)
    for made in world.assets():
        for spec in made.check_specs:
            if spec.asset_key == world.barrier:
                world.instance.report_runless_asset_event(dg.AssetCheckEvaluation(
                    asset_key=world.barrier, check_name=spec.name, passed=True, metadata={}, target_materialization_data=target))


# -------------------------------------------------------------------------------------------- running what is downstream


def test_running_only_the_downstream_asset_is_refused(tried: Attempt) -> None:
    for pointed in (False, True):
        if pointed:
            tried.forge_materialisation(tried.refused_digest)
        result = tried.materialize(tried.scenario.target)
        tried.refused(result.run_id)
        assert tried.scenario.says in tried.said(result.run_id)


def test_training_itself_is_refused_on_a_dataset_whose_gate_failed(bad_data: Attempt) -> None:
    bad_data.forge_materialisation(bad_data.refused_digest)
    for names in (("candidate_model",), ("features", "candidate_model")):
        result = bad_data.materialize(*names)
        bad_data.refused(result.run_id)


def test_running_upstream_and_downstream_without_the_middle_is_refused(tried: Attempt) -> None:
    tried.forge_materialisation(tried.refused_digest)
    names = ("dataset", tried.scenario.target) if tried.scenario is not BAD_DATA else ("features", "evaluation_report")
    result = tried.materialize(*names)
    tried.refused(result.run_id)


def test_running_barrier_and_target_again_is_refused_and_is_no_second_verdict(tried: Attempt) -> None:
    result = tried.materialize(tried.scenario.barrier, tried.scenario.target)
    tried.nothing_came_of_it()
    assert not result.success
    steps = {event.step_key for event in tried.events(result.run_id) if event.event_type_value == "STEP_START"}
    assert steps == {f"{SYSTEM}__{tried.scenario.barrier}"}
    tried.behind_it_stands_the_wall()


def test_checks_cannot_be_left_out(tried: Attempt) -> None:
    both = dg.AssetSelection.assets(tried.barrier, tried.target)
    for selection in (both.without_checks(), both - dg.AssetSelection.checks_for_assets(tried.barrier),
                      dg.AssetSelection.assets(tried.target).without_checks()):
        with pytest.raises(dg.DagsterInvalidDefinitionError) as said:
            dg.materialize(tried.assets(), selection=selection, instance=tried.instance, raise_on_error=False)
        assert isinstance(said.value.__cause__, dg.DagsterInvalidSubsetError)
    tried.behind_it_stands_the_wall()


def test_assets_made_without_their_checks_are_refused(tried: Attempt) -> None:
    """Somebody who rebuilds the barrier without any check, publishing what did not pass, gets no further than its asset."""
    digest = str(tried.refused_digest)

    @dg.asset(key=tried.barrier)
    def unchecked() -> dg.Output[str]:
        return dg.Output(digest, data_version=dg.DataVersion(digest))

    others = [made for made in tried.assets() if tried.barrier not in made.keys]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        alone = dg.materialize([unchecked], instance=tried.instance, raise_on_error=False)
    assert alone.success, "plain Dagster publishes it"
    result = dg.materialize([unchecked, *others], selection=[tried.target], instance=tried.instance, raise_on_error=False)
    tried.refused(result.run_id)


# ----------------------------------------------------------------------------------------------------------- running again


def everything() -> dg.JobDefinition:
    """All eight stages, as a re-execution loads them (found through COMPLIANCE_ROOT)."""
    import os

    definitions = system_definitions(Path(os.environ["COMPLIANCE_ROOT"]) / "systems" / SYSTEM)
    return dg.Definitions.merge(definitions, dg.Definitions(executor=dg.in_process_executor)).resolve_job_def(f"{SYSTEM}_release")


def reloaded() -> Any:
    """The job as it is in this world: Dagster keeps the last one that it loaded, and that was another world's."""
    from dagster._core.definitions.reconstruct import ReconstructableJob

    ReconstructableJob.get_definition.cache_clear()
    ReconstructableJob.get_repository_definition.cache_clear()
    return dg.reconstructable(everything)


def _first_run(world: Attempt) -> str:
    with dg.execute_job(reloaded(), instance=world.instance) as result:
        assert not result.success
        return result.run_id


@pytest.mark.slow
def test_running_again_from_the_failure_is_refused(tried: Attempt) -> None:
    options = dg.ReexecutionOptions.from_failure(_first_run(tried), tried.instance)
    with dg.execute_job(reloaded(), instance=tried.instance, reexecution_options=options) as result:
        assert not result.success
    tried.nothing_came_of_it()
    tried.behind_it_stands_the_wall()


def test_running_again_only_the_selected_step_is_refused(tried: Attempt) -> None:
    parent = _first_run(tried)
    tried.point_at_everything()
    options = dg.ReexecutionOptions(parent_run_id=parent, step_selection=[f"{SYSTEM}__{tried.scenario.target}"])
    with dg.execute_job(reloaded(), instance=tried.instance, reexecution_options=options) as result:
        tried.refused(result.run_id)


def test_a_sensor_that_requests_only_the_target_is_refused(tried: Attempt) -> None:
    @dg.sensor(asset_selection=dg.AssetSelection.all())
    def impatient() -> dg.RunRequest:
        return dg.RunRequest(asset_selection=[tried.target])

    tried.forge_materialisation(tried.refused_digest)
    request = impatient(dg.build_sensor_context(instance=tried.instance))
    assert isinstance(request, dg.RunRequest) and request.asset_selection is not None
    result = dg.materialize(tried.assets(), selection=list(request.asset_selection), instance=tried.instance, raise_on_error=False,
                            tags={"dagster/sensor_name": "impatient"})
    tried.refused(result.run_id)


def test_an_automation_condition_that_requests_the_target_is_refused(tried: Attempt) -> None:
    tried.forge_materialisation(tried.refused_digest)
    automated = [made.map_asset_specs(lambda spec: spec.replace_attributes(automation_condition=dg.AutomationCondition.missing()))
                 for made in tried.assets()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # raised inside Dagster itself
        asked = dg.evaluate_automation_conditions(dg.Definitions(automated), instance=tried.instance)
    assert asked.get_num_requested(tried.target) == 1
    result = dg.materialize(automated, selection=[tried.target], instance=tried.instance, raise_on_error=False)
    tried.refused(result.run_id)


# ------------------------------------------------------------------------------------------------------------ run config


class Obliging(dg.IOManager):
    """Gives whoever asks the digest that did not pass, and publishes everything."""

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        return None

    def load_input(self, context: dg.InputContext) -> str:
        return self.digest


@pytest.mark.parametrize("config", [
    {"resources": {"io_manager": {"config": {"root": "/elsewhere"}}}},
    {"resources": {f"{SYSTEM}__dataset__io_manager": {"config": {"enforce": False}}}},
    {"ops": {f"{SYSTEM}__features": {"config": {"minimum": 0}}}},
    {"ops": {f"{SYSTEM}__features": {"config": {"evaluation": {"fairness": {"bounds": []}}}}}},
    {"ops": {f"{SYSTEM}__features": {"inputs": {"dataset": {"value": "ab" * 32}}}}},
    {"ops": {f"{SYSTEM}__features": {"inputs": {"dataset": "ab" * 32}}}},
])
def test_no_run_config_reaches_a_gate_a_threshold_or_an_io_manager(bad_data: Attempt, config: dict[str, Any]) -> None:
    """Dagster refuses some of these itself and lets others through to ops and resources, which read no config at all."""
    bad_data.forge_materialisation(bad_data.refused_digest)
    try:
        result = bad_data.materialize(bad_data.scenario.target, run_config=config)
    except dg.DagsterInvalidConfigError:
        bad_data.nothing_came_of_it()
        bad_data.behind_it_stands_the_wall()
    else:
        bad_data.refused(result.run_id)
        assert "label.prevalence" in bad_data.said(result.run_id)


def test_an_empty_resource_config_changes_nothing(bad_data: Attempt) -> None:
    bad_data.forge_materialisation(bad_data.refused_digest)
    result = bad_data.materialize("features", run_config={"resources": {f"{SYSTEM}__dataset__io_manager": {"config": {}}}})
    bad_data.refused(result.run_id)


def test_another_io_manager_is_not_used(tried: Attempt) -> None:
    obliging = Obliging(tried.refused_digest)
    tried.forge_materialisation(tried.refused_digest)
    result = tried.materialize(tried.scenario.target, resources={"io_manager": obliging})
    tried.refused(result.run_id)
    with pytest.raises(dg.DagsterInvalidInvocationError, match="conflicting resource definitions"):
        tried.materialize(tried.scenario.target, resources={f"{SYSTEM}__{tried.scenario.barrier}__io_manager": obliging})
    tried.nothing_came_of_it()


def test_an_io_manager_put_in_the_place_of_ours_obliges_in_vain(tried: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    from compliance_assets.orchestration import io

    obliging = Obliging(tried.refused_digest)
    monkeypatch.setattr(io.DigestsOnly, "load_input", lambda self, context: obliging.load_input(context))
    monkeypatch.setattr(io.DigestsOnly, "handle_output", lambda self, context, obj: None)
    result = tried.materialize(tried.scenario.target)
    tried.nothing_came_of_it()
    assert not result.success and "rule: " in tried.said(result.run_id)


# ---------------------------------------------------------------------------------------------------------- forged events


def test_a_forged_materialisation_is_refused(tried: Attempt) -> None:
    tried.forge_materialisation(tried.refused_digest)
    result = tried.materialize(tried.scenario.target)
    tried.refused(result.run_id)
    assert tried.refused_digest[:12] in tried.said(result.run_id)


@pytest.mark.parametrize("version", ["", "latest", "AB" * 32, "ab" * 31, "../../etc/passwd"])
def test_a_forged_materialisation_that_names_no_digest_is_refused(bad_data: Attempt, version: str) -> None:
    bad_data.forge_materialisation(version)
    result = bad_data.materialize("features")
    bad_data.refused(result.run_id)
    bad_data.behind_it_stands_the_wall()


def test_forged_passing_checks_are_refused(tried: Attempt) -> None:
    tried.forge_materialisation(tried.refused_digest)
    forge_checks(tried)
    result = tried.materialize(tried.scenario.target)
    tried.refused(result.run_id)


def test_events_forged_into_a_real_run_are_refused(tried: Attempt) -> None:
    run = tried.prepared_run()
    step = f"{SYSTEM}__{tried.scenario.barrier}"
    materialised = dg.AssetMaterialization(tried.barrier, tags={"dagster/data_version": tried.refused_digest})
    tried.instance.report_dagster_event(DagsterEvent(
        event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value, job_name=run.job_name, step_key=step,
        event_specific_data=StepMaterializationData(materialised)), run.run_id)
    latest = tried.instance.fetch_materializations(tried.barrier, limit=1).records[0]
    assert latest.run_id == run.run_id
    for made in tried.assets():
        for spec in made.check_specs:
            if spec.asset_key == tried.barrier:
                tried.instance.report_dagster_event(DagsterEvent(
                    event_type_value=DagsterEventType.ASSET_CHECK_EVALUATION.value, job_name=run.job_name, step_key=step,
                    event_specific_data=dg.AssetCheckEvaluation(asset_key=tried.barrier, check_name=spec.name, passed=True, metadata={})),
                    run.run_id)
    result = tried.materialize(tried.scenario.target)
    tried.refused(result.run_id)


def test_a_forged_observation_is_not_even_read(bad_data: Attempt) -> None:
    bad_data.instance.report_runless_asset_event(dg.AssetObservation(bad_data.barrier, tags={"dagster/data_version": bad_data.refused_digest}))
    result = bad_data.materialize("features")
    bad_data.refused(result.run_id)
    bad_data.behind_it_stands_the_wall()


def test_rows_edited_in_dagsters_database_are_refused(tried: Attempt) -> None:
    tried.forge_materialisation(tried.refused_digest)
    edited = 0
    for path in (tried.root / ".compliance" / "dagster").rglob("*.db"):
        with sqlite3.connect(path) as database:
            tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
            if "asset_check_executions" in tables:
                edited += database.execute("update asset_check_executions set execution_status = 'SUCCEEDED'").rowcount
            if "event_logs" in tables:
                edited += database.execute(
                    "update event_logs set event = replace(replace(event, '\"passed\": false', '\"passed\": true'), "
                    "'\"success\": false', '\"success\": true')").rowcount
        database.close()
    assert edited
    result = tried.materialize(tried.scenario.target)
    tried.refused(result.run_id)


def test_a_deleted_run_takes_no_verdict_with_it(tried: Attempt) -> None:
    for run in tried.instance.get_runs():
        tried.instance.delete_run(run.run_id)
    tried.point_at_everything()
    result = tried.materialize(tried.scenario.target)
    tried.refused(result.run_id)


def test_a_wiped_asset_takes_no_verdict_with_it(tried: Attempt) -> None:
    tried.forge_materialisation(tried.refused_digest)
    tried.instance.wipe_assets([tried.barrier])
    first = tried.materialize(tried.scenario.target)
    tried.refused(first.run_id)
    tried.forge_materialisation(tried.refused_digest)
    second = tried.materialize(tried.scenario.target)
    tried.refused(second.run_id)


def test_an_asset_of_ones_own_that_only_warns_is_refused(tried: Attempt) -> None:
    """A stand-in for the barrier with a check of severity WARN: it publishes, but there is no record."""
    digest = str(tried.refused_digest)

    @dg.asset(key=tried.barrier, check_specs=[dg.AssetCheckSpec("gate", asset=tried.barrier, blocking=True)])
    def stand_in() -> Iterator[Any]:
        yield dg.Output(digest, metadata={"says": "fine"})
        yield dg.AssetCheckResult(check_name="gate", passed=False, severity=dg.AssetCheckSeverity.WARN)

    others = [made for made in tried.assets() if tried.barrier not in made.keys]
    result = dg.materialize([stand_in, *others], selection=[tried.barrier, tried.target], instance=tried.instance, raise_on_error=False)
    tried.refused(result.run_id)


# ------------------------------------------------------------------------------------- real evidence in the wrong place


@pytest.fixture(scope="module")
def made(founded_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy project, whose dataset and features Dagster has made."""
    root = copied(founded_world, tmp_path_factory.mktemp("made") / "world")
    with dagster_world(root) as world:
        assert world.materialize("dataset", "features").success
    return root


@pytest.fixture
def healthy(made: Path, tmp_path: Path) -> Iterator[Attempt]:
    """A fresh copy of it."""
    with attempt(made, BAD_DATA, tmp_path / "world") as world:
        yield world


def _edit(world: Attempt, old: str, new: str) -> None:
    path = world.root / "systems" / SYSTEM / "system.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _refused(world: Attempt, asset: str, *words: str) -> None:
    """Materialising `asset` is refused with these words, and neither Dagster nor the ledger knows a new one (an error is no verdict)."""
    def known() -> tuple[int, int]:
        judged = [record for record in world.river.archive.made_by(SYSTEM, rule_named(asset).name) if record.body.outcome != "error"]
        return len(world.materialised(asset)), len(judged)

    before = known()
    result = world.materialize(asset)
    said = world.said(result.run_id)
    assert not result.success and known() == before
    assert "rule: " in said and "remedy: " in said, said
    for word in words:
        assert word in said, said


def _overwrite(world: Attempt, digest: Digest, content: bytes) -> None:
    """Put other bytes where an artefact lies, as somebody who may write to the disk can."""
    path = world.river.archive.artefacts.open_path(digest)
    path.chmod(0o600)
    path.write_bytes(content)


@pytest.mark.parametrize("swapped", ["manifest", "rows"])
def test_an_artefact_swapped_on_disk_is_refused(healthy: Attempt, swapped: str) -> None:
    """Bytes that the stage could well use: a manifest whose training rows are the validation's, or training rows with a column turned."""
    import io

    import polars as pl

    from compliance_assets.stages.s2_feature_engineering import FeatureSet

    river = healthy.river
    head = river.head(SYSTEM, "features")
    assert head is not None
    features = FeatureSet.model_validate(river.value("features", head).model_dump())
    if swapped == "manifest":
        digest = head
        content = features.model_copy(update={"splits": {**features.splits, "train": features.splits["validation"]}}).manifest()
    else:
        digest, rows = Digest.parse(features.splits["train"].features), io.BytesIO()
        frame = pl.read_parquet(river.archive.artefacts.open_path(digest))
        frame.with_columns(frame.to_series(0).reverse()).write_parquet(rows)
        content = rows.getvalue()
    _overwrite(healthy, digest, content)
    _refused(healthy, "candidate_model", digest.short)


def test_a_gate_judged_under_another_definition_is_refused(healthy: Attempt) -> None:
    _edit(healthy, "decision_threshold: 0.5", "decision_threshold: 0.4")
    _refused(healthy, "candidate_model", "definition")


def test_a_pointer_back_to_an_older_version_is_refused(healthy: Attempt) -> None:
    older = healthy.river.head(SYSTEM, "dataset")
    _edit(healthy, "seed: 11}\n  key", "seed: 12}\n  key")
    assert healthy.materialize("dataset").success
    healthy.forge_materialisation(str(older), key("dataset"))
    _refused(healthy, "features", str(older)[:12])


def test_a_version_written_between_check_and_use_is_refused(healthy: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    from compliance_assets.orchestration import io

    genuine = io.DigestsOnly.load_input

    # Real bytes, so that nothing but the missing record speaks against them: the features under another report's name.
    river = healthy.river
    features = river.value("features", river.head(SYSTEM, "features") or Digest("0" * 64))
    other = features.model_copy(update={"report": river.value("dataset", Digest(features.model_dump()["dataset"])).model_dump()["quality_report"]})
    written = river.archive.artefacts.put_bytes(other.manifest())

    def overtaken(self: io.DigestsOnly, context: dg.InputContext) -> str:
        healthy.forge_materialisation(written, key("features"))
        return genuine(self, context)

    monkeypatch.setattr(io.DigestsOnly, "load_input", overtaken)
    _refused(healthy, "candidate_model", written.short)


@pytest.mark.parametrize("labelled", [True, False], ids=["as it is", "if values did not carry their system"])
def test_evidence_of_another_system_is_refused(healthy: Attempt, monkeypatch: pytest.MonkeyPatch, labelled: bool) -> None:
    from compliance_assets import pipeline
    from compliance_assets_tests.small_lender import write_small_lender

    write_small_lender(healthy.root, "other_lender", **{"data.source.seed": 99})
    river = healthy.river
    foreign = run_to(river, "dataset", system="other_lender")[-1]
    assert foreign
    healthy.forge_materialisation(str(foreign.digest), key("dataset"))
    if not labelled:
        monkeypatch.setattr(pipeline, "_checked", lambda value, system, asset: value)
    _refused(healthy, "features", "other_lender")


def test_evidence_of_another_stage_is_refused(healthy: Attempt) -> None:
    healthy.forge_materialisation(str(healthy.river.head(SYSTEM, "features")), key("dataset"))
    _refused(healthy, "features", "no record of")


def _change(database: sqlite3.Connection, dataset: int, features: int) -> None:
    """Another signature under the record of the features, with the leaf that goes with it."""
    [(body,)] = database.execute("select body from entry where idx = ?", (features,))
    [(other,)] = database.execute("select body from entry where idx = ?", (dataset,))
    envelope = {**json.loads(body), "signatures": json.loads(other)["signatures"]}
    forged = json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()
    database.execute("update entry set body = ?, leaf = ? where idx = ?", (forged, leaf_hash(forged), features))


def _remove(database: sqlite3.Connection, dataset: int, features: int) -> None:
    database.execute("delete from entry where idx = ?", (dataset,))


def _cut(database: sqlite3.Connection, dataset: int, features: int) -> None:
    """Everything from the record of the features on, with every trace that the file has of it."""
    for statement in ("delete from entry where idx >= ?1", "delete from subject where idx >= ?1", "delete from checkpoint where size > ?1",
                      "delete from node where (idx + 1) << level > ?1"):
        database.execute(statement, (features,))
    found: dict[str, list[tuple[str, str, str, int]]] = {}
    for row in database.execute("select bucket, digest, role, idx from subject"):
        found.setdefault(row[0], []).append(row)
    database.execute("delete from seal")
    database.executemany("insert into seal values (?, ?)", tree_of({bucket: chained(rows) for bucket, rows in found.items()}).items())


def _reorder(database: sqlite3.Connection, dataset: int, features: int) -> None:
    for table in ("entry", "subject"):
        for old, new in ((dataset, 1000), (features, dataset), (1000, features)):
            database.execute(f"update {table} set idx = ? where idx = ?", (new, old))


@pytest.mark.parametrize("edit", [_change, _remove, _cut, _reorder], ids=["changed", "removed", "cut", "reordered"])
def test_an_edited_ledger_lets_nothing_through(healthy: Attempt, edit: Callable[[sqlite3.Connection, int, int], None]) -> None:
    """The edits of somebody thorough, who may write the file but holds no key."""
    archive = healthy.river.archive
    dataset, features = (archive.made_by(SYSTEM, stage)[-1].index for stage in ("data_preparation", "feature_engineering"))
    with sqlite3.connect(healthy.root / ".compliance" / "ledger.db") as database:
        guards = list(database.execute("select name, sql from sqlite_master where type = 'trigger'"))
        for name, _ in guards:
            database.execute(f'drop trigger "{name}"')
        before = list(database.iterdump())
        edit(database, dataset, features)
        assert list(database.iterdump()) != before
        for _, text in guards:  # put back as they were, so that only the entries are different
            database.execute(text)
    database.close()
    made = len(healthy.materialised("candidate_model"))
    result = healthy.materialize("candidate_model")
    assert not result.success and len(healthy.materialised("candidate_model")) == made
    assert "rule: " in healthy.said(result.run_id), healthy.said(result.run_id)


# --------------------------------------------------------------------------------------------------------- the controls


def test_good_data_passes_across_separate_runs(healthy: Attempt) -> None:
    assert healthy.materialize("candidate_model").success
    assert healthy.materialize("evaluation_report").success


def test_a_mended_bound_lets_the_same_world_pass(bad_data: Attempt) -> None:
    path = bad_data.root / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("- 0.98\n    - 0.99", "- 0.6\n    - 0.9"))
    result = bad_data.materialize("dataset", "features")
    assert result.success, bad_data.said(result.run_id)


def test_a_failed_verdict_is_not_retried_and_not_reconsidered(bad_data: Attempt) -> None:
    first = len(bad_data.river.archive.made_by(SYSTEM, "data_preparation"))
    for _ in range(2):
        result = bad_data.materialize("dataset")
        assert not result.success
        assert not [event for event in bad_data.events(result.run_id) if event.event_type_value == "STEP_UP_FOR_RETRY"]
    assert len(bad_data.river.archive.made_by(SYSTEM, "data_preparation")) == first
    assert json.loads(json.dumps(bad_data.checks(result.run_id)))["label"] is False
    bad_data.behind_it_stands_the_wall()


def test_nothing_but_digests_is_handed_on(healthy: Attempt) -> None:
    version = (healthy.materialised("features")[0].asset_materialization.tags or {})["dagster/data_version"]  # type: ignore[union-attr]
    assert Digest.parse(version) == healthy.river.head(SYSTEM, "features")
