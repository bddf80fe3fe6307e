"""Stage 7: who must approve follows from how much the definition changed, and an approval under a condition counts while it is met."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from compliance_assets.errors import Misused, UntrustedEvidence
from compliance_assets.evidence import inbox
from compliance_assets.evidence import verify_bundle as vb
from compliance_assets.evidence.change_class import release_change
from compliance_assets.evidence.conditions import conditions_of, end_of, overdue
from compliance_assets.evidence.decisions import standing
from compliance_assets.evidence.records import Statement
from compliance_assets.governance.deciding import decide_release, meet_condition, revoke_decision, sign_statement
from compliance_assets.governance.export import export
from compliance_assets.governance.monitoring import in_production
from compliance_assets.governance.questions.catalogue import ask
from compliance_assets.governance.review import open_review, review_document
from compliance_assets.orchestration.watching import _no_longer_covered
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.organisation import check_against
from compliance_assets.policy.system import ReleaseClass, RequiredApproval
from compliance_assets.stages.s8_deployment import _conditions
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.evidence.forging import Forger, simulated_rollout
from compliance_assets_tests.project import GOVERNANCE, OWNER, REASON, SYSTEM, copied, decide, signer, step

LEGAL = (RequiredApproval(role="legal_advisor", people=1),)
WORDS = "The second loan officer has been named."
TOMORROW = (datetime.now(UTC).date() + timedelta(days=1)).isoformat()
IN_A_WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def deployed_world(reviewed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release in production, on paper."""
    root = copied(reviewed_world, tmp_path_factory.mktemp("deployed") / "world")
    river = open_river(root)
    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    assert step(river, "approval")
    simulated_rollout(river, SYSTEM)
    return root


def edited(root: Path, old: str, new: str) -> River:
    path = root / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace(old, new, 1))
    return open_river(root)


def staged(river: River) -> Digest:
    return Digest.parse(river.archive.made_by(SYSTEM, "model_registration")[-1].body.output)


OTHER = Digest("0" * 64)
CLASSES: dict[ReleaseClass, tuple[str, str]] = {
    "ROUTINE": ("at_least: 0.75, judged_on: lower, because: below", "at_least: 0.76, judged_on: lower, because: below"),
    "SIGNIFICANT": ("at_least: 0.75, judged_on: lower, because: below", "at_least: 0.74, judged_on: lower, because: below"),
    "SUBSTANTIAL": ("intended_purpose: Estimate the probability", "intended_purpose: Decide by"),
}


def test_before_anything_is_in_production_a_release_is_the_first(in_review: Path) -> None:
    river = open_river(in_review)
    assert release_change(river.archive, river.definition(SYSTEM), staged(river)).kind == "FIRST"
    assert review_document(river, SYSTEM)["change"]["class"] == "FIRST"


@pytest.mark.parametrize("kind", CLASSES)
def test_the_class_follows_from_the_recorded_definitions(kind: ReleaseClass, deployed_world: Path, tmp_path: Path) -> None:
    river = edited(copied(deployed_world, tmp_path / "world"), *CLASSES[kind])
    assert release_change(river.archive, river.definition(SYSTEM), OTHER).kind == kind


def test_what_cannot_be_compared_counts_as_the_gravest(deployed_world: Path, tmp_path: Path) -> None:
    root = copied(deployed_world, tmp_path / "world")
    river = open_river(root)
    was = river.definition(SYSTEM).digest
    river.archive.artefacts._path(was).unlink()
    found = release_change((river := edited(root, *CLASSES["ROUTINE"])).archive, river.definition(SYSTEM), OTHER)
    assert found.kind == "SUBSTANTIAL" and "cannot be compared" in found.note


def test_the_release_in_production_is_still_what_it_was_approved_as(deployed_world: Path) -> None:
    river = open_river(deployed_world)
    assert release_change(river.archive, river.definition(SYSTEM), staged(river)).kind == "FIRST"
    approval = river.archive.made_by(SYSTEM, "pre_deployment_approval")[-1]
    assert river.value("approval", Digest.parse(approval.body.output)).model_dump()["change"] == "FIRST"


def counted(river: River, change: ReleaseClass, **policy: Any) -> Any:
    chain, subjects, _ = open_review(river, SYSTEM)
    declared = river.definition(SYSTEM).system
    name = declared.deployment.environment
    return standing(river.archive.decisions_on(subjects["model"], "model"), subjects, declared.approval.model_copy(update=policy),
                    river.organisation, river.organisation.environments[name], name, chain, river.now(), change=change, overdue=lambda _: "")


def test_a_graver_class_waits_for_the_people_it_needs_besides(in_review: Path) -> None:
    river = open_river(in_review)
    for person in (OWNER, GOVERNANCE):
        decide(river, person)
    inbox.admit(river.archive)
    besides = {"SUBSTANTIAL": LEGAL}
    assert counted(river, "SIGNIFICANT", by_change=besides)
    assert counted(river, "SUBSTANTIAL", by_change=besides).missing == (("legal_advisor", 1),)
    alone = (RequiredApproval(role="technical_owner", people=1),)
    assert counted(river, "SIGNIFICANT", requires=alone)
    assert "second role" in counted(river, "SUBSTANTIAL", requires=alone).waiting_for()


def test_a_declaration_may_not_ask_besides_for_people_who_are_not_there(project: Path) -> None:
    declared = open_river(project).definition(SYSTEM).system
    approval = declared.approval.model_copy(update={"by_change": {"SUBSTANTIAL": LEGAL}})
    problems = check_against(declared.model_copy(update={"approval": approval}), open_river(project).organisation)
    assert any("legal_advisor" in str(problem) for problem in problems)


# ---------------------------------------------------------------------------------------------------------------- conditions


def conditionally(river: River, person: str = GOVERNANCE) -> None:
    decide_release(river, SYSTEM, signer(river, person), "approve", REASON, opened_seconds=3, due=TOMORROW, conditions=(WORDS,))


@pytest.fixture
def conditional(in_review: Path) -> River:
    """Approved by both, by one under a condition."""
    river = open_river(in_review)
    decide(river, OWNER)
    conditionally(river)
    inbox.admit(river.archive)
    return river


def the_condition(river: River) -> Any:
    return conditions_of(river.archive, river.archive.of_kind("decision", SYSTEM))[0]


def test_the_question_who_approved_names_the_condition_and_who_says_that_it_is_met(conditional: River) -> None:
    assert step(conditional, "approval")

    def told() -> str:
        return next(one.said for one in ask(conditional, SYSTEM, "E18").facts if one.what == f"{GOVERNANCE}: condition")

    assert told() == f"{WORDS}; due {TOMORROW}; nobody has signed that it is met"
    meet_condition(conditional, SYSTEM, str(the_condition(conditional).id), signer(conditional, GOVERNANCE), REASON)
    inbox.admit(conditional.archive)
    assert told().startswith(f"{WORDS}; due {TOMORROW}; met, says {GOVERNANCE} at ")


def test_a_condition_needs_a_day_and_a_day_a_condition(in_review: Path) -> None:
    river = open_river(in_review)
    past = (date.today() - timedelta(days=2)).isoformat()
    for due, conditions in (("", (WORDS,)), (TOMORROW, ()), (past, (WORDS,))):
        with pytest.raises(Misused, match="A condition has a day"):
            decide_release(river, SYSTEM, signer(river, OWNER), "approve", REASON, opened_seconds=1, due=due, conditions=conditions)


def test_a_condition_without_a_day_is_due_at_once() -> None:
    assert end_of("") < datetime(1970, 1, 1, tzinfo=UTC) < end_of("1970-01-01") == datetime(1970, 1, 2, tzinfo=UTC)


def test_a_condition_that_is_due_on_no_day_never_reaches_the_ledger(conditional: River) -> None:
    record = the_condition(conditional).approval
    body = record.body.model_copy(update={"due": "soon"})
    with pytest.raises(UntrustedEvidence, match="are due on no day: 'soon'"):
        sign_statement(conditional, Statement(record.statement.subjects, body), signer(conditional, GOVERNANCE))


def test_until_its_day_a_condition_does_not_hold_anybody_up_and_the_review_shows_it(conditional: River) -> None:
    assert review_document(conditional, SYSTEM)["conditions"][0]["text"] == WORDS
    assert step(conditional, "approval")


def test_an_unmet_condition_ends_the_authority_to_deploy_when_its_day_is_over(conditional: River) -> None:
    approval = step(conditional, "approval").value
    for days, holds in ((0, True), (7, False)):
        work: Any = type("Work", (), {"archive": conditional.archive, "now": lambda days=days: datetime.now(UTC) + timedelta(days=days)})
        finding = _conditions(work, approval)  # type: ignore[arg-type]
        assert bool(finding) is holds
    assert "is not met: " + WORDS in str(finding.value)


@pytest.mark.parametrize("decisions", [(), ("0" * 64,)])
def test_a_counted_decision_that_cannot_be_found_is_no_condition_met(conditional: River, decisions: tuple[str, ...]) -> None:
    approval: Any = step(conditional, "approval").value
    work: Any = type("Work", (), {"archive": conditional.archive, "now": lambda: datetime.now(UTC)})
    assert _conditions(work, approval)
    assert not _conditions(work, approval.model_copy(update={"decisions": (*approval.decisions, *decisions) if decisions else ()}))


def test_counting_refuses_an_approval_whose_condition_is_overdue(conditional: River) -> None:
    chain, subjects, before = open_review(conditional, SYSTEM)
    assert before
    declared = conditional.definition(SYSTEM).system
    name = declared.deployment.environment
    found = standing(conditional.archive.decisions_on(subjects["model"], "model"), subjects, declared.approval, conditional.organisation,
                     conditional.organisation.environments[name], name, chain, conditional.now(), change="FIRST",
                     overdue=lambda record: overdue(conditional.archive, record, conditional.now() + IN_A_WEEK))
    assert not found and found.missing == (("governance_lead", 1),)


def test_a_condition_that_is_met_holds_and_one_that_is_taken_back_does_not(conditional: River) -> None:
    one = the_condition(conditional)
    with pytest.raises(Misused, match="does not say that it is met"):
        meet_condition(conditional, SYSTEM, str(one.id), signer(conditional, OWNER), REASON)
    signed, _ = meet_condition(conditional, SYSTEM, str(one.id)[:12], signer(conditional, GOVERNANCE), REASON)
    inbox.admit(conditional.archive)
    later = conditional.now() + IN_A_WEEK
    assert not overdue(conditional.archive, one.approval, later)
    revoke_decision(conditional, SYSTEM, str(signed.digest), signer(conditional, GOVERNANCE), REASON)
    inbox.admit(conditional.archive)
    assert overdue(conditional.archive, one.approval, later)


def test_the_commands_set_list_and_meet_a_condition(in_review: Path) -> None:
    from click.testing import CliRunner

    from compliance_assets.cli import cli

    def said(*arguments: str) -> Any:
        done = CliRunner().invoke(cli, [*arguments, "--root", str(in_review), "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    who = ("--as", GOVERNANCE, "--role", "governance_lead", "--reason", REASON)
    said("approve", SYSTEM, "--condition", WORDS, "--by", TOMORROW, *who)
    inbox.admit(open_river(in_review).archive)
    (one,) = said("condition", "list", SYSTEM)
    assert (one["text"], one["met_by"], one["overdue"]) == (WORDS, "", False)
    said("condition", "met", SYSTEM, one["condition"], *who)
    assert said("condition", "list", SYSTEM)[0]["met_by"] == GOVERNANCE
    assert f"met, says {GOVERNANCE}" in CliRunner().invoke(cli, ["condition", "list", SYSTEM, "--root", str(in_review)]).stdout


def test_a_condition_met_in_the_word_of_another_role_is_not_met(conditional: River) -> None:
    one = the_condition(conditional)
    signed, path = meet_condition(conditional, SYSTEM, str(one.id), signer(conditional, GOVERNANCE), REASON)
    path.unlink()
    body = signed.body.model_copy(update={"person": OWNER, "role": "technical_owner"})
    sign_statement(conditional, Statement(signed.subjects, body), signer(conditional, OWNER))
    assert len(inbox.admit(conditional.archive)[0]) == 1
    assert overdue(conditional.archive, one.approval, conditional.now() + IN_A_WEEK)


def test_a_condition_that_falls_due_in_production_becomes_an_alert(conditional: River) -> None:
    assert step(conditional, "approval")
    simulated_rollout(conditional, SYSTEM)
    slot = in_production(conditional, SYSTEM)
    assert slot is not None and not list(_no_longer_covered(conditional, SYSTEM, slot))
    later = conditional.now() + IN_A_WEEK
    conditional.now = lambda: later
    (alert,) = _no_longer_covered(conditional, SYSTEM, slot)
    assert alert["event"] == "condition_overdue" and WORDS in str(alert["said"])


def test_the_auditors_verifier_refuses_a_rollout_after_an_unmet_condition(conditional: River, tmp_path: Path) -> None:
    assert step(conditional, "approval")
    simulated_rollout(conditional, SYSTEM)
    export(conditional.archive, SYSTEM, tmp_path / "bundle")
    honest = vb.Bundle(tmp_path / "bundle")
    honest.verify(None, None)
    assert not honest.problems
    forger = Forger(tmp_path / "bundle", conditional.home.keys)
    for entry in forger.decisions("release"):
        if entry["predicate"]["conditions"]:
            entry["predicate"]["due"] = "2020-01-01"
    forger.people = True
    folder, _, _ = forger.write(tmp_path / "forged")
    found = vb.Bundle(folder)
    found.verify(None, None)
    assert any("was due 2020-01-01 and had not been met" in problem for problem in found.problems), found.problems


@pytest.mark.parametrize(("change", "said"), [("ROUTINE", "nothing was"), ("HARMLESS", "how much its definition changed")])
def test_the_auditors_verifier_refuses_a_class_that_cannot_be(change: str, said: str, deployed_world: Path, tmp_path: Path) -> None:
    river = open_river(deployed_world)
    export(river.archive, SYSTEM, tmp_path / "bundle")
    forger = Forger(tmp_path / "bundle", river.home.keys)
    forger.edit_output(forger.stage("pre_deployment_approval"), change=change)
    folder, _, _ = forger.write(tmp_path / "forged")
    found = vb.Bundle(folder)
    found.verify(None, None)
    assert any(said in problem for problem in found.problems), found.problems
