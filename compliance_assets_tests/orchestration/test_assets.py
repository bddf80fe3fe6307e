"""The graph is what it must be, and Dagster shows what happened, and no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from compliance_assets.orchestration.assets import KINDS, build_system_assets, system_definitions
from compliance_assets.orchestration.io import DigestsOnly
from compliance_assets.orchestration.refusing import is_infrastructure
from compliance_assets.policy.definition import load_definition
from compliance_assets.policy.river import ASSETS, RIVER, rule_named
from compliance_assets_tests.orchestration.dagster_world import dagster_world, key
from compliance_assets_tests.project import SYSTEM
from compliance_assets_tests.small_lender import write_small_lender


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> list[dg.AssetsDefinition]:
    return build_system_assets(load_definition(write_small_lender(tmp_path_factory.mktemp("declared"))))


def test_a_system_is_eight_assets_in_a_group_of_its_own(assets: list[dg.AssetsDefinition]) -> None:
    assert [made.key for made in assets] == [key(name) for name in ASSETS]
    assert {made.group_names_by_key[made.key] for made in assets} == {SYSTEM}


def test_every_gate_of_the_river_is_a_blocking_check_on_its_own_asset(assets: list[dg.AssetsDefinition]) -> None:
    for made, rule in zip(assets, RIVER, strict=True):
        specs = list(made.check_specs)
        assert [spec.name for spec in specs] == list(rule.gate_names)
        assert all(spec.blocking and spec.asset_key == made.key for spec in specs)


def test_no_asset_can_be_split_and_no_dependency_goes_past_the_io_manager(assets: list[dg.AssetsDefinition]) -> None:
    for made, rule in zip(assets, RIVER, strict=True):
        assert not made.can_subset
        assert set(made.node_keys_by_input_name.values()) == {key(name) for name in rule.needs}
        for name in made.node_keys_by_input_name:
            assert not made.node_def.input_def_named(name).dagster_type.is_nothing
        io_key = made.get_io_manager_key_for_asset_key(made.key)
        manager = made.resource_defs[io_key].resource_fn(None)  # type: ignore[call-arg,arg-type]
        assert isinstance(manager, DigestsOnly) and not isinstance(manager, dg.ConfigurableIOManager)


def test_no_asset_takes_config_or_resources(assets: list[dg.AssetsDefinition]) -> None:
    for made in assets:
        own = made.get_io_manager_key_for_asset_key(made.key)
        inputs = {f"{SYSTEM}__{name}__io_manager" for name in rule_named(made.key.path[-1]).needs}
        assert made.required_resource_keys <= {own, *inputs, "io_manager"}
        assert not made.op.config_schema or not made.op.config_schema.as_field().is_required


def test_every_asset_says_what_it_makes_when_it_refuses_and_under_which_articles(assets: list[dg.AssetsDefinition]) -> None:
    for made, rule in zip(assets, RIVER, strict=True):
        spec = made.specs_by_key[made.key]
        assert spec.description is not None and rule.refuses in spec.description and rule.articles[0] in spec.description
        assert spec.kinds == KINDS[rule.makes] and spec.owners and "dagster/code_references" in spec.metadata
        assert [name for name in spec.tags if name.startswith("ai-act/")]


def test_the_jobs_are_three_and_cover_what_they_say(tmp_path: Path) -> None:
    definitions = dg.Definitions.merge(system_definitions(write_small_lender(tmp_path)), dg.Definitions())
    covered = {name: {made.path[-1] for made in definitions.resolve_job_def(f"{SYSTEM}_{name}").asset_layer.executable_asset_keys}
               for name in ("to_review", "deploy", "release")}
    assert covered == {"to_review": set(ASSETS[:7]), "deploy": set(ASSETS[6:]), "release": set(ASSETS)}
    assert [schedule.cron_schedule for schedule in definitions.schedules or ()] == ["0 6 * * 1"]  # type: ignore[union-attr]


def test_two_systems_stand_side_by_side(tmp_path: Path) -> None:
    both = [system_definitions(write_small_lender(tmp_path, name)) for name in ("small_lender", "other_lender")]
    graph = dg.Definitions.merge(*both).resolve_asset_graph()
    assert len(graph.get_all_asset_keys()) == 18, "eight stages and a monitor each"
    for asset in graph.get_all_asset_keys():
        assert {parent.path[0] for parent in graph.get(asset).parent_keys} <= {asset.path[0]}


def test_loading_the_definitions_loads_none_of_the_heavy_libraries(tmp_path: Path) -> None:
    write_small_lender(tmp_path)
    script = ("import sys, compliance_assets.definitions as d; d.defs(); "
              "print([name for name in ('sklearn', 'mlflow', 'great_expectations', 'polars', 'fairlearn', 'scipy') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120,
                          env={"COMPLIANCE_ROOT": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path),
                               "PYTHONPATH": str(Path(__file__).resolve().parents[2])})
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------------- what is shown


@pytest.fixture(scope="module")
def shown(founded_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from compliance_assets_tests.project import copied

    root = copied(founded_world, tmp_path_factory.mktemp("shown") / "world")
    with dagster_world(root) as world:
        assert world.materialize("dataset", "features").success
    return root


def test_a_published_asset_carries_its_digest_and_its_place_in_the_ledger(shown: Path) -> None:
    with dagster_world(shown) as world:
        river = world.river
        materialised = world.materialised("dataset")[0].asset_materialization
        head = river.head(SYSTEM, "dataset")
        assert materialised is not None and materialised.tags is not None and head is not None
        assert materialised.tags["dagster/data_version"] == head
        record = river.archive.executions_of(head)[0]
        assert materialised.metadata["evaluated_digest"].value == head
        assert materialised.metadata["ledger_index"].value == record.index
        assert record.digest in str(materialised.metadata["evidence"].value)


def test_an_asset_and_its_checks_lead_to_the_governance_pages_where_there_are_some(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPLIANCE_PAGES_URL", "http://127.0.0.1:3100")
    with dagster_world(project) as world:
        assert world.materialize("dataset").success
        head = world.river.head(SYSTEM, "dataset")
        assert head is not None
        index = world.river.archive.executions_of(head)[0].index
        materialised = world.materialised("dataset")[0].asset_materialization
        records = world.instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(key("dataset"), "contract"), limit=1)
        assert materialised is not None and records[0].evaluation is not None
        for metadata in (materialised.metadata, records[0].evaluation.metadata):
            assert metadata["review"] == dg.MetadataValue.url(f"http://127.0.0.1:3100/systems/{SYSTEM}/candidates/{index}")
            assert metadata["record"] == dg.MetadataValue.url(f"http://127.0.0.1:3100/ledger/{index}")


def test_without_governance_pages_nothing_links_to_them(shown: Path) -> None:
    with dagster_world(shown) as world:
        materialised = world.materialised("dataset")[0].asset_materialization
        assert materialised is not None and not {"review", "record"} & materialised.metadata.keys()


def test_every_check_says_which_digest_was_judged_and_where_the_evidence_is(shown: Path) -> None:
    with dagster_world(shown) as world:
        head = world.river.head(SYSTEM, "dataset")
        latest = world.materialised("dataset")[0]
        for gate in rule_named("dataset").gate_names:
            records = world.instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(key("dataset"), gate), limit=1)
            evaluation = records[0].evaluation
            assert evaluation is not None and evaluation.passed
            assert evaluation.metadata["evaluated_digest"].value == head
            assert isinstance(evaluation.metadata["findings"], dg.TableMetadataValue)
            assert evaluation.target_materialization_data is not None
            assert evaluation.target_materialization_data.storage_id == latest.storage_id


def test_numbers_are_floats_and_bounds_are_drawn(shown: Path) -> None:
    with dagster_world(shown) as world:
        records = world.instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(key("dataset"), "cell_sizes"), limit=1)
        evaluation = records[0].evaluation
        assert evaluation is not None
        assert isinstance(evaluation.metadata["value"].value, float) and isinstance(evaluation.metadata["threshold"].value, float)
        assert str(evaluation.metadata["plot"].value).startswith("![")


def test_a_run_says_what_it_ran(shown: Path) -> None:
    with dagster_world(shown) as world:
        tags = world.instance.get_runs()[0].tags
        assert tags["compliance/system"] == SYSTEM
        assert tags["compliance/definition"] == world.river.definition(SYSTEM).digest
        assert {"compliance/commit", "compliance/dirty", "compliance/environment"} <= tags.keys()


def test_a_failed_gate_is_shown_as_failed_and_nothing_as_made(project: Path) -> None:
    path = project / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("prevalence: [0.6, 0.9]", "prevalence: [0.98, 0.99]"))
    with dagster_world(project) as world:
        result = world.materialize("dataset", "features")
        run = world.instance.get_run_by_id(result.run_id)
        assert run is not None and run.status is dg.DagsterRunStatus.FAILURE
        assert world.checks(result.run_id)["label"] is False and world.checks(result.run_id)["source"] is True
        assert not world.materialised("dataset") and not world.materialised("features")
        assert "label.prevalence" in world.said(result.run_id)


def test_waiting_for_people_is_neither_a_pass_nor_a_failure(founded_world: Path, tmp_path: Path) -> None:
    """An unapproved definition is the nearest thing to wait for: registration acts only under an approved one."""
    from compliance_assets_tests.project import copied

    root = copied(founded_world, tmp_path / "world")
    path = root / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("parity_rows: 50", "parity_rows: 51"))
    with dagster_world(root) as world:
        names = ("dataset", "features", "candidate_model", "evaluation_report", "staged_model", "integration_report")
        result = world.materialize(*names)
        run = world.instance.get_run_by_id(result.run_id)
        assert run is not None and run.status is dg.DagsterRunStatus.CANCELED
        assert "not approved" in run.tags["compliance/waiting_for"]
        events = world.events(result.run_id)
        assert [event for event in events if event.event_type_value == "PIPELINE_CANCELING" and "not approved" in (event.message or "")]
        assert "definition" not in world.checks(result.run_id)
        assert world.materialised("evaluation_report") and not world.materialised("staged_model")
        started = {event.step_key for event in events if event.event_type_value == "STEP_START"}
        assert f"{SYSTEM}__integration_report" not in started
        history = world.instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(key("staged_model"), "definition"), limit=1)
        # Planned, and never evaluated: with a canceled run Dagster shows such a check as skipped.
        assert history[0].status.value == "PLANNED"
        assert not world.river.archive.made_by(SYSTEM, "model_registration")


# ------------------------------------------------------------------------------------------------------------- retries


def test_only_infrastructure_is_tried_again() -> None:
    import sqlite3

    from compliance_assets.errors import ArtefactCorrupt, Busy, OutOfTurn, ServingError, StageError, Waiting

    assert is_infrastructure(OSError("disk")) and is_infrastructure(sqlite3.OperationalError("locked"))
    assert is_infrastructure(ServingError("did not come up", rule="serving"))
    for error in (OutOfTurn, StageError, Waiting, ArtefactCorrupt, Busy):
        assert not is_infrastructure(error("no", rule="a rule"))
    for other in (TypeError("a bug"), ValueError("a bug"), sqlite3.IntegrityError("a bug")):
        assert not is_infrastructure(other)


def test_a_full_disk_is_tried_twice_more_and_then_fails(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compliance_assets.orchestration import assets as under_test
    from compliance_assets.orchestration import refusing

    tries = []

    def full(*_: object, **__: object) -> None:
        tries.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(under_test, "advance", full)
    monkeypatch.setattr(refusing, "SECONDS_BETWEEN", 0.01)
    with dagster_world(project) as world:
        result = world.materialize("dataset")
        assert not result.success and len(tries) == 3
        assert "No space left" in world.said(result.run_id)
