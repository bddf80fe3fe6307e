"""The drift sensor: quiet while nothing drifts, one run up to the review when it does, and the monitor's checks say what they saw."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from compliance_assets.governance import monitoring
from compliance_assets.governance.callers import callers
from compliance_assets.metrics.intervals import wilson
from compliance_assets.orchestration.watching import after_drift, failed_checks_of, missing, monitor_of
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.system import OnDrift, Overrides
from compliance_assets.policy.watching import is_drift
from compliance_assets.serving import annotations
from compliance_assets.serving.inference_log import Decision
from compliance_assets.serving.row_texts import row_digest
from compliance_assets.serving.spec import take_snapshot
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.evidence.forging import simulated_rollout
from compliance_assets_tests.orchestration.dagster_world import dagster_world
from compliance_assets_tests.project import GOVERNANCE, OWNER, SYSTEM, copied, decide, step

TODAY = datetime(2027, 3, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(("windows", "drift"), [
    ([], False), ([True, True, True], True), ([False, False, True, True, True], True), ([True, True, True, True, False], False),
    ([True, False, True, False, True], True), ([True, True, False, False, False, True], False), ([True, True, None, None, None], False),
    ([True, None, True, None, True], True), ([None] * 5, False)])
def test_drift_is_k_of_the_last_n_windows_and_the_last_one(windows: list[bool | None], drift: bool) -> None:
    assert is_drift(windows, OnDrift(psi=0.25, windows=(3, 5))) is drift


def test_a_column_that_cannot_be_compared_leaves_the_day_unmeasured() -> None:
    import polars as pl

    from compliance_assets.metrics.profiles import Profile

    frame = pl.DataFrame({"income": [1.0, 2.0, 3.0], "score": [0.1, 0.2, 0.3]})
    profile = Profile.of(frame, numeric=["income", "score"], categorical=[])
    assert [name for name, _ in monitoring._psi(profile, frame)] == ["income", "score"]
    assert monitoring._psi(profile, frame.head(0)) == (), "nothing to compare is not no drift"


def test_calibration_is_held_against_the_bounds_over_everybody_only(river: River) -> None:
    declared = river.definition(SYSTEM).system
    overall = declared.evaluation.calibration[0]
    by_group = overall.model_copy(update={"over": ("sex",), "at_most": 0.0001})
    both = declared.model_copy(update={"evaluation": declared.evaluation.model_copy(update={"calibration": (overall, by_group)})})
    assert monitoring.watched_bounds(both) == (overall,)


@pytest.fixture(scope="module")
def deployed_world(reviewed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose first release is in production, on record."""
    root = copied(reviewed_world, tmp_path_factory.mktemp("watched") / "world")
    river = open_river(root)
    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    assert step(river, "approval")
    candidate = river.value("candidate_model", river.head(SYSTEM, "candidate_model") or Digest("0" * 64)).model_dump()
    simulated_rollout(river, SYSTEM, {"snapshot": take_snapshot(river.definition(SYSTEM), river.archive.artefacts),
                                      "trusted_types": list(candidate["trusted_types"]), "feature_names": list(candidate["feature_names"])})
    return root


@pytest.fixture
def river(deployed_world: Path, tmp_path: Path) -> River:
    return dataclasses.replace(open_river(copied(deployed_world, tmp_path / "world")), now=lambda: TODAY)


def answered(river: River, days: int, poorer: float = 1.0, rows: int = 120, until: datetime = TODAY) -> list[Decision]:
    """Requests of the last days, answered and logged as the server would; `poorer`: what incomes are multiplied with on the last day."""
    from compliance_assets.features import serving_features
    from compliance_assets.modelfile import favourable_scores, load

    slot = monitoring.in_production(river, SYSTEM)
    assert slot is not None
    model = load(river.archive.artefacts.get_bytes(Digest.parse(slot.model)), tuple(slot.evidence["trusted_types"]))
    people, groups = callers(river, SYSTEM, "train", rows * days)
    again = -(-rows * days // len(people))
    people, groups = list(people) * again, list(groups) * again
    log = river.home.serving / "production" / "log" / "blue"
    log.mkdir(parents=True)
    everything = []
    for number in range(days):
        day = (until - timedelta(days=days - number)).strftime("%Y-%m-%d")
        share = 1 + (poorer - 1) * (number + 1) / days
        part = [{**row, "monthly_income": max(500.0, float(round(row["monthly_income"] * share)))}
                for row in people[number * rows:(number + 1) * rows]]
        frame = serving_features(river.definition(SYSTEM), part)
        decisions = [Decision(id=f"{day}-{place}", time=f"{day}T10:00:00.000000Z", request_id=f"{day}-{place}", row=0, model=slot.model,
                              release=slot.release, environment="production", server="blue", role="answering", input=row_digest(row),
                              features=row_digest(seen), score=repr(float(score)), decision="favourable" if score >= 0.5 else "unfavourable",
                              microseconds=1, monitoring=group)
                     for place, (row, seen, score, group) in enumerate(zip(
                         part, frame.to_dicts(), favourable_scores(model, frame), groups[number * rows:], strict=False))]
        (log / f"decisions-{day}-blue.jsonl").write_bytes(b"".join(one.line() for one in decisions))
        (log / f"inputs-{day}-blue.jsonl").write_text("".join(
            json.dumps({"id": one.id, "row": row}) + "\n" for one, row in zip(decisions, part, strict=True)))
        everything += decisions
    return everything


def tick(river: River, cursor: str | None = None) -> Any:
    with dagster_world(river.root) as world:
        return after_drift(dg.build_sensor_context(instance=world.instance, cursor=cursor), river, SYSTEM, "watch", "to_review")


def jobs(found: Any) -> list[str]:
    return [request.job_name for request in found.run_requests or ()]


def test_without_drift_only_the_monitor_runs_and_once_a_day(river: River) -> None:
    answered(river, 7)
    found = tick(river)
    assert jobs(found) == ["watch"]
    assert isinstance(tick(river, found.cursor), dg.SkipReason)


def test_growing_drift_starts_one_run_up_to_the_review(river: River) -> None:
    answered(river, 7, poorer=0.3)
    found = tick(river)
    assert jobs(found) == ["watch", "to_review"]
    assert "drift of " in found.run_requests[1].tags["compliance/because"]
    tomorrow = dataclasses.replace(river, now=lambda: TODAY + timedelta(days=1))
    assert jobs(tick(tomorrow, found.cursor)) == ["watch"], "the same model drifts on; people were asked already"
    later = dataclasses.replace(river, now=lambda: TODAY + timedelta(days=6))
    assert jobs(tick(later, found.cursor)) == ["watch", "to_review"], "nobody acted for longer than a decision takes: asked again"


def test_too_few_requests_are_not_measured_and_start_nothing(river: River) -> None:
    answered(river, 7, poorer=0.3, rows=49)
    assert jobs(tick(river)) == ["watch"]
    slot = monitoring.in_production(river, SYSTEM)
    assert slot is not None
    assert {one.drifted for one in monitoring.windows(river, SYSTEM, slot, 7, "9999")} == {None}


def checks(river: River) -> Iterator[tuple[str, bool, dict[str, Any]]]:
    with dagster_world(river.root) as world:
        done = dg.materialize([monitor_of(river.definition(SYSTEM))], instance=world.instance)
        for one in done.get_asset_check_evaluations():
            yield one.check_name, one.passed, {name: value.value for name, value in one.metadata.items()}


@pytest.mark.slow
def test_the_monitors_checks_show_drift_groups_labels_and_overrides(river: River) -> None:
    decisions = answered(river, 2, poorer=0.3)
    log = river.home.serving / "production" / "log"
    before = {name: passed for name, passed, _ in checks(river)}
    assert before == {"feature_drift": False, "group_drift": False, "calibration": False, "override_rate": True}
    for one in decisions[:60]:
        annotations.outcome(log, one.id, one.decision, "collections")
    other = "unfavourable" if decisions[0].decision == "favourable" else "favourable"
    annotations.override(log, decisions[0].id, other, "officer-7", "The branch mistyped the income.")
    after = {name: told for name, _, told in checks(river)}
    assert (after["override_rate"]["overridden"], after["override_rate"]["answered"]) == (1, 240)
    assert any(name.startswith("calibration.") for name in after["calibration"])
    assert after["feature_drift"]["value"] > after["feature_drift"]["threshold"] == 0.25


@pytest.mark.parametrize(("against", "of", "outside", "said"), [
    (15, 100, False, "not surely outside"), (19, 100, False, "not surely outside"), (40, 100, True, "surely more often"),
    (0, 2000, True, "does anybody still look"), (0, 49, False, "50 are needed"), (49, 49, False, "50 are needed"), (0, 0, False, "50 are needed")])
def test_overrides_are_outside_what_was_declared_only_when_that_is_sure(against: int, of: int, outside: bool, said: str) -> None:
    declared = Overrides(between=(0.01, 0.20), decisions=50, because="as agreed with the officers")
    why, found = monitoring.overridden((against, of, wilson(against, of)), declared)
    assert found is outside and said in why and "between 0.01 and 0.2" in why


def test_without_a_declared_share_overrides_are_only_shown() -> None:
    assert monitoring.overridden((90, 100, wilson(90, 100)), None)[1] is False
    with pytest.raises(ValueError, match="is empty"):
        Overrides(between=(0.2, 0.2), decisions=50, because="as agreed with the officers")


def test_what_did_not_happen_is_told(river: River) -> None:
    with dagster_world(river.root) as world:
        found = {str(one["event"]): str(one["said"]) for one in missing(river, SYSTEM, world.instance, f"{SYSTEM}_to_review")}
        assert set(found) == {"expected_run_absent", "expected_answers_absent"}
        assert "since 2027-03-08 06:00" in found["expected_run_absent"], "the declared schedule is Mondays at six"
        answered(river, 1)
        soon = dataclasses.replace(river, now=lambda: datetime.now(UTC))
        assert {one["event"] for one in missing(soon, SYSTEM, world.instance, f"{SYSTEM}_to_review")} <= {"expected_answers_absent"}
        assert "expected_answers_absent" not in {one["event"] for one in missing(river, SYSTEM, world.instance, f"{SYSTEM}_to_review")}


def test_a_release_that_waits_longer_than_an_approval_holds_is_stale(in_review: Path) -> None:
    river = open_river(in_review)
    with dagster_world(in_review) as world:
        def stale(days: int) -> bool:
            later = dataclasses.replace(river, now=lambda: datetime.now(UTC) + timedelta(days=days))
            return "staged_model_stale" in {one["event"] for one in missing(later, SYSTEM, world.instance, "none")}

        assert stale(3) and not stale(1)
        decide(river, OWNER, "reject", "The gap between the age bands is not explained anywhere.")
        assert stale(3), "a rejection that lies in the inbox is not one yet"


def test_a_check_that_did_not_pass_becomes_one_alert(river: River) -> None:
    answered(river, 1, poorer=0.3)
    with dagster_world(river.root) as world:
        done = dg.materialize([monitor_of(river.definition(SYSTEM))], instance=world.instance)
        told = {str(one["check"]): str(one["said"]) for one in failed_checks_of(world.instance, done.run_id, SYSTEM)}
    assert set(told) == {"feature_drift", "group_drift", "calibration"} and "threshold 0.25" in told["feature_drift"]
