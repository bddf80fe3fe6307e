"""A month of traffic: without drift nothing happens; with drift the run starts by itself, stops at the review, and people bring it to production."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from compliance_assets.evidence.deployments import desired_state
from compliance_assets.governance.explaining import explain
from compliance_assets.governance.review import open_review
from compliance_assets.governance.verification import verify
from compliance_assets.orchestration.assets import system_definitions
from compliance_assets.orchestration.sensors import _after_approval
from compliance_assets.orchestration.watching import after_drift
from compliance_assets.pipeline import River, open_river
from compliance_assets_tests.orchestration.dagster_world import dagster_world
from compliance_assets_tests.orchestration.test_watching import answered, deployed_world
from compliance_assets_tests.project import GOVERNANCE, OWNER, SYSTEM, approve_definition, copied, decide
from compliance_assets_tests.small_lender import SIMULATOR
from compliance_assets_tests.stages.test_s8_deployment import asked, supervised, version_answering

pytestmark = pytest.mark.slow
DAYS = 30
__all__ = ["deployed_world"]  # a fixture


def a_month(river: River, **how: Any) -> list[tuple[int, list[str], Any]]:
    """The drift sensor's decision on each morning after the first of 30 days of logged answers: (day, jobs asked for, tick)."""
    today = datetime.now(UTC) + timedelta(days=DAYS + 1)  # nobody was answered before the first release was deployed
    answered(river, DAYS, until=today, **how)
    found, cursor = [], None
    with dagster_world(river.root) as world:
        for day in range(1, DAYS + 1):
            morning = today - timedelta(days=DAYS - day)
            tick = after_drift(dg.build_sensor_context(instance=world.instance, cursor=cursor),
                               dataclasses.replace(river, now=lambda morning=morning: morning), SYSTEM, f"{SYSTEM}_watch", f"{SYSTEM}_to_review")
            cursor = tick.cursor
            found.append((day, [request.job_name for request in tick.run_requests], tick))
    return found


def executed(river: River, job: str, tags: dict[str, str]) -> dg.ExecuteInProcessResult:
    """The job that a sensor asked for, by Dagster, on the declaration as its files stand."""
    with dagster_world(river.root) as world:
        definitions = dg.Definitions.merge(system_definitions(river.root / "systems" / SYSTEM), dg.Definitions(executor=dg.in_process_executor))
        return definitions.resolve_job_def(job).execute_in_process(instance=world.instance, tags=tags | {"compliance/launcher": "engineer"}, raise_on_error=False)


def declare_todays_applicants(river: River) -> None:
    """The data of the people who apply now, declared, with what the drift gates are held against; approved by those who must."""
    folder = river.root / "systems" / SYSTEM
    (folder / "simulator.py").write_text(SIMULATOR.replace("lognormal(7.8, 0.35", "lognormal(7.3, 0.35"))
    declared = yaml.safe_load((folder / "system.yaml").read_text())
    declared["data"]["source"]["seed"] = 12
    for bound in declared["evaluation"]["drift"]["bounds"]:
        bound |= {"at_most": 5 if bound["metric"] == "psi" else 1, "because": "a region with lower incomes was opened; assessed and on file"}
    (folder / "system.yaml").write_text(yaml.safe_dump(declared, sort_keys=False, allow_unicode=True))
    approve_definition(open_river(river.root))


def test_a_month_without_drift_starts_nothing_but_the_monitor(deployed_world: Path, tmp_path: Path) -> None:
    month = a_month(open_river(copied(deployed_world, tmp_path / "world")), rows=200)
    assert {tuple(jobs) for _, jobs, _ in month} == {(f"{SYSTEM}_watch",)}


def test_a_month_of_growing_drift_ends_with_another_model_in_production_by_peoples_word(deployed_world: Path, tmp_path: Path) -> None:
    river = open_river(copied(deployed_world, tmp_path / "world"))
    before = desired_state("production", river.archive.deployments("production")).production
    assert before is not None
    month = a_month(river, poorer=0.5, rows=200)
    asked_for = [(day, tick) for day, jobs, tick in month if f"{SYSTEM}_to_review" in jobs]
    assert asked_for and 7 < asked_for[0][0] < DAYS, "not in the quiet first days, and not too late"
    log = river.home.serving / "production" / "log" / "blue"
    old = json.loads(sorted(log.glob("decisions-*.jsonl"))[0].read_text().splitlines()[0])["id"]
    then = explain(river, old)
    assert then

    declare_todays_applicants(river)
    request = next(one for one in asked_for[0][1].run_requests if one.job_name.endswith("to_review"))
    assert "drift of " in request.tags["compliance/because"]
    executed(river, request.job_name, dict(request.tags))
    river = open_river(river.root)
    assert desired_state("production", river.archive.deployments("production")).production == before, "the run stops at the review"
    chain, _, decisions = open_review(river, SYSTEM)
    assert not decisions
    fresh = river.value("candidate_model", chain.digest("candidate_model")).model_dump()["model"]
    assert fresh != before.model

    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    with dagster_world(river.root) as world:
        arrived = _after_approval(dg.build_sensor_context(instance=world.instance), open_river(river.root), SYSTEM)
    with supervised(open_river(river.root)), asked(open_river(river.root)) as tally:
        done = executed(river, f"{SYSTEM}_deploy", dict(arrived.run_requests[0].tags))
        assert done.success
        assert version_answering(river)["model"] == fresh
    assert set(tally.models) == {before.model, fresh}, "until then the one before answered"
    river = open_river(river.root)
    assert explain(river, old).as_json() == then.as_json(), "an old decision is explained as before"
    assert verify(river.archive).problems == []
