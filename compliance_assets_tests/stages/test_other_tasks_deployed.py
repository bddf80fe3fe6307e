"""A system that names classes and one that predicts a number, from the raw source to production, with real servers and people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from compliance_assets.governance import monitoring
from compliance_assets.governance.explaining import explain
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.gates import Finding, GateReport, Verdict
from compliance_assets.serving.inference_log import read_log
from compliance_assets.stages import s6_integration_testing as s6
from compliance_assets.stages.s4_model_evaluation import EvaluationReport
from compliance_assets.stages.s6_integration_testing import IntegrationReport
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.other_tasks import loan_endings, loan_returns
from compliance_assets_tests.project import GOVERNANCE, OWNER, approve_definition, copied, decide, founded, run_to, step
from compliance_assets_tests.stages.test_s8_deployment import actions, asked, record_of, supervised, version_answering

pytestmark = pytest.mark.slow

MAKES: dict[str, Callable[..., Path]] = {"loan_endings": loan_endings, "loan_returns": loan_returns}
RULES = [{"metric": "error_rate", "above": 0.01}, {"metric": "unlogged_rate", "above": 0}, {"metric": "latency_ratio_p95", "above": 20},
         {"metric": "decision_flip_rate", "above": 0.2}, {"metric": "score_shift", "above": 0.35},
         {"metric": "selection_rate_ratio", "below": 0.4, "over": "sex"}]


@pytest.fixture(scope="module", params=sorted(MAKES))
def reviewed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A project whose release has passed stages 1 to 6 and waits for people."""
    system = str(request.param)
    root = tmp_path_factory.mktemp(system) / "world"
    root.mkdir()
    river = founded(root, write=MAKES[system], **{"deployment.abort_when": RULES})
    approve_definition(river, system)
    for outcome in run_to(river, "integration_testing", system):
        assert outcome, (outcome.stage, outcome.failures)
    return system, root


def world(reviewed: tuple[str, Path], target: Path) -> tuple[str, River]:
    return reviewed[0], open_river(copied(reviewed[1], target))


def approve(river: River, system: str) -> None:
    for person in (OWNER, GOVERNANCE):
        decide(river, person, system=system)
    assert step(river, "approval", system=system)


def found(step: Any, id: str) -> Finding:
    return next(Finding.read(one) for one in step.findings if one["id"] == id)


def test_their_servers_are_tested_by_every_suite(reviewed: tuple[str, Path]) -> None:
    system, river = reviewed[0], open_river(reviewed[1])
    report = river.value("integration_report", river.head(system, "integration_report") or Digest("0" * 64))
    assert isinstance(report, IntegrationReport)
    gates = {one.gate: one for one in report.reports}
    assert set(gates) == {gate.name for gate in s6.RULE.gates} and {one.verdict for one in gates.values()} == {Verdict.PASS}
    said = "a score is a finite number" if system == "loan_returns" else "a score is a probability"
    assert f"contract.{said}" in {one.id for one in gates["contract"].findings}
    wanted = river.definition(system).system.integration.parity_rows
    assert found_in(gates["parity"], "parity.registry and server agree to the bit").value == f"{wanted} of {wanted}"


def found_in(gate: GateReport, id: str) -> Finding:
    return next(one for one in gate.findings if one.id == id)


def test_they_are_rolled_out_and_the_next_release_is_compared_with_them_and_undone(reviewed: tuple[str, Path], tmp_path: Path) -> None:
    system, river = world(reviewed, tmp_path / "world")
    approve(river, system)
    with supervised(river):
        with asked(river, system=system) as tally:
            outcome = step(river, "deployment", system=system)
        assert outcome, outcome.failures
        first = record_of(outcome)
        assert [(s.kind, s.verdict) for s in first.steps] == [("shadow", "PASS"), ("canary", "PASS"), ("full", "PASS")]
        assert set(tally.models) == {first.model} and version_answering(river)["model"] == first.model
        canary = found(first.steps[1], "canary.selection_rate_ratio.sex")
        assert canary.verdict is Verdict.PASS and {group["name"] for group in canary.groups} == {"female", "male"}
        for rolled in first.steps[:2]:
            shift = found(rolled, f"{rolled.kind}.score_shift")
            assert shift.verdict is Verdict.PASS and "holdout rows" in shift.method and (shift.n or 0) >= 60
        watched(river, system)
        after = next_release(river, system)
        with asked(after, system=system):
            again = step(after, "deployment", run="second-release", system=system)
        assert not again
        second = record_of(again)
        assert second.outcome == "aborted" and second.model != first.model
        assert "selection_rate_ratio" in " ".join(again.failures)
        assert version_answering(after)["model"] == first.model
    flips = found(second.steps[0], "shadow.decision_flip_rate")
    otherwise, pairs = flipped(after, first.model, second.model)
    # The log holds what was judged, and the answers that came while it was being judged.
    assert flips.verdict is Verdict.PASS and flips.n is not None and 60 <= flips.n <= pairs
    assert 0 <= round(float(flips.value or "nan") * flips.n) <= otherwise
    assert actions(after)[-1] == "aborted"


def next_release(river: River, system: str) -> River:
    """A model that learned otherwise, under a rule on selection rates that no real answers keep."""
    path = river.root / "systems" / system / "system.yaml"
    body = yaml.safe_load(path.read_text())
    body["training"]["hyperparameters"] |= {"C": 0.2} if system == "loan_endings" else {"max_leaf_nodes": 4}
    body["deployment"]["abort_when"][-1]["below"] = 0.99999
    path.write_text(yaml.safe_dump(body, sort_keys=False))
    after = open_river(river.root)
    approve_definition(after, system)
    outcomes = run_to(after, "integration_testing", system, run="second-release")
    assert outcomes[-1], [sentence for one in outcomes for sentence in one.failures]
    evaluated = after.value("evaluation_report", after.head(system, "evaluation_report") or Digest("0" * 64))
    assert isinstance(evaluated, EvaluationReport)
    drift = next(one for one in evaluated.reports if one.gate == "drift")
    compared = found_in(drift, "drift.production.prediction_flip_rate")
    assert compared.verdict is Verdict.PASS and compared.value is not None
    for person in (OWNER, GOVERNANCE):
        decide(after, person, system=system)
    assert step(after, "approval", run="second-release", system=system)
    return after


def flipped(river: River, first: str, second: str) -> tuple[int, int]:
    """How many mirrored requests the shadow decided otherwise, and of how many, counted from the log by hand."""
    log = river.home.serving / "production" / "log"
    answered = {(one.request_id, one.row): one.decision for one in read_log(log, model=first)}
    pairs = [(answered[key], one.decision) for one in read_log(log, model=second) if (key := (one.request_id, one.row)) in answered]
    return sum(a != b for a, b in pairs), len(pairs)


def watched(river: River, system: str) -> None:
    """What the monitor says of the day: features and score against the training rows; and one answer, rebuilt."""
    slot = monitoring.in_production(river, system)
    assert slot is not None
    (day,) = monitoring.windows(river, system, slot, 1, "9999-12-31")
    names = {name for name, _ in day.psi}
    assert day.rows >= 50 and "score" in names and day.drifted is not None
    logged = next(read_log(river.home.serving / "production" / "log", model=slot.model, role="answering"))
    explained = explain(river, logged.id)
    assert bool(explained)
    assert explained.contributions
