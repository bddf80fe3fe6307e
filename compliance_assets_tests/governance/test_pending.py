"""What waits for people is listed with since when, for whom and how to answer; the incumbent's numbers stand beside the candidate's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from compliance_assets.cli import cli
from compliance_assets.evidence.archive import Record
from compliance_assets.evidence.records import Statement
from compliance_assets.governance import release_page
from compliance_assets.governance.finding_rows import rows
from compliance_assets.governance.pending import pending
from compliance_assets.governance.proposing import propose_definition
from compliance_assets.pipeline import open_river
from compliance_assets.trust.canonical import rfc3339
from compliance_assets_tests.evidence.forging import simulated_rollout
from compliance_assets_tests.project import ENGINEER, GOVERNANCE, OWNER, SYSTEM, approve_definition, decide, run_to, step
from compliance_assets_tests.web.visitor import Visitor


def test_a_release_waits_for_those_who_were_not_heard(in_review: Path) -> None:
    river = open_river(in_review)
    (one,) = pending(river, SYSTEM)
    assert (one.what, one.waits_for) == ("release", "1 × technical_owner; 1 × governance_lead")
    assert one.entry == river.archive.made_by(SYSTEM, "integration_testing")[-1].index and one.how == f"compliance review {SYSTEM}"
    done = CliRunner().invoke(cli, ["status", "--root", str(in_review), "--json"])
    assert [each["what"] for each in json.loads(done.output)["systems"][0]["pending_reviews"]] == ["release"]
    text = CliRunner().invoke(cli, ["status", "--root", str(in_review)], env={"COLUMNS": "160"}).output
    assert "pending review" in text and f"compliance review {SYSTEM}" in text


def test_nothing_waits_once_people_approved_and_an_emergency_act_waits_again(in_review: Path) -> None:
    river = open_river(in_review)
    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    assert step(river, "approval")
    simulated_rollout(river, SYSTEM)
    assert pending(river, SYSTEM) == ()
    last = river.archive.deployments("production")[-1].body
    record = river.archive.append_deployment(last.model_copy(update={"action": "withdrawn", "step": 9, "at": rfc3339(river.now()),
                                                                     "evidence": {"emergency": True}, "reason": "too many complaints"}))
    (one,) = pending(open_river(in_review), SYSTEM)
    assert (one.what, one.waits_for, one.entry) == ("emergency act", "anybody but engineer", record.index) and str(record.digest) in one.how


def test_a_proposed_definition_waits_for_those_who_approve_definitions(project: Path) -> None:
    path = project / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("at_most: 0.12", "at_most: 0.13"))
    river = open_river(project)
    assert pending(river, SYSTEM) == (), "what nobody proposed waits for nobody"
    propose_definition(river, SYSTEM, ENGINEER)
    (one,) = pending(river, SYSTEM)
    assert one.what == "definition" and one.how == f"compliance definition approve {SYSTEM}" and "×" in one.waits_for


def _fails_a_stricter_bound(root: Path) -> None:
    path = root / "systems" / SYSTEM / "system.yaml"
    before = path.read_text()
    path.write_text(before.replace("metric: roc_auc, at_least: 0.75", "metric: roc_auc, at_least: 0.999"))
    river = open_river(root)
    approve_definition(river)
    run_to(river, "evaluation_report", run="later")
    path.write_text(before)


def test_the_incumbents_numbers_stand_beside_the_candidates(in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    river = open_river(in_review, writer=False)
    record = river.archive.made_by(SYSTEM, "model_evaluation")[-1]
    alone = rows(record)
    assert not any(row.incumbent for row in alone) and release_page.incumbent_of(river, record) is None
    assert "Against the incumbent" not in Visitor(in_review).see(f"/systems/{SYSTEM}/review").text
    # A later evaluation that was made while this very candidate was in production.
    body = record.body.model_copy(update={"references": {"production": record.body.inputs["candidate_model"]}})
    later = Record(record.index + 100, Statement(record.statement.subjects, body), record.envelope)
    found = release_page.incumbent_of(river, later)
    assert found is not None and found.index == record.index
    beside = {(row.gate, row.what, row.over): row for row in rows(record, incumbent=found)}
    assert all(row.incumbent == row.value and row.incumbent_entry == record.index for row in beside.values() if row.gate == "fairness")
    assert not any(row.incumbent for row in beside.values() if row.gate == "drift"), "drift compares with the incumbent itself"
    _fails_a_stricter_bound(in_review)
    failed = open_river(in_review, writer=False).archive.made_by(SYSTEM, "model_evaluation")[-1]
    assert failed.body.outcome == "failed" and failed.body.inputs == record.body.inputs, "the same bytes, halted before fairness was looked at"
    again = release_page.incumbent_of(open_river(in_review, writer=False), later)
    assert again is not None and again.index == record.index, "the evaluation that it passed, not the one that was halted"
    monkeypatch.setattr(release_page, "incumbent_of", lambda *_: record)
    page = Visitor(in_review).see(f"/systems/{SYSTEM}/review")
    page.check()
    assert "Against the incumbent" in page.text and "not compared" in page.text
