"""The stages by hand go through the same wall as the pipeline: in order, verified, hashed, signed; and what was not as planned says so."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from compliance_assets.cli import cli
from compliance_assets.errors import Misused, OutOfTurn, Waiting
from compliance_assets.evidence import inbox
from compliance_assets.governance.deciding import Signer
from compliance_assets.governance.documents import document
from compliance_assets.governance.runbook import working
from compliance_assets.governance.runbook.log import Log, logs, open_log
from compliance_assets.governance.runbook.plan import runbook
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.river import RIVER, STAGE_NAMES
from compliance_assets.trust.canonical import Digest, sha256_file
from compliance_assets_tests.project import (
    ENGINEER,
    GOVERNANCE,
    OWNER,
    SYSTEM,
    approve_definition,
    copied,
    decide,
    run_to,
    signer,
)
from compliance_assets_tests.project import step as pipeline_step
from compliance_assets_tests.web.visitor import Visitor

SAW = "Nothing unusual was seen."


@pytest.fixture(autouse=True)
def _on_the_engineers_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "engineer")


@pytest.fixture(scope="module")
def evaluated(founded_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log in which stages 1 to 4 were done by hand; the fourth waits for a second person."""
    root = copied(founded_world, tmp_path_factory.mktemp("by_hand") / "world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOGNAME", "engineer")
        river = open_river(root)
        working.start(river, SYSTEM, engineer(river), SAW)
        for stage in STAGE_NAMES[:4]:
            assert working.step(river, SYSTEM, stage, engineer(river), SAW).said["result"] == "verified"
    return root


@pytest.fixture
def by_hand(evaluated: Path, tmp_path: Path) -> River:
    return open_river(copied(evaluated, tmp_path / "world"))


def engineer(river: River) -> Signer:
    return signer(river, ENGINEER, "ml_engineer")


def the_log(river: River) -> Log:
    found = open_log(river, SYSTEM)
    assert found is not None
    return found


def test_the_runbook_is_rendered_from_the_definition(founded_world: Path) -> None:
    book = runbook(open_river(founded_world, writer=False), SYSTEM)
    assert [step.stage for step in book.steps] == list(STAGE_NAMES)
    for step, rule in zip(book.steps, RIVER, strict=True):
        assert step.gates == tuple(f"{gate.name} v{gate.version}" for gate in rule.gates) and rule.refuses in step.on_failure
        assert step.command.startswith(f"compliance runbook step {SYSTEM} {rule.name} ")
    assert book.in_force and book.digest == runbook(open_river(founded_world, writer=False), SYSTEM).digest


def test_its_digest_changes_with_the_definition(project: Path) -> None:
    before = runbook(open_river(project), SYSTEM).digest
    path = project / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("wait_seconds: ", "wait_seconds: 1"))
    assert runbook(open_river(project), SYSTEM).digest != before


def test_a_step_runs_its_stage_through_the_wall_and_hashes_every_file_itself(by_hand: River) -> None:
    done = the_log(by_hand).step("data_preparation")
    assert done is not None
    record = by_hand.archive.authentic(by_hand.archive.ledger.entry(done.said["record"]))
    assert record.body.launcher == "engineer" and record.body.run.startswith(f"runbook-{the_log(by_hand).id}-")
    assert [report.gate for report in record.body.reports] == [gate.name for gate in RIVER[0].gates]
    for name, digest in record.body.files.items():
        assert done.said["files"][name] == digest == sha256_file(by_hand.archive.artefacts.open_path(Digest.parse(digest)))
    assert not done.said["recorded_after_the_fact"] and the_log(by_hand).deviations == ()


def test_no_step_before_the_one_before_it(project: Path) -> None:
    river = open_river(project)
    with pytest.raises(OutOfTurn, match="No runbook log"):
        working.step(river, SYSTEM, "data_preparation", engineer(river), SAW)
    working.start(river, SYSTEM, engineer(river), SAW)
    with pytest.raises(OutOfTurn, match=r"Step 2 .* comes after step 1 .* it was not done"):
        working.step(river, SYSTEM, "feature_engineering", engineer(river), SAW)
    with pytest.raises(OutOfTurn, match="is open since"):
        working.start(river, SYSTEM, engineer(river), SAW)


def test_the_evaluation_waits_for_a_second_person(by_hand: River) -> None:
    with pytest.raises(OutOfTurn, match="another person has not verified it yet"):
        working.step(by_hand, SYSTEM, "model_registration", engineer(by_hand), SAW)
    with pytest.raises(Misused, match="does not verify it"):
        working.verify(by_hand, SYSTEM, "model_evaluation", engineer(by_hand), SAW)
    working.verify(by_hand, SYSTEM, "model_evaluation", signer(by_hand, OWNER), SAW)
    assert working.step(by_hand, SYSTEM, "model_registration", engineer(by_hand), SAW).said["result"] == "verified"


@pytest.mark.slow
def test_approval_by_hand_waits_for_the_same_people_and_the_operator_is_not_one_of_them(by_hand: River) -> None:
    working.verify(by_hand, SYSTEM, "model_evaluation", signer(by_hand, OWNER), SAW)
    for stage in ("model_registration", "integration_testing"):
        working.step(by_hand, SYSTEM, stage, engineer(by_hand), SAW)
    with pytest.raises(Waiting, match="1 × technical_owner"):
        working.step(by_hand, SYSTEM, "pre_deployment_approval", engineer(by_hand), SAW)
    assert the_log(by_hand).step("pre_deployment_approval") is None
    for person in (OWNER, GOVERNANCE):
        decide(by_hand, person)
    inbox.admit(by_hand.archive)
    assert working.step(by_hand, SYSTEM, "pre_deployment_approval", engineer(by_hand), SAW).said["result"] == "verified"
    ended = working.finish(by_hand, SYSTEM, engineer(by_hand), SAW)
    assert not ended.said["complete"] and "deployment: it was not done" in ended.said["deviations"]
    assert "pre_deployment_approval: another person has not verified it yet" in ended.said["deviations"]


def test_a_failed_gate_is_entered_and_closes_what_follows(project: Path) -> None:
    path = project / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("prevalence: [0.6, 0.9]", "prevalence: [0.98, 0.99]"))
    river = open_river(project)
    approve_definition(river)
    working.start(river, SYSTEM, engineer(river), SAW)
    entry = working.step(river, SYSTEM, "data_preparation", engineer(river), SAW)
    assert entry.said["result"] == "not verified" and entry.said["exit_code"] == 1
    assert any("label" in text or "prevalence" in text for text in entry.said["deviations"])
    with pytest.raises(OutOfTurn, match="its last attempt is not verified"):
        working.step(river, SYSTEM, "feature_engineering", engineer(river), SAW)


def test_what_was_run_elsewhere_is_entered_as_recorded_after_the_fact(project: Path) -> None:
    river = open_river(project)
    working.start(river, SYSTEM, engineer(river), SAW)
    made = pipeline_step(river, "data_preparation")
    now = river.now()
    river.now = lambda: now + timedelta(hours=2)
    entry = working.step(river, SYSTEM, "data_preparation", engineer(river), SAW, record=made.record_index)
    assert entry.said["recorded_after_the_fact"] and entry.said["delay_seconds"] > 7000 and entry.said["result"] == "verified"
    assert any("after the fact" in text for text in the_log(river).deviations)


def test_a_record_from_before_the_log_cannot_be_entered(in_review: Path) -> None:
    river = open_river(in_review)
    (made,) = river.archive.made_by(SYSTEM, "data_preparation")
    working.start(river, SYSTEM, engineer(river), SAW)
    with pytest.raises(Misused, match="made since this log began"):
        working.step(river, SYSTEM, "data_preparation", engineer(river), SAW, record=made.index)


def test_a_changed_file_is_found_by_the_second_person(by_hand: River) -> None:
    done = the_log(by_hand).step("model_evaluation")
    assert done is not None
    path = by_hand.archive.artefacts.open_path(Digest.parse(done.said["files"]["evaluation/report.json"]))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(OutOfTurn, match="does not hold any more"):
        working.verify(open_river(by_hand.root), SYSTEM, "model_evaluation", signer(by_hand, OWNER), SAW)


def test_a_changed_definition_ends_a_log(by_hand: River) -> None:
    path = by_hand.root / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("wait_seconds: ", "wait_seconds: 1"))
    with pytest.raises(OutOfTurn, match="definition changed since log"):
        working.verify(open_river(by_hand.root), SYSTEM, "model_evaluation", signer(by_hand, OWNER), SAW)


def test_nobody_works_on_an_account_that_is_not_theirs(project: Path) -> None:
    river = open_river(project)
    with pytest.raises(Misused, match="does not say that the account"):
        working.start(river, SYSTEM, signer(river, OWNER), SAW)


def test_a_second_run_within_a_quarter_is_warned_about_and_a_later_one_is_not(project: Path) -> None:
    river = open_river(project)
    assert working.start(river, SYSTEM, engineer(river), SAW).said["deviations"] == []
    working.finish(river, SYSTEM, engineer(river), SAW)
    again = working.start(river, SYSTEM, engineer(river), SAW)
    assert "run 2 within a quarter" in again.said["deviations"][0]
    working.finish(river, SYSTEM, engineer(river), SAW)
    now = river.now()
    river.now = lambda: now + timedelta(days=92)
    assert working.start(river, SYSTEM, engineer(river), SAW).said["deviations"] == []


def test_the_log_is_evidence_of_module_5_and_on_the_pages(by_hand: River) -> None:
    module = next(point for point in document(by_hand, "aisdp", SYSTEM).points if point.number == "Module 5")
    said = [line for line in module.lines if line.what.startswith("by hand")]
    assert len(said) == 5 and said[0].source.artefact == by_hand.archive.authentic(by_hand.archive.ledger.entry(said[0].source.entry)).body.shown
    visitor = Visitor(by_hand.root)
    page = visitor.see(f"/documents/{SYSTEM}/runbook")
    page.check()
    assert the_log(by_hand).id in page.text and "another person than the operator" in page.text
    assert "approved a step done by hand" in visitor.see("/ledger").text


def test_an_entry_whose_text_was_changed_counts_for_nothing(by_hand: River) -> None:
    done = the_log(by_hand).step("model_evaluation")
    assert done is not None
    path = by_hand.archive.artefacts.open_path(Digest.parse(done.record.body.shown))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"exit_code":0', b'"exit_code":1'))
    found, refused = logs(open_river(by_hand.root), SYSTEM)
    assert found[0].step("model_evaluation") is None and len(refused) == 1


def test_nobody_verifies_their_own_step_by_signing_it_past_the_command(by_hand: River) -> None:
    log = the_log(by_hand)
    done = log.step("model_evaluation")
    assert done is not None
    working._sign(by_hand, SYSTEM, engineer(by_hand), SAW, log.id, str(log.last), "verification", [],
                  {"stage": "model_evaluation", "of": str(done.record.digest), "operator": OWNER})
    assert logs(by_hand, SYSTEM)[1][0][1] == "it verifies no step, or the signer's own"
    with pytest.raises(OutOfTurn, match="another person has not verified it yet"):
        working.step(by_hand, SYSTEM, "model_registration", engineer(by_hand), SAW)


def test_an_invented_step_counts_for_nothing(project: Path) -> None:
    river = open_river(project)
    log = working.start(river, SYSTEM, engineer(river), SAW).said["log"]
    working._sign(river, SYSTEM, engineer(river), SAW, log, str(the_log(river).last), "step", [], {
        "stage": "data_preparation", "attempt": 1, "command": "", "exit_code": 0, "begun": "", "ended": "", "delay_seconds": 0,
        "recorded_after_the_fact": False, "inputs": {}, "output": "0" * 64, "files": {}, "record": 1, "statement": "0" * 64,
        "expected": {}, "checks": [], "result": "verified"})
    assert logs(river, SYSTEM)[1][0][1] == "it names another record than the ledger holds"
    with pytest.raises(OutOfTurn, match="it was not done"):
        working.step(river, SYSTEM, "feature_engineering", engineer(river), SAW)


def test_a_system_that_is_driven_by_its_runbook_is_not_driven_otherwise_and_moving_is_a_reviewed_change(project: Path) -> None:
    path = project / "systems" / SYSTEM / "system.yaml"
    before = path.read_text()
    path.write_text(re.sub(r"(?m)^retraining: \{", "retraining: {driven_by: runbook, ", before))
    assert path.read_text() != before
    river = open_river(project)
    assert river.archive.definition_in_force(SYSTEM) != river.definition(SYSTEM).digest, "the move needs approval"
    approve_definition(river)
    with pytest.raises(OutOfTurn, match="driven by its runbook"):
        run_to(river, "data_preparation")
    working.start(river, SYSTEM, engineer(river), SAW)
    assert working.step(river, SYSTEM, "data_preparation", engineer(river), SAW).said["result"] == "verified"
    path.write_text(before)
    moved = CliRunner().invoke(cli, ["definition", "diff", SYSTEM, "--root", str(project), "--json"])
    assert "driven_by" in moved.output and "AI Governance Lead" in moved.output, moved.output


def test_people_and_machines_use_it_at_the_command_line(project: Path, tmp_path: Path) -> None:
    run, root = CliRunner().invoke, ["--root", str(project)]
    me = ["--as", ENGINEER, "--role", "ml_engineer", "--reason", SAW, *root]
    assert "8  Deployment" in run(cli, ["runbook", "show", SYSTEM, *root]).output
    assert run(cli, ["runbook", "start", SYSTEM, *me]).exit_code == 0
    done = run(cli, ["runbook", "step", SYSTEM, "1", *me, "--json"])
    assert done.exit_code == 0 and json.loads(done.output)["result"] == "verified", done.output
    refused = run(cli, ["runbook", "step", SYSTEM, "3", *me])
    assert isinstance(refused.exception, OutOfTurn)
    assert "deviation" in run(cli, ["runbook", "finish", SYSTEM, *me]).output
    page = tmp_path / "runbook.html"
    assert run(cli, ["runbook", "show", SYSTEM, "--format", "html", "--into", str(page), *root]).exit_code == 0
    assert "<script" not in page.read_text() and SAW in page.read_text()
    assert json.loads(run(cli, ["runbook", "show", SYSTEM, "--json", *root]).output)["logs"][0]["finished"] is True
