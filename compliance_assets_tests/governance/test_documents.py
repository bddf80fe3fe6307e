"""Documents are made from evidence alone: every line has its source, everything else is a marked gap, people's words can turn stale."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from compliance_assets.cli import cli
from compliance_assets.errors import Misused
from compliance_assets.evidence import inbox
from compliance_assets.governance.deciding import revoke_decision
from compliance_assets.governance.documents import KINDS, document, passages
from compliance_assets.governance.documents.aisdp import RESTS_ON
from compliance_assets.governance.documents.gathered import Gathered, chosen
from compliance_assets.governance.documents.human_parts import FIELDS, write, written
from compliance_assets.governance.documents.paper import Paper, Point
from compliance_assets.governance.questions.catalogue import ask
from compliance_assets.pipeline import River, open_river
from compliance_assets.trust.canonical import Digest
from compliance_assets_tests.evidence.forging import simulated_rollout
from compliance_assets_tests.project import GOVERNANCE, OWNER, PEOPLE, REASON, SYSTEM, approve_definition, decide, run_to, signer, step
from compliance_assets_tests.web.visitor import Visitor

CLAIMS = re.compile(r"\b(compl(y|ies|iant|iance)\b(?!_)|conform(s|ing|ant|ity)?\b|certif(y|ies|ied|icates?|ication)\b|CE[- ]mark\w*|fulfil\w*|satisf\w+|meets? (all|the) "
                    r"|in accordance with|approved by (a|the) (notified|authority)|high[- ]quality|state of the art|guarantee\w*)", re.I)
ALLOWED = ("eu declaration of conformity", "claims no conformity", "compliance_assets", "compliance-assets", "initial conformity assessment")
ANNEX_IV = [*(f"1({letter})" for letter in "abcdefgh"), *(f"2({letter})" for letter in "abcdefgh"), *"3456789"]


@pytest.fixture(scope="module")
def papers(reviewed_world: Path) -> dict[str, Paper]:
    river = open_river(reviewed_world, writer=False)
    return {kind: document(river, kind, SYSTEM) for kind in KINDS}


def point(paper: Paper, number: str) -> Point:
    return next(one for one in paper.points if one.number == number)


def signed(river: River, part: str, text: str, person: str = OWNER) -> None:
    write(Gathered(river, chosen(river, SYSTEM)), part, text, signer(river, person), REASON)
    admitted, refused = inbox.admit(river.archive)
    assert len(admitted) == 1 and not refused


def test_annex_iv_has_all_its_points_and_the_package_its_twelve_modules(papers: dict[str, Paper]) -> None:
    assert [one.number for one in papers["annex-iv"].points] == ANNEX_IV
    assert [one.number for one in papers["aisdp"].points] == [f"Module {number}" for number in range(1, 13)]
    assert list(RESTS_ON) == [str(number) for number in range(1, 13)]


def test_every_line_names_an_authentic_entry_its_statement_and_bytes_that_are_there(papers: dict[str, Paper], reviewed_world: Path) -> None:
    river = open_river(reviewed_world, writer=False)
    known = {record.index: record for record in river.archive.entries()}
    seen = 0
    for paper in papers.values():
        for source in paper.sources:
            record = known[source.entry]
            assert source.statement == record.digest
            assert source.artefact == record.digest or river.archive.artefacts.get_bytes(Digest.parse(source.artefact))
            seen += 1
        assert all(line.said.strip() for one in paper.points for line in one.lines)
    assert seen > 20


def test_numbers_are_those_of_the_records(papers: dict[str, Paper], reviewed_world: Path) -> None:
    river = open_river(reviewed_world, writer=False)
    (evaluated,) = river.archive.made_by(SYSTEM, "model_evaluation")
    (prepared,) = river.archive.made_by(SYSTEM, "data_preparation")
    grid = next(one for one in point(papers["annex-iv"], "2(g)").grids if one.caption == "Findings of the evaluation")
    assert len(grid.rows) == sum(len(gate.findings) for gate in evaluated.body.reports) and grid.source.entry == evaluated.index
    said = {line.what: line for line in point(papers["annex-iv"], "2(d)").lines}
    value = river.value("dataset", Digest.parse(prepared.body.output)).model_dump()
    assert said["Rows"].said == str(value["rows"]) and said["Raw source, sha256"].said == value["source"]
    assert said["Rows"].source.entry == prepared.index and said["Rows"].source.artefact == prepared.body.output
    groups = [one for one in point(papers["instructions"], "13(3)(b)(v)").grids if one.caption.startswith("By ")]
    assert {one.caption for one in groups} >= {"By sex", "By age band", "By sex × age band"}


def test_what_only_people_can_say_is_a_gap_with_somebody_who_is_asked(papers: dict[str, Paper]) -> None:
    gap = point(papers["annex-iv"], "1(g)").gaps[0]
    assert point(papers["annex-iv"], "1(g)").state == "empty" and gap.said == "[HUMAN INPUT REQUIRED: Technical SME, point 1(g)]"
    assert papers["annex-iv"].filled < len(ANNEX_IV)
    asked = {gap.asked for paper in papers.values() for gap in paper.gaps}
    assert asked == {field.asked for field in FIELDS.values()} or asked == {*(field.asked for field in FIELDS.values()), ""}


def test_what_has_not_run_is_a_gap_too_and_nothing_stands_in_its_place(reviewed_world: Path) -> None:
    river = open_river(reviewed_world, writer=False)
    first = river.archive.made_by(SYSTEM, "data_preparation")[0]
    early = document(river, "annex-iv", SYSTEM, str(first.index))
    assert "[NOT ON RECORD: point 2(c)]" in {gap.said for gap in point(early, "2(c)").gaps}
    assert not [one for one in point(early, "2(g)").grids if one.caption.startswith(("By ", "Findings"))]


def test_nothing_in_a_document_reads_as_a_claim(papers: dict[str, Paper], reviewed_world: Path) -> None:
    for kind, paper in papers.items():
        pages = (paper.as_text(), Visitor(reviewed_world).see(f"/documents/{SYSTEM}/{kind}").text)
        for text in pages:
            said = text.lower().partition("these pages read;")[0]
            for allowed in ALLOWED:
                said = said.replace(allowed, "")
            found = CLAIMS.search(said)
            assert found is None, (kind, said[max(0, found.start() - 80):found.end() + 40])
        assert paper.as_json()["conformity"] == "not claimed"


def test_the_same_evidence_makes_the_same_document(papers: dict[str, Paper], reviewed_world: Path) -> None:
    again = document(open_river(reviewed_world, writer=False), "annex-iv", SYSTEM)
    assert again.digest == papers["annex-iv"].digest and again.as_json() == papers["annex-iv"].as_json()


def test_words_of_a_person_fill_their_gap_and_are_versioned(in_review: Path) -> None:
    river = open_river(in_review)
    signed(river, "annex-iv/1(g)", "The officer sees the score and <script>alert(1)</script> beside it.")
    paper = document(river, "annex-iv", SYSTEM)
    (words,) = point(paper, "1(g)").words
    assert point(paper, "1(g)").state == "filled" and (words.person, words.role, words.version) == (OWNER, PEOPLE[OWNER], 1)
    page = Visitor(in_review).see(f"/documents/{SYSTEM}/annex-iv")
    page.check()
    assert "<script>alert" not in page.answer.text and "alert(1)" in page.text
    signed(river, "annex-iv/1(g)", "The officer sees the score and its interval.")
    (second,) = point(document(river, "annex-iv", SYSTEM), "1(g)").words
    assert second.version == 2 and "interval" in second.text and second.source.entry > words.source.entry


def test_a_part_belongs_to_the_role_that_signed_it_first(in_review: Path) -> None:
    river = open_river(in_review)
    signed(river, "aisdp/7", "Officers decide; the score is one of four things that they look at.")
    said = {one.what: one.said for one in ask(river, SYSTEM, "E30").facts}
    assert said["module 7 signed"].startswith(f"version 1 by {OWNER} (technical_owner)")
    with pytest.raises(Misused, match="owned by the role technical_owner"):
        signed(river, "aisdp/7", "Somebody else's words.", GOVERNANCE)
    assert written(river, SYSTEM)[0]["aisdp/7"].version == 1


def test_what_its_maker_took_back_stands_no_more_and_the_version_before_does(in_review: Path) -> None:
    river = open_river(in_review)
    for text in ("First words about oversight.", "Second words about oversight."):
        signed(river, "aisdp/7", text)
    statement = str(written(river, SYSTEM)[0]["aisdp/7"].record.digest)
    revoke_decision(river, SYSTEM, statement, signer(river, OWNER), REASON)
    inbox.admit(river.archive)
    assert written(river, SYSTEM)[0]["aisdp/7"].text == "First words about oversight.\n"
    signed(river, "aisdp/7", "Third words about oversight.")
    assert written(river, SYSTEM)[0]["aisdp/7"].version == 3


def test_words_whose_bytes_were_changed_do_not_count(in_review: Path) -> None:
    river = open_river(in_review)
    signed(river, "aisdp/7", "Officers decide; the score is one of four things that they look at.")
    path = river.archive.artefacts.open_path(Digest.parse(written(river, SYSTEM)[0]["aisdp/7"].record.body.shown))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"Officers decide", b"The machine rules"))
    again = open_river(in_review, writer=False)
    standing, refused = written(again, SYSTEM)
    assert not standing and len(refused) == 1
    assert "does not count" in Visitor(in_review).see("/documents").text


@pytest.mark.parametrize(("part", "change", "why"), [
    ("aisdp/2", lambda text: text.replace("wait_seconds: ", "wait_seconds: 1"), "definition changed"),
    ("annex-iv/1(a)", lambda text: text.replace("intended_purpose: ", "intended_purpose: quickly "), "purpose or population changed"),
    ("annex-iv/2(e)", lambda text: text.replace("valid_for: ", "valid_for: 1"), "oversee, approve or stop changed"),
])
def test_words_turn_stale_when_what_they_are_about_changes(in_review: Path, part: str, change: Callable[[str], str], why: str) -> None:
    river = open_river(in_review)
    signed(river, part, "Written about what is declared today.")
    kind = part.partition("/")[0]
    number = part.partition("/")[2] if kind == "annex-iv" else "Module " + part.partition("/")[2]
    assert not point(document(river, kind, SYSTEM), number).words[0].stale
    path = in_review / "systems" / SYSTEM / "system.yaml"
    assert change(path.read_text()) != path.read_text()
    path.write_text(change(path.read_text()))
    changed = open_river(in_review)
    approve_definition(changed)
    run_to(changed, "features", run="later")
    (words,) = point(document(open_river(in_review, writer=False), kind, SYSTEM), number).words
    assert any(why in reason for reason in words.stale), words.stale


def test_words_and_evidence_grow_old(in_review: Path) -> None:
    river = open_river(in_review)
    signed(river, "aisdp/1", "Written today, about a purpose that stays.")
    now = river.now()
    later = open_river(in_review, writer=False)
    later.now = lambda: now + timedelta(days=61)
    paper = document(later, "aisdp", SYSTEM)
    assert any("more than 60" in reason for reason in point(paper, "Module 1").words[0].stale)
    assert any("61 days old" in reason for reason in point(paper, "Module 5").stale)
    assert not point(document(river, "aisdp", SYSTEM), "Module 5").stale


def test_a_module_is_stale_when_a_newer_execution_superseded_its_evidence(in_review: Path) -> None:
    river = open_river(in_review)
    before = chosen(river, SYSTEM)
    path = in_review / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("prevalence: [0.6, 0.9]", "prevalence: [0.98, 0.99]"))
    changed = open_river(in_review)
    approve_definition(changed)
    assert not run_to(changed, "dataset", run="later")[-1]
    paper = document(open_river(in_review, writer=False), "aisdp", SYSTEM, str(before.index))
    assert any("in force is" in reason for reason in point(paper, "Module 2").stale)
    assert any(line.what.startswith("refused at data preparation") for line in point(paper, "Module 6").lines)


def test_people_and_machines_get_it_at_the_command_line(in_review: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    root = ["--root", str(in_review)]
    standing = json.loads(run(cli, ["dossier", SYSTEM, *root, "--json"]).output)["documents"]
    assert [one["document"] for one in standing] == list(KINDS) and all(one["gaps"] for one in standing)
    text = tmp_path / "part.txt"
    text.write_text("The officer sees the score.", encoding="utf-8")
    done = run(cli, ["sign-part", SYSTEM, "annex-iv/1(g)", "--text", str(text), "--as", OWNER, "--role", PEOPLE[OWNER], "--reason", REASON,
                     *root, "--json"])
    assert done.exit_code == 0 and json.loads(done.output)["admitted"], done.output
    page = tmp_path / "annex-iv.html"
    written_file = run(cli, ["dossier", SYSTEM, "annex-iv", "--format", "html", "--into", str(page), *root])
    assert written_file.exit_code == 0 and "points filled" in written_file.output
    text_of = page.read_text(encoding="utf-8")
    assert "<script" not in text_of and "HUMAN INPUT REQUIRED" in text_of and "The officer sees the score." in text_of
    assert not re.search(r"(src|href)=\"(?!#)", text_of) and "<style>" in text_of, "the file needs nothing else"
    machine = run(cli, ["dossier", SYSTEM, "annex-iv", "--json", *root])
    assert json.loads(machine.output)["points_total"] == len(ANNEX_IV)
    wrong = run(cli, ["dossier", SYSTEM, "annex-iv", "--release", "ffffff", *root])
    assert isinstance(wrong.exception, Misused)


def test_the_pages_show_them_and_say_json(reviewed_world: Path) -> None:
    visitor = Visitor(reviewed_world)
    listed = visitor.see("/documents")
    listed.check()
    for kind in KINDS:
        assert f"/documents/{SYSTEM}/{kind}" in listed.links
        visitor.see(f"/documents/{SYSTEM}/{kind}").check()
    assert visitor.get(f"/documents/{SYSTEM}/annex-iv.json").json()["document"] == "annex-iv"
    assert visitor.get(f"/documents/{SYSTEM}/nothing").status_code == 404


def test_of_very_many_deployment_steps_the_newest_stand_there_and_how_many_went_before(in_review: Path) -> None:
    river = open_river(in_review)
    for person in PEOPLE:
        decide(river, person)
    assert step(river, "approval")
    simulated_rollout(river, SYSTEM)
    g = Gathered(river, chosen(river, SYSTEM))
    whole, some = list(passages.deployments(g)), list(passages.deployments(g, limit=3))
    assert [line.what for line in whole] == ["rollout announced", "shadow started", "canary started", "full rollout"]
    assert some[0].what == "earlier steps" and some[0].said.startswith("1 more since") and some[1:] == whole[1:]
