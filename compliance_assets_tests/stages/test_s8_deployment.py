"""Stage 8 in a whole small world: real people's signatures, real servers, a real router; each test breaks one thing."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compliance_assets.errors import Busy, Misused, OutOfTurn, Waiting
from compliance_assets.evidence.deployments import DesiredState, desired_state
from compliance_assets.evidence.home import Home
from compliance_assets.evidence.verify_bundle import Bundle
from compliance_assets.governance.export import export
from compliance_assets.pipeline import Advance, River, open_river
from compliance_assets.registry import Registry
from compliance_assets.serving import traffic
from compliance_assets.serving.client import Client
from compliance_assets.serving.inference_log import read_log
from compliance_assets.serving.interface import needed_columns
from compliance_assets.serving.supervisor import is_supervised, ports_of, read_status, run_supervisor
from compliance_assets.stages.s1_data_preparation import Dataset, read_part
from compliance_assets.stages.s8_deployment import DeploymentRecord
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.project import GOVERNANCE, OWNER, SYSTEM, approve_definition, copied, decide, run_to, step

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def approved_world(reviewed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose release is approved by everybody and not deployed."""
    root = copied(reviewed_world, tmp_path_factory.mktemp("approved") / "world")
    river = open_river(root)
    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    assert step(river, "approval")
    return root


@pytest.fixture
def approved(approved_world: Path, tmp_path: Path) -> River:
    return open_river(copied(approved_world, tmp_path / "world"))


@contextlib.contextmanager
def supervised(river: River) -> Iterator[None]:
    """The environment's supervisor, in a thread of this process, with the real servers and the real ledger."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            run_supervisor(Home(river.home.path), river.root, "production", stop=stop)
        except BaseException as error:  # noqa: BLE001  # told to the test below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(300):
            if failed or is_supervised(river.home, "production"):
                break
            time.sleep(0.1)
        assert not failed, failed
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


@contextlib.contextmanager
def asked(river: River, *, per_second: float = 40.0, group: str | None = None, system: str = SYSTEM) -> Iterator[traffic.Tally]:
    """Callers who ask the router about people of the holdout, for as long as the block lasts."""
    features = river.value("features", river.head(system, "features") or Digest("0" * 64))
    dataset = river.value("dataset", Digest(features.model_dump()["dataset"]))
    assert isinstance(dataset, Dataset)
    frame = read_part(river.archive.artefacts, dataset, "holdout")
    rows = frame.select(needed_columns(river.definition(system).system)).to_dicts()
    groups = [{"sex": group or row["group.sex"]} for row in frame.to_dicts()]
    stop, tally = threading.Event(), traffic.Tally()
    address = f"http://127.0.0.1:{ports_of(river.organisation, 'production').callers}"
    sender = threading.Thread(target=traffic.send, args=(address, rows), kwargs={
        "groups": groups, "count": 5000, "seconds": 120, "per_second": per_second, "stop": stop, "tally": tally})
    sender.start()
    try:
        yield tally
    finally:
        stop.set()
        sender.join(30)


def state(river: River) -> DesiredState:
    return desired_state("production", river.archive.deployments("production"))


def actions(river: River) -> list[str]:
    return [record.body.action for record in river.archive.deployments("production")]


def record_of(outcome: Advance) -> DeploymentRecord:
    assert isinstance(outcome.value, DeploymentRecord)
    return outcome.value


def version_answering(river: River) -> Any:
    with Client(f"http://127.0.0.1:{ports_of(river.organisation, 'production').callers}") as client:
        return client.get("/version").json()


def test_an_approved_release_goes_shadow_canary_full_and_then_answers_everybody(approved: River) -> None:
    with supervised(approved):
        with asked(approved) as tally:
            outcome = step(approved, "deployment")
        assert outcome, outcome.failures
        record = record_of(outcome)
        assert record.outcome == "production"
        assert [(s.kind, s.verdict) for s in record.steps] == [("shadow", "PASS"), ("canary", "PASS"), ("full", "PASS")]
        assert actions(approved) == ["intent", "shadow_started", "canary_started", "full_rollout"]
        assert version_answering(approved)["model"] == record.model
        assert set(tally.models) == {record.model}
        assert record.steps[0].counts["requests"] >= 60
        assert record.steps[1].counts["decisions"] >= 80
    staged = approved.value("staged_model", Digest(record.staged)).model_dump()
    registry = Registry(approved.home)
    assert registry.lifecycle(staged["registry_name"], staged["registry_version"]) == "production"
    # an auditor believes it with the standard library alone
    exported = export(approved.archive, SYSTEM, approved.root / "bundle")
    bundle = Bundle(approved.root / "bundle")
    bundle.verify(f"{exported.size}:{exported.root}", None)
    assert bundle.problems == [] and bundle.counts["deployment steps"] == 4
    # asked again, nothing is deployed twice
    with supervised(approved):
        again = step(approved, "deployment", run="another-run")
        assert again
    assert actions(approved) == ["intent", "shadow_started", "canary_started", "full_rollout"]


def test_without_a_supervisor_a_deployment_waits_and_says_what_to_start(approved: River) -> None:
    with pytest.raises(Waiting, match="compliance serve production"):
        step(approved, "deployment")
    assert actions(approved) == []


def test_too_few_requests_hold_the_step_and_deploying_again_goes_on(approved: River, monkeypatch: pytest.MonkeyPatch) -> None:
    from compliance_assets.policy.system import Deployment

    with supervised(approved):
        definition = approved.definition(SYSTEM)
        hurried = definition.system.deployment.model_copy(update={"wait_seconds": 1})
        assert isinstance(hurried, Deployment)
        patient = definition.system.deployment
        object.__setattr__(definition.system, "deployment", hurried)  # the declared digest stays: only the test is in a hurry
        monkeypatch.setattr("compliance_assets.stages.s8_deployment.rollout_digest", lambda system: _approved_rollout(approved))
        with pytest.raises(Waiting, match="it needs 60 requests, got 0"):
            step(approved, "deployment")
        assert actions(approved) == ["intent", "shadow_started"]
        assert state(approved).production is None
        object.__setattr__(definition.system, "deployment", patient)
        with asked(approved):
            outcome = step(approved, "deployment", run="second")
        assert outcome, outcome.failures
    assert actions(approved) == ["intent", "shadow_started", "canary_started", "full_rollout"]


def test_a_candidate_whose_approval_is_overruled_under_way_stops_answering(approved: River,
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    from compliance_assets.evidence import inbox

    monkeypatch.setattr("compliance_assets.stages.s8_deployment.measures.judged", lambda *a, **k: ((), ("it is held by the test",)))
    definition = approved.definition(SYSTEM)
    hurried = definition.system.deployment.model_copy(update={"wait_seconds": 1})
    object.__setattr__(definition.system, "deployment", hurried)
    monkeypatch.setattr("compliance_assets.stages.s8_deployment.rollout_digest", lambda system: _approved_rollout(approved))
    with supervised(approved):
        with pytest.raises(Waiting, match="held by the test"):
            step(approved, "deployment")
        decide(approved, OWNER, "reject")
        inbox.admit(approved.archive)
        outcome = step(approved, "deployment", run="overruled")
        assert not outcome
        assert "authority.stands" in " ".join(outcome.failures)
        assert actions(approved) == ["intent", "shadow_started", "aborted"]
        assert state(approved).candidate is None


def _approved_rollout(river: River) -> str:
    approval = river.head(SYSTEM, "approval")
    assert approval is not None
    return str(river.value("approval", approval).model_dump()["rollout"])


def test_an_unfair_canary_is_aborted_and_needs_a_new_approval(approved: River, monkeypatch: pytest.MonkeyPatch) -> None:
    """The callers say that everybody refused was a woman, and everybody else a man."""
    from compliance_assets.serving.inference_log import Decision
    from compliance_assets.stages import s8_deployment

    real = s8_deployment.read_log

    def told(*args: Any, **kwargs: Any) -> Iterator[Decision]:
        import dataclasses

        for decision in real(*args, **kwargs):
            refused = decision.decision == "unfavourable"
            yield dataclasses.replace(decision, monitoring={"sex": "female" if refused else "male"})

    monkeypatch.setattr(s8_deployment, "read_log", told)
    with supervised(approved):
        with asked(approved):
            outcome = step(approved, "deployment")
        assert not outcome
        record = record_of(outcome)
        assert record.outcome == "aborted"
        assert "selection_rate_ratio" in " ".join(outcome.failures)
        assert actions(approved)[-1] == "aborted"
        assert state(approved).production is None
        assert state(approved).candidate is None
        status = read_status(approved.home, "production")
        assert status is not None
    staged = approved.value("staged_model", Digest(record.staged)).model_dump()
    assert Registry(approved.home).lifecycle(staged["registry_name"], staged["registry_version"]) == "staging"
    with supervised(approved):
        again = step(approved, "deployment", run="again")
        assert not again
        assert "authority.not_used_up" in " ".join(again.failures)
    assert actions(approved)[-1] == "aborted"


def next_release(river: River) -> River:
    """Another model, trained with another seed, approved by everybody: the world as it is before its deployment."""
    path = river.root / "systems" / SYSTEM / "system.yaml"
    text = path.read_text()
    path.write_text(text.replace("\n  seed: 11\n", "\n  seed: 12\n", 1))
    assert path.read_text() != text
    after = open_river(river.root)
    approve_definition(after)
    outcomes = run_to(after, "integration_testing", run="second-release")
    assert outcomes[-1], [sentence for outcome in outcomes for sentence in outcome.failures]
    for person in (OWNER, GOVERNANCE):
        decide(after, person)
    assert step(after, "approval", run="second-release")
    return after


def test_a_second_release_that_keeps_crashing_is_aborted_and_the_first_answers_everybody(approved: River) -> None:
    with supervised(approved):
        with asked(approved):
            begun = step(approved, "deployment")
        assert begun, begun.failures
        first = record_of(begun)
        assert first.outcome == "production"
        after = next_release(approved)
        with asked(after) as tally:
            killer = threading.Thread(target=_kill_whenever_ready, args=(after, "green", 3))
            killer.start()
            outcome = step(after, "deployment", run="second-release")
            killer.join(60)
        assert not outcome
        record = record_of(outcome)
        assert (record.outcome, record.previous_model) == ("aborted", first.model)
        assert actions(after)[-1] == "aborted"
        assert version_answering(after)["model"] == first.model
        assert "previous_answers_again" in str(record.steps[-1].findings)
        assert all("PASS" in str(f["verdict"]) for f in record.steps[-1].findings if "previous_answers_again" in f["id"])
        assert set(tally.statuses) == {200}, "no caller noticed"
        assert set(tally.models) <= {first.model, record.model}


def _kill_whenever_ready(river: River, slot: str, times: int) -> None:
    end = time.monotonic() + 100
    killed: set[int] = set()
    while len(killed) < times and time.monotonic() < end:
        status = read_status(river.home, "production")
        server = status["servers"].get(slot) if status is not None else None
        if server is not None and server["pid"] is not None and server["pid"] not in killed:
            killed.add(server["pid"])
            with contextlib.suppress(ProcessLookupError):
                os.kill(server["pid"], signal.SIGKILL)
        time.sleep(0.2)


def test_another_systems_environment_is_not_taken_over(approved: River, monkeypatch: pytest.MonkeyPatch) -> None:
    from compliance_assets.stages import s8_deployment

    monkeypatch.setattr(s8_deployment, "desired_state", lambda environment, records: DesiredState(environment, system="other"))
    with pytest.raises(Busy, match="serves other"):
        step(approved, "deployment")


def test_nothing_is_deployed_before_people_approved(in_review: Path) -> None:
    river = open_river(in_review)
    with pytest.raises(OutOfTurn, match="approval"):
        step(river, "deployment")
    assert actions(river) == []


def test_a_person_rolls_back_and_the_first_release_answers_everybody_again(approved: River) -> None:
    from compliance_assets.stages.s8_return import Place, roll_back, withdraw
    from compliance_assets_tests.project import someone

    with supervised(approved):
        with asked(approved):
            first = record_of(step(approved, "deployment"))
        after = next_release(approved)
        with asked(after):
            second = step(after, "deployment", run="second-release")
        assert second, second.failures
        assert version_answering(after)["model"] == record_of(second).model
        place = Place(after.archive, after.organisation, after.home, SYSTEM, "production", someone("back"), after.now)
        roll_back(place, "The second release refuses everybody from one branch.", emergency=True)
        _await_answer(after, first.model)
        withdraw(place, "The first release is not what it was either: stop it.", emergency=True)
        _await_answer(after, "")
    exported = export(after.archive, SYSTEM, after.root / "bundle")
    bundle = Bundle(after.root / "bundle")
    bundle.verify(f"{exported.size}:{exported.root}", None)
    assert bundle.problems == []
    _an_old_decision_can_be_explained(after, first.model)


def _an_old_decision_can_be_explained(river: River, model: str) -> None:
    """After another release and a rollback: the same from stored bytes; a log that was edited, and an input that was deleted, are told."""
    from compliance_assets.governance.explaining import explain

    log = river.home.path / "serving"
    decision = next(one for one in read_log(log, model=model, role="answering") if one.environment == "production")
    found = explain(river, decision.id)
    assert found and [one.what for one in found.comparisons] == ["input", "features", "score", "decision"]
    assert found.deployed.body.model == model and found.as_json()["same"] is True
    moved = [abs(float(one.moves)) for one in found.contributions]
    assert {one.feature for one in found.contributions} == {feature.name for feature in river.definition(SYSTEM).system.features.registry}
    assert moved == sorted(moved, reverse=True) and moved[0] > 0
    with pytest.raises(Misused, match="No inference log"):
        explain(river, "0" * 32)
    [path] = [path for path in log.rglob("decisions-*.jsonl") if decision.id in path.read_text()]
    path.write_text(path.read_text().replace(f'"score":"{decision.score}"', '"score":"0.123"'))
    edited = explain(river, decision.id)
    assert not edited and [one.what for one in edited.comparisons if not one.same] == ["score"]
    for inputs in log.rglob("inputs-*.jsonl"):
        inputs.unlink()
    with pytest.raises(OutOfTurn, match="no longer kept"):
        explain(river, decision.id)


def _await_answer(river: River, model: str) -> None:
    end, answering = time.monotonic() + 60, "not asked"
    while answering != model and time.monotonic() < end:
        with Client(f"http://127.0.0.1:{ports_of(river.organisation, 'production').callers}") as client:
            answer = client.get("/version")
            answering = str(answer.json()["model"]) if answer.status == 200 else ""
        time.sleep(0.5)
    assert answering == model
