"""Sensors ask for the right run once, the coordinator says who launched, and a failed run becomes one line for people."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import yaml
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.workspace.context import WorkspaceRequestContext

from compliance_assets.governance.delivering import ALERTS
from compliance_assets.orchestration.assets import system_definitions
from compliance_assets.orchestration.coordinator import UNKNOWN, NamedRunCoordinator, tags_of
from compliance_assets.orchestration.sensors import alert_sensor
from compliance_assets_tests.evidence.forging import simulated_rollout
from compliance_assets_tests.orchestration.dagster_world import dagster_world
from compliance_assets_tests.orchestration.scenarios import BAD_DATA, prepare
from compliance_assets_tests.project import GOVERNANCE, OWNER, SYSTEM, decide, step
from compliance_assets_tests.small_lender import write_small_lender

REPOSITORY = Path(__file__).resolve().parents[2]


def sensor(root: Path, name: str) -> dg.SensorDefinition:
    found = system_definitions(root / "systems" / SYSTEM)
    return next(one for one in found.sensors or () if one.name == f"{SYSTEM}_{name}")  # type: ignore[return-value]


def tick(root: Path, name: str, cursor: str | None = None) -> Any:
    with dagster_world(root) as world:
        return sensor(root, name).evaluate_tick(dg.build_sensor_context(instance=world.instance, cursor=cursor))


def test_the_approval_sensor_is_on_and_looks_every_five_seconds(tmp_path: Path) -> None:
    write_small_lender(tmp_path)
    one = sensor(tmp_path, "approval_arrived")
    assert one.default_status is dg.DefaultSensorStatus.RUNNING and one.minimum_interval_seconds == 5


def test_an_approval_deploys_once_everybody_was_heard(in_review: Path) -> None:
    from compliance_assets.pipeline import open_river

    nobody = tick(in_review, "approval_arrived")
    assert not nobody.run_requests and "technical_owner" in nobody.skip_message
    decide(open_river(in_review), OWNER)
    one = tick(in_review, "approval_arrived", nobody.cursor)
    assert not one.run_requests and "governance_lead" in one.skip_message
    decide(open_river(in_review), GOVERNANCE)
    both = tick(in_review, "approval_arrived", one.cursor)
    assert len(both.run_requests) == 1 and OWNER in both.run_requests[0].tags["compliance/because"]
    again = tick(in_review, "approval_arrived", one.cursor)
    assert again.run_requests[0].run_key == both.run_requests[0].run_key, "Dagster starts one run for one key"
    assert not tick(in_review, "approval_arrived", both.cursor).run_requests


def test_a_rejection_deploys_nothing(in_review: Path) -> None:
    from compliance_assets.pipeline import open_river

    decide(open_river(in_review), OWNER)
    decide(open_river(in_review), GOVERNANCE, "reject", "The gap between the age bands is not explained anywhere.")
    said = tick(in_review, "approval_arrived")
    assert not said.run_requests and "rejected" in said.skip_message


def test_a_rollout_that_holds_is_ended_when_its_approval_is_taken_back(in_review: Path) -> None:
    from compliance_assets.pipeline import open_river

    river = open_river(in_review)
    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    assert step(river, "approval")
    simulated_rollout(river, SYSTEM, until="canary_started")
    standing = tick(in_review, "approval_arrived")
    assert [request.asset_selection for request in standing.run_requests] == [None], "while it stands, deploying goes on"
    decide(open_river(in_review), OWNER, "reject", "The branch reports refusals that nobody can explain.")
    ended = tick(in_review, "approval_arrived", standing.cursor)
    (request,) = ended.run_requests
    assert [key.path[-1] for key in request.asset_selection] == ["deployment_record"] and "no longer stands" in request.tags["compliance/because"]
    assert not tick(in_review, "approval_arrived", ended.cursor).run_requests, "asked once"


def test_rubbish_in_the_inbox_deploys_nothing_and_is_set_aside(in_review: Path) -> None:
    (in_review / ".compliance" / "inbox" / f"{'ab' * 32}.json").write_text('{"payload": "approved"}')
    assert not tick(in_review, "approval_arrived").run_requests
    assert list((in_review / ".compliance" / "inbox" / "refused").glob("*.reason.txt"))


def test_a_changed_definition_is_run_again_and_an_unchanged_one_is_not(project: Path) -> None:
    assert "never run" in tick(project, "definition_changed").skip_message
    with dagster_world(project) as world:
        assert world.materialize("dataset").success
    assert not tick(project, "definition_changed").run_requests
    path = project / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("decision_threshold: 0.5", "decision_threshold: 0.4"))
    changed = tick(project, "definition_changed")
    assert len(changed.run_requests) == 1
    path.write_text("system: [")
    assert "cannot be read" in sensor_after_breaking(project)


def sensor_after_breaking(project: Path) -> str:
    """The sensor was loaded before the file broke: it keeps ticking and says what is wrong."""
    from compliance_assets.orchestration import sensors
    from compliance_assets.pipeline import open_river

    with dagster_world(project) as world:
        said = sensors._after_change(dg.build_sensor_context(instance=world.instance), open_river(project), SYSTEM)
    assert isinstance(said, dg.SkipReason)
    return str(said.skip_message)


def test_new_bytes_in_a_raw_file_start_a_run_once(tmp_path: Path) -> None:
    from compliance_assets.trust.canonical import sha256_bytes

    raw = b"application_id,sex\n1,female\n"
    folder = write_small_lender(tmp_path, **{"data.source": {"kind": "csv", "files": [{"path": "raw.csv", "sha256": str(sha256_bytes(raw))}]}})
    missing = tick(tmp_path, "new_data")
    assert not missing.run_requests and "raw.csv" in missing.skip_message
    (folder / "raw.csv").write_bytes(raw)
    declared = tick(tmp_path, "new_data")
    assert not declared.run_requests and "declared" in declared.skip_message
    (folder / "raw.csv").write_bytes(raw + b"2,male\n")
    changed = tick(tmp_path, "new_data", declared.cursor)
    assert len(changed.run_requests) == 1
    assert not tick(tmp_path, "new_data", changed.cursor).run_requests


def test_a_failed_gate_becomes_one_structured_line(tmp_path: Path) -> None:
    root = prepare(tmp_path / "world", BAD_DATA)
    with dagster_world(root) as world:
        run = world.instance.get_runs()[0]
        failed = next(event for event in world.events(run.run_id) if event.event_type_value == "PIPELINE_FAILURE")
        context = dg.build_run_status_sensor_context("failed_runs_to_alerts", failed, world.instance, run).for_run_failure()
        alert_sensor(root)(context)
    lines = (root / ".compliance" / "logs" / ALERTS).read_text().splitlines()
    assert len(lines) == 1
    line = json.loads(lines[0])
    assert line["rule"] == "gate label" and "label.prevalence" in line["value"] and line["system"] == SYSTEM and line["run"] == run.run_id
    assert line["remedy"]


# -------------------------------------------------------------------------------------------------------- the coordinator


def _submitted(headers: dict[str, str] | None, tags: dict[str, str], *assets: tuple[str, str]) -> dict[str, str]:
    """The tags of a run that came over HTTP with these headers, or (None) from the daemon."""
    run = dg.DagsterRun(job_name="any", tags=tags, asset_selection=frozenset(dg.AssetKey(path) for path in assets) or None)
    workspace: Any = SimpleNamespace()
    if headers is not None:
        workspace = WorkspaceRequestContext.__new__(WorkspaceRequestContext)
        object.__setattr__(workspace, "_source", SimpleNamespace(headers=headers))
    return {**tags, **tags_of(SubmitRunContext(run, workspace))}


def test_the_guards_name_is_on_the_run_whatever_the_client_wrote() -> None:
    assert _submitted({"X-Forwarded-User": "ada"}, {"user": "eve"})["user"] == "ada"


def test_a_run_that_came_past_the_guard_is_nobodys() -> None:
    assert _submitted({}, {"user": "eve"})["user"] == UNKNOWN


def test_a_run_of_the_daemon_keeps_its_tags() -> None:
    assert _submitted(None, {"dagster/sensor_name": "one"}) == {"dagster/sensor_name": "one"}


def test_a_run_says_which_system_it_is_about() -> None:
    assert _submitted({}, {}, ("a", "dataset"), ("a", "features"))["compliance/system"] == "a"
    assert "compliance/system" not in _submitted({}, {}, ("a", "dataset"), ("b", "dataset"))


def test_dagster_uses_this_coordinator_as_dagster_yaml_says(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_coordinator, NamedRunCoordinator)


def test_dagster_is_told_to_keep_to_itself_and_one_run_for_each_system() -> None:
    declared = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
    assert declared["telemetry"]["enabled"] is False and declared["nux"]["enabled"] is False
    limit = declared["run_coordinator"]["config"]["tag_concurrency_limits"][0]
    assert limit == {"key": "compliance/system", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
