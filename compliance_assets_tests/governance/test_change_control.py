"""A definition that was weakened is compared with what is in force, shown to whoever decides, and refused by CI until approved."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from compliance_assets.cli import cli
from compliance_assets.errors import Misused
from compliance_assets.evidence import inbox
from compliance_assets.governance.change_control import as_of, compare, declaration_text
from compliance_assets.governance.deciding import decide_definition
from compliance_assets.governance.proposing import propose_definition
from compliance_assets.governance.review import review_document
from compliance_assets.pipeline import open_river
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.project import GOVERNANCE, OWNER, REASON, SYSTEM, approve_definition, signer


def loosen(root: Path) -> None:
    path = root / "systems" / SYSTEM / "system.yaml"
    text = path.read_text()
    assert "at_least: 0.75, judged_on: lower, because: below" in text
    path.write_text(text.replace("at_least: 0.75, judged_on: lower, because: below", "at_least: 0.6, judged_on: lower, because: below"))


def compliance(root: Path, *arguments: str, code: int = 0) -> dict[str, object]:
    done = CliRunner().invoke(cli, [*arguments, "--root", str(root), "--json"])
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    return json.loads(done.output)  # type: ignore[no-any-return]


def test_a_loosened_bound_is_said_and_the_check_refuses_until_people_approve(project: Path) -> None:
    assert compliance(project, "definition", "check-change", SYSTEM)["changes"] == []
    loosen(project)
    said = compliance(project, "definition", "diff", SYSTEM)
    assert said["direction"] == "weakens" and said["class"] == "SIGNIFICANT" and "AI Governance Lead" in said["review"]  # type: ignore[operator]
    refused = compliance(project, "definition", "check-change", SYSTEM, code=1)
    assert refused["passed"] is False and refused["approved"] is False
    approve_definition(open_river(project))
    assert compliance(project, "definition", "check-change", SYSTEM)["passed"] is True


def test_a_check_without_a_home_counts_signed_decisions_and_only_the_bases_people(project: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(project, base, ignore=shutil.ignore_patterns(".compliance"))
    loosen(project)
    river = open_river(project)
    propose_definition(river, SYSTEM, OWNER)
    approvals = tmp_path / "approvals"
    approvals.mkdir()
    arguments = ("definition", "check-change", SYSTEM, "--base", str(base), "--approvals", str(approvals))
    assert compliance(project, *arguments, code=1)["passed"] is False
    for person in (OWNER, GOVERNANCE):
        _, path = decide_definition(river, SYSTEM, signer(river, person), "approve", REASON, opened_seconds=1)
        shutil.copy(path, approvals)
        assert compliance(project, *arguments, code=int(person == OWNER))["passed"] is (person == GOVERNANCE)
    # An approval is bound to its definition: one more edit, and it is worth nothing.
    path = project / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("at_least: 0.6,", "at_least: 0.5,"))
    refused = compliance(project, *arguments, code=1)
    assert [why for _, why in refused["not_counted"]] == ["it is about something else"] * 2  # type: ignore[attr-defined]
    # Nobody whom the base does not know, and no byte of a signed decision, counts.
    path.write_text(path.read_text().replace("at_least: 0.5,", "at_least: 0.6,"))
    assert compliance(project, *arguments)["passed"] is True
    one = sorted(approvals.iterdir())[0]
    one.write_bytes(one.read_bytes().replace(b'"sig":"LS', b'"sig":"LT'))
    assert compliance(project, *arguments, code=1)["passed"] is False


def test_a_rejection_beside_the_approvals_fails_the_check(project: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(project, base, ignore=shutil.ignore_patterns(".compliance"))
    loosen(project)
    river = open_river(project)
    propose_definition(river, SYSTEM, OWNER)
    for person, decision in ((OWNER, "approve"), (GOVERNANCE, "approve"), (GOVERNANCE, "reject")):
        decide_definition(river, SYSTEM, signer(river, person), decision, REASON, opened_seconds=1)  # type: ignore[arg-type]
    found = compliance(project, "definition", "check-change", SYSTEM, "--base", str(base), "--approvals", str(river.home.inbox), code=1)
    assert found["passed"] is False


def test_what_an_approver_of_a_definition_was_shown_holds_the_difference(project: Path) -> None:
    loosen(project)
    river = open_river(project)
    propose_definition(river, SYSTEM, OWNER)
    statement, _ = decide_definition(river, SYSTEM, signer(river, OWNER), "approve", REASON, opened_seconds=1)
    inbox.admit(river.archive)
    document = json.loads(river.archive.artefacts.get_bytes(Digest(statement.body.shown)))
    assert document["digest"] == river.definition(SYSTEM).digest
    assert document["compared"]["direction"] == "weakens" and document["compared"]["changes"][0]["before"] == ">= 0.75"


def test_the_bytes_of_a_past_definition_can_be_had_again(project: Path) -> None:
    before = open_river(project)
    old_text = (project / "systems" / SYSTEM / "system.yaml").read_text()
    old = before.definition(SYSTEM).digest
    # The machines' times in the ledger say when; a later entry closes the moment.
    between = datetime.now(UTC)
    loosen(project)
    river = open_river(project)
    river.now = lambda: datetime.now(UTC) + timedelta(seconds=2)
    approve_definition(river)
    new = river.definition(SYSTEM).digest
    assert river.archive.definition_in_force(SYSTEM) == new != old
    assert as_of(river.archive, SYSTEM, between) == old
    assert declaration_text(river.archive, old) == old_text
    said = compliance(project, "definition", "show", SYSTEM, "--as-of", (between + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ"), code=0)
    assert said["digest"] == old and said["declaration"] == old_text and len(said["approved_by"]) == 2  # type: ignore[arg-type]
    found = compare(river, SYSTEM, old[:12], "files")
    assert not found and found.before == old
    with pytest.raises(Misused, match="called production"):
        compare(river, SYSTEM, "production")


def test_before_the_first_approval_nothing_was_in_force(project: Path) -> None:
    assert as_of(open_river(project).archive, SYSTEM, datetime(2020, 1, 1, tzinfo=UTC)) is None
    done = CliRunner().invoke(cli, ["definition", "show", SYSTEM, "--as-of", "2020-01-01", "--root", str(project)])
    assert isinstance(done.exception, Misused)


def test_the_review_says_that_nothing_was_deployed_before(in_review: Path) -> None:
    document = review_document(open_river(in_review), SYSTEM)
    assert document["definition_since"] == {"production": None, "baseline": None}
