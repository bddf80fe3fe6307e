"""The governance pages say what the records say: in every state of a release, with evidence behind every number."""

from __future__ import annotations

import dataclasses
import re
import shlex
from datetime import timedelta
from pathlib import Path

import pytest

from compliance_assets.evidence import inbox
from compliance_assets.evidence.records import DeploymentStep
from compliance_assets.governance.candidates import candidates, fate
from compliance_assets.governance.charts.reading import measured, shown
from compliance_assets.governance.deciding import revoke_decision
from compliance_assets.governance.review import review_document
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.river import RIVER
from compliance_assets.trust.canonical import Digest, digest_of, rfc3339
from compliance_assets.web import page_views
from compliance_assets.web.project_reading import ProjectReading
from compliance_assets_tests.project import (
    GOVERNANCE,
    OWNER,
    PEOPLE,
    REASON,
    SYSTEM,
    approve_definition,
    copied,
    decide,
    founded,
    run_to,
    signer,
    step,
)
from compliance_assets_tests.test_cli import compliance
from compliance_assets_tests.web.visitor import HTML, Visitor, crawl

REVIEW = f"/systems/{SYSTEM}/review"


@pytest.fixture(scope="module")
def failed_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose model treats one sex worse: the fairness gate refused it."""
    root = tmp_path_factory.mktemp("failed") / "world"
    river = founded(root, **{"data.source.knobs": {"bias": 0.35}})
    approve_definition(river)
    run_to(river, "integration_testing")
    return root


@pytest.fixture(scope="module")
def approved_world(reviewed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both people approved, and the approval stage admitted it."""
    root = copied(reviewed_world, tmp_path_factory.mktemp("approved") / "world")
    river = open_river(root)
    for person in PEOPLE:
        decide(river, person)
    assert step(river, "pre_deployment_approval")
    return root


def rolled_out(river: River, *actions: str) -> None:
    """Deployment entries for the approved release, signed with the deployer's key as stage 8 signs them."""
    approval = river.head(SYSTEM, "approval")
    staged = river.head(SYSTEM, "staged_model")
    assert approval and staged
    value = river.value("staged_model", staged).model_dump()
    for place, action in enumerate(actions):
        river.archive.append_deployment(DeploymentStep(
            system=SYSTEM, environment="production", action=action, release=value["release"], staged=staged, model=value["model"],
            approval=approval, slot="blue", share="0.50" if action == "canary_started" else "", step=place, previous_model="",
            previous_approval="", run="deploy-run", launcher="engineer", at=rfc3339(river.now()), definition=river.definition(SYSTEM).digest,
            trust_policy=river.organisation.digest, composite_version="1", reason="too many errors" if action == "aborted" else "",
            demonstration=True))


# ------------------------------------------------------------------------------------------------------ one page per state


def test_where_nothing_has_run_nothing_is_passed_failed_or_waiting(founded_world: Path) -> None:
    visitor = Visitor(founded_world)
    page = visitor.see(REVIEW)
    assert "nothing has run yet" in page.text and f"compliance run {SYSTEM}" in page.text
    assert page.text.count("not run") == 8 and "✓" not in page.text and "✗" not in page.text
    home = visitor.see("/")
    assert "nothing has run yet" in home.text and "No record says that this system answers in production" in home.text
    assert home.text.count("not run") == 8


def test_a_refused_candidate_says_which_gate_which_number_and_what_was_never_run(failed_world: Path) -> None:
    page = Visitor(failed_world).see(REVIEW)
    rows = page.rows("findings")
    assert any(row.startswith("Selection rate ratio sex") and row.endswith("✗ fail") for row in rows)
    assert any(row.startswith("ROC AUC") and row.endswith("✓ pass") for row in rows)
    assert [row for row in rows if row.startswith("The whole gate")] and all("not run" in row for row in rows if row.startswith("The whole gate"))
    assert "refused by a gate" in page.text and page.text.count("blocked, not run") == 4
    assert "Nobody can approve this candidate" in page.text and "compliance approve" not in page.text
    assert "where ≥ 0.75 is declared on the lower end" in page.text


def test_the_front_page_lists_what_was_refused_last_month_with_its_reason(failed_world: Path) -> None:
    page = Visitor(failed_world).see("/")
    assert "Refused at model evaluation: Fairness: Selection rate ratio, sex 0." in page.text
    assert f"/systems/{SYSTEM}/candidates/7" in page.links and "/ledger/7" in page.links


def test_a_release_that_waits_says_for_whom_and_is_neither_passed_nor_failed(in_review: Path) -> None:
    page = Visitor(in_review).see(REVIEW)
    assert "waits for people" in page.text and "waiting for people" in page.text
    assert "Still to be heard: 1 × technical owner, 1 × governance lead" in page.text
    assert page.text.count("✓ passed") >= 6 and "✗" not in page.text
    assert "Needs your judgement" in page.text and "Nothing is in production: there is no incumbent to compare with." in page.text


def test_the_review_shows_the_digest_that_a_signature_will_hold(in_review: Path) -> None:
    river = open_river(in_review)
    before = Visitor(in_review).see(REVIEW).text
    assert str(digest_of(review_document(river, SYSTEM))) in before
    decide(river, OWNER)
    (record,), _ = inbox.admit(river.archive)
    assert str(record.body.shown) in before


def test_the_commands_on_the_page_are_the_ones_that_work(in_review: Path) -> None:
    visitor = Visitor(in_review)
    page = visitor.see(REVIEW)
    commands = ["".join(block.itertext()) for block in page.elements("pre") if block.attrib.get("class") == "command"]
    approvals = [command for command in commands if command.startswith("compliance approve ")]
    assert len(approvals) == 2 and len(commands) == 4
    people = {role: person for person, role in PEOPLE.items()}
    for command in approvals:
        words = shlex.split(command)
        person = people[words[words.index("--role") + 1]]
        words[words.index("YOU")] = person
        words[words.index("--key") + 1] = str(in_review / ".compliance" / "keys" / "people" / person)
        words[words.index("--reason") + 1] = REASON
        compliance(*words[1:], cwd=in_review)
    assert "2 signed decisions have arrived" in visitor.see("/").text
    inbox.admit(open_river(in_review).archive)
    page = visitor.see(REVIEW)
    assert "Enough people approved; the approval stage has not admitted it yet." in page.text
    assert page.text.count(REASON) == 2 and "compliance approve" not in page.text


def test_after_one_approval_only_the_other_role_is_asked(in_review: Path) -> None:
    river = open_river(in_review)
    decide(river, OWNER)
    inbox.admit(river.archive)
    page = Visitor(in_review).see(REVIEW)
    assert "Still to be heard: 1 × governance lead" in page.text and "--role governance_lead" in page.text
    assert "compliance approve small_lender --as YOU --role technical_owner" not in page.text
    assert "✓ approved owner-1 as technical owner" in page.text


def test_a_rejection_is_shown_as_peoples_not_as_a_gates(in_review: Path) -> None:
    river = open_river(in_review)
    decide(river, GOVERNANCE, "reject", "The youngest applicants were not looked at well enough.")
    inbox.admit(river.archive)
    page = Visitor(in_review).see(REVIEW)
    assert "rejected by people" in page.text and "The youngest applicants were not looked at well enough." in page.text
    assert "compliance approve" not in page.text
    assert not step(river, "pre_deployment_approval")
    page = Visitor(in_review).see(REVIEW)
    assert "rejected by people" in page.text and "✗ failed" in page.text


def test_an_approved_release_says_who_approved_and_until_when(approved_world: Path) -> None:
    page = Visitor(approved_world).see(REVIEW)
    assert "approved, not deployed" in page.text and "Valid until" in page.text
    for person, role in PEOPLE.items():
        assert f"✓ approved {person} as {role.replace('_', ' ')}" in page.text
    assert page.text.count("counted in the approval") == 2 and "What people had to judge" in page.text


def test_an_approval_that_ran_out_is_said_to_have_expired(approved_world: Path) -> None:
    river = open_river(approved_world, writer=False)
    later = dataclasses.replace(river, now=lambda: river.now() + timedelta(days=3))
    said = fate(later, candidates(later, SYSTEM)[0])
    assert said.state == "expired" and "before anything was deployed" in said.sentence and "Waits for people" in said.sentence


def test_an_approval_that_was_taken_back_is_asked_for_again(approved_world: Path, tmp_path: Path) -> None:
    root = copied(approved_world, tmp_path / "world")
    river = open_river(root)
    mine = next(record for record in river.archive.entries() if record.statement.kind == "decision" and record.body.person == OWNER
                and record.body.scope.purpose == "release")
    revoke_decision(river, SYSTEM, mine.digest, signer(river, OWNER), "A group was overlooked, so this has to be looked at again.")
    inbox.admit(river.archive)
    visitor = Visitor(root)
    page = visitor.see(REVIEW)
    assert "approval no longer stands" in page.text and "Still to be heard: 1 × technical owner." in page.text
    assert "--role technical_owner" in page.text and "approve small_lender --as YOU --role governance_lead" not in page.text
    assert "blocked, not run" in page.text and "! revoked owner-1 as technical owner" in page.text
    assert "approved, not deployed" not in visitor.see("/").text


def test_what_answers_is_stale_once_its_approval_was_taken_back(approved_world: Path, tmp_path: Path) -> None:
    root = copied(approved_world, tmp_path / "world")
    river = open_river(root)
    rolled_out(river, "intent", "shadow_started", "canary_started", "full_rollout")
    mine = next(record for record in river.archive.entries() if record.statement.kind == "decision" and record.body.person == OWNER
                and record.body.scope.purpose == "release")
    assert "took back the approval of what answers" not in Visitor(root).see("/").text
    revoke_decision(river, SYSTEM, mine.digest, signer(river, OWNER), "A group was overlooked, so this has to be looked at again.")
    inbox.admit(river.archive)
    assert "owner-1 took back the approval of what answers" in Visitor(root).see("/").text


def test_a_deployed_release_is_in_production_since_its_full_rollout(approved_world: Path, tmp_path: Path) -> None:
    root = copied(approved_world, tmp_path / "world")
    river = open_river(root)
    visitor = Visitor(root)
    rolled_out(river, "intent", "shadow_started", "canary_started")
    assert "rollout under way" in visitor.see(REVIEW).text
    assert "has no end on record" in visitor.see("/").text and "Nothing" in visitor.see("/").text.title()
    rolled_out(river, "full_rollout")
    last = river.archive.head().size - 1
    home = visitor.see("/")
    release = river.value("staged_model", Digest.parse(str(river.head(SYSTEM, "staged_model")))).model_dump()["release"]
    assert f"release {release[:12]}" in home.text and f"/ledger/{last}" in home.links
    assert "Approved by " in home.text and "governance-1 (governance lead)" in home.text and "owner-1 (technical owner)" in home.text
    assert "has no end on record" not in home.text
    assert "in production" in visitor.see(REVIEW).text


def test_a_rollout_that_undid_itself_says_why(approved_world: Path, tmp_path: Path) -> None:
    root = copied(approved_world, tmp_path / "world")
    rolled_out(open_river(root), "intent", "shadow_started", "aborted")
    page = Visitor(root).see(REVIEW)
    assert "rollout undone" in page.text and "too many errors" in page.text


# ------------------------------------------------------------------------------------------------------- numbers and evidence


def test_every_measured_value_on_the_review_is_the_records_and_links_to_it(in_review: Path) -> None:
    river = open_river(in_review, writer=False)
    record = candidates(river, SYSTEM)[0].chain["evaluation_report"]
    page = Visitor(in_review).see(REVIEW)
    wanted = [shown(measured(finding.value)) for report in record.body.reports for finding in report.findings]
    table = next(table for table in page.elements("table") if "findings" in table.attrib.get("class", ""))
    cells = [link for link in table.iter(f"{HTML}a") if link.attrib.get("class") == "value"]
    assert [str(cell.text) for cell in cells] == wanted
    assert {cell.attrib["href"] for cell in cells} == {f"/ledger/{record.index}"}


def test_each_chart_has_a_table_of_the_same_numbers(in_review: Path) -> None:
    page = Visitor(in_review).see(REVIEW)
    figures = list(page.elements("figure"))
    assert len(figures) == 5
    for figure in figures:
        assert figure.find("{http://www.w3.org/2000/svg}svg") is not None and figure.find(f".//{HTML}table") is not None
    assert "84.4 %" in page.text or re.search(r"\d\d\.\d %", page.text)


def test_an_entry_is_proved_on_its_page_and_its_bytes_can_be_taken_away(in_review: Path) -> None:
    river = open_river(in_review, writer=False)
    visitor = Visitor(in_review)
    for index in range(river.archive.head().size):
        page = visitor.see(f"/ledger/{index}")
        page.check()
        assert "proof and signatures hold" in page.text and river.archive.head().root in page.text
        assert visitor.get(f"/ledger/{index}/envelope").content == river.archive.ledger.entry(index).body


def test_the_ledger_can_be_narrowed_by_kind_system_and_outcome(failed_world: Path) -> None:
    visitor = Visitor(failed_world)
    entries = {link for link in visitor.see("/ledger?kind=stage&outcome=failed").links if re.fullmatch(r"/ledger/\d+", link)}
    assert entries == {"/ledger/7"}
    assert "No entry fits" in visitor.see("/ledger?system=nobody").text
    assert "decision" in visitor.see("/ledger?kind=decision").text


def test_a_run_lists_everything_recorded_under_it(failed_world: Path) -> None:
    page = Visitor(failed_world).see("/runs/test-run")
    assert page.text.count("✓ passed") == 3 and page.text.count("✗ failed") == 1 and "where ≥ 0.75 is declared on the lower end" in page.text


def test_provenance_goes_both_ways_and_back_in_time(in_review: Path) -> None:
    river = open_river(in_review, writer=False)
    visitor, digest = Visitor(in_review), river.head(SYSTEM, "features")
    page = visitor.see(f"/provenance?what={digest}")
    assert "dataset" in page.text and "integration report" in page.text and "Raw source: " in page.text
    assert "integration report" not in visitor.see(f"/provenance?what={digest}&as_of=2020-01-01").text
    assert visitor.get(f"/provenance?what={digest}&as_of=yesterday").status_code == 404


def test_verifying_everything_says_what_was_and_what_was_not_covered(in_review: Path) -> None:
    page = Visitor(in_review).see("/ledger/verification")
    assert "Everything that can be recomputed agrees" in page.text and "Not covered" in page.text


# ------------------------------------------------------------------------------------------------------------------- stale


def test_a_bound_moved_on_disk_is_stale_at_once_and_shown_as_what_differs(in_review: Path) -> None:
    visitor = Visitor(in_review)
    assert "nothing found" in visitor.see("/").text
    declaration = in_review / "systems" / SYSTEM / "system.yaml"
    declaration.write_text(declaration.read_text().replace("at_least: 0.75, judged_on: lower, because: below", "at_least: 0.5, judged_on: lower, because: below"))
    home, page = visitor.see("/"), visitor.see(f"/definitions/{SYSTEM}")
    assert "The files on disk are another definition" in home.text
    (moved,) = [" ".join(" ".join(row.itertext()).split()) for row in page.elements("tr") if "evaluation.performance" in "".join(row.itertext())]
    assert "0.75" in moved and "0.5" in moved and "weakens SIGNIFICANT" in moved and "not proposed yet" in page.text, moved
    assert "nothing has run yet" in visitor.see(REVIEW).text


def test_an_organisation_changed_on_disk_is_said_not_to_count(in_review: Path) -> None:
    visitor = Visitor(in_review)
    path = in_review / "organisation.yaml"
    path.write_text(path.read_text().replace("Small Lender", "Large Lender"))
    assert "is not the trust policy in force" in visitor.see("/").text
    assert "what is on disk does not count" in visitor.see("/definitions").text
    assert "problem" in visitor.see("/health").text


def test_a_declaration_that_cannot_be_read_does_not_hide_the_others(in_review: Path) -> None:
    (in_review / "systems" / SYSTEM / "system.yaml").write_text("system: [")
    page = Visitor(in_review).see("/")
    assert "cannot be read" in page.text
    assert Visitor(in_review).get(REVIEW).status_code == 503


def test_only_decisions_about_a_definition_are_listed_with_it(approved_world: Path) -> None:
    page = Visitor(approved_world).see(f"/definitions/{SYSTEM}")
    assert page.text.count("approve: ") == 2


# ---------------------------------------------------------------------------------------------------------- every page there is


@pytest.mark.slow
@pytest.mark.parametrize("world", ["founded_world", "failed_world", "approved_world"])
def test_every_link_leads_somewhere_and_every_page_is_valid_and_whole(world: str, request: pytest.FixtureRequest) -> None:
    from compliance_assets_tests.web.visitor import Seen

    seen = crawl(Visitor(request.getfixturevalue(world)))
    assert len(seen) > 15
    for path, answer in seen.items():
        assert answer.status_code in (200, 303), (path, answer.status_code)
        if answer.status_code == 200 and answer.headers["content-type"].startswith("text/html"):
            Seen(path, answer).check()


@pytest.mark.parametrize("path", ["/", REVIEW, "/dashboard", "/releases", "/ledger", "/ledger/7", "/provenance", "/definitions", f"/definitions/{SYSTEM}", "/health",
                                  "/runs/test-run", "/ledger/verification", "/nowhere"])
def test_a_page_is_valid_and_whole(path: str, reviewed_world: Path) -> None:
    from compliance_assets_tests.web.visitor import Seen

    Seen(path, Visitor(reviewed_world).get(path)).check()


def test_a_page_finds_the_heads_that_a_stage_finds(in_review: Path) -> None:
    river, reading = open_river(in_review), ProjectReading(in_review)
    for turn in ("first", "again"):
        heads = {rule.makes: reading.now().head(SYSTEM, rule.makes) for rule in RIVER}
        assert heads == {rule.makes: river.head(SYSTEM, rule.makes) for rule in RIVER} and heads["integration_report"], turn
        run_to(river, "integration_testing", run="once-more")


def test_a_long_list_of_releases_comes_in_parts(in_review: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = in_review / "systems" / SYSTEM / "system.yaml"
    declared.write_text(declared.read_text().replace("seed: 11}", "seed: 12}"))
    river = open_river(in_review)
    run_to(river, "data_preparation", run="other-data")
    whole = [one.index for one in candidates(river, SYSTEM)]
    monkeypatch.setattr(page_views, "PER_PAGE", 1)
    visitor, shown, address = Visitor(in_review), [], f"/systems/{SYSTEM}/releases"
    while address:
        page = visitor.see(address)
        page.check()
        shown += [int(link.rpartition("/")[2]) for link in page.links if "/candidates/" in link]
        address = next((link for link in page.links if "before=" in link), "")
    assert shown == whole and len(whole) > 1
