"""A document that somebody filed is kept byte for byte with what it was made from; a newer one is said to differ, and a false one counts for nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from compliance_assets.cli import cli
from compliance_assets.errors import Misused, UntrustedEvidence
from compliance_assets.evidence import inbox
from compliance_assets.evidence import verify_bundle as vb
from compliance_assets.evidence.records import Statement
from compliance_assets.governance.deciding import Signer, revoke_decision, sign_statement
from compliance_assets.governance.documents import KINDS, document, filing
from compliance_assets.governance.documents.filing import CARD, FILABLE, Filed, differences, draft, file, filed
from compliance_assets.governance.documents.human_parts import FIELDS
from compliance_assets.governance.export import export
from compliance_assets.governance.ledger_view import line
from compliance_assets.governance.model_card import HEADINGS, TEMPLATE
from compliance_assets.pipeline import River, open_river
from compliance_assets.trust.canonical import Digest, canonical_json, digest_of, parse_canonical
from compliance_assets_tests.governance.test_documents import signed as written_part
from compliance_assets_tests.project import ENGINEER, GOVERNANCE, OWNER, REASON, SYSTEM, copied, signer
from compliance_assets_tests.unchecked import without
from compliance_assets_tests.web.test_passkeys_in_a_browser import browsing
from compliance_assets_tests.web.visitor import Visitor

Json = dict[str, Any]


def run(root: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["documents", *arguments, "--root", str(root)], catch_exceptions=code == 1)
    assert done.exit_code == code, done.output
    return " ".join(done.output.split()) if code == 0 else str(done.exception)


def put_on_file(river: River, kind: str = "annex-iv", person: str = OWNER) -> Filed:
    file(river, kind, SYSTEM, "", signer(river, person), REASON)
    admitted, refused = inbox.admit(river.archive)
    assert len(admitted) == 1 and not refused
    return filed(river.archive, SYSTEM)[0][0]


def audited(root: Path, folder: Path) -> vb.Bundle:
    made = export(open_river(root).archive, SYSTEM, folder)
    found = vb.Bundle(folder)
    found.verify(f"{made.size}:{made.root}", None)
    return found


# --------------------------------------------------------------------------------------------------------------- the way it goes


def test_a_version_is_filed_kept_and_told_apart_from_what_would_be_filed_now(in_review: Path, tmp_path: Path) -> None:
    river = open_river(in_review)
    made = draft(river, "annex-iv", SYSTEM)
    for kind in FILABLE:
        told = run(in_review, "file", SYSTEM, kind, "--as", OWNER, "--role", "technical_owner", "--reason", REASON)
        assert f"{OWNER} filed {kind} " in told
    river = open_river(in_review)
    found, refused = filed(river.archive, SYSTEM)
    assert sorted(one.kind for one in found) == sorted(FILABLE) and refused == ()
    first = next(one for one in found if one.kind == "annex-iv")
    assert (first.document, first.head.size, first.template, first.version) == (made.digest, made.content["ledger"]["size"], 2, 1)
    assert first.sources == len(made.sources) > 5 and line(first.record).said == "filed a document as technical_owner"
    assert run(in_review, "list", SYSTEM).count("a version filed now would say the same") == len(FILABLE)
    page = Visitor(in_review).see("/documents")
    page.check()
    assert page.text.count("would say the same") == len(FILABLE) and f"by {OWNER} as technical owner" in page.text
    # A person writes a part: the document would say something else, and another version is filed.
    written_part(river, "annex-iv/1(a)", "Persons who ask for a small loan; not for employment.")
    assert "would differ in point 1(a)" in run(in_review, "list", SYSTEM) and "would differ in point 1(a)" in Visitor(in_review).see("/documents").text
    second = put_on_file(open_river(in_review), person=GOVERNANCE)
    assert (second.version, second.record.body.person) == (2, GOVERNANCE)
    listed = json.loads(CliRunner().invoke(cli, ["documents", "list", SYSTEM, "--json", "--root", str(in_review)]).output)["filed"]
    assert [(one["version"], one["would_differ_in"]) for one in listed if one["document"] == "annex-iv"] == [(2, []), (1, None)]
    assert "a newer version is filed" in Visitor(in_review).see("/documents").text
    Visitor(in_review).see(f"/ledger/{second.record.index}").check()
    # The bundle holds both, byte for byte, and the auditor's one file checks bytes, head and sources.
    exported = export(open_river(in_review).archive, SYSTEM, tmp_path / "bundle")
    for one in (first, second):
        kept = (tmp_path / "bundle" / "artefacts" / "sha256" / one.document).read_bytes()
        assert kept == canonical_json(dict(one.content)) and json.loads(kept)["ledger"]["size"] == one.head.size
    told_by = subprocess.run((sys.executable, "-I", "-S", str(tmp_path / "bundle" / "verify.py"), str(tmp_path / "bundle"), "--head",
                              f"{exported.size}:{exported.root}", "--json"), capture_output=True, text=True, timeout=120, cwd="/")
    body = json.loads(told_by.stdout)
    assert told_by.returncode == 0 and body["verified"] and body["counts"]["filed documents: bytes, ledger head and sources"] == 1 + len(FILABLE), told_by.stdout
    assert f"artefacts/sha256/{first.document}" in body["verified_files"] and not [note for note in body["notes"] if "entry" in note]


def test_what_says_the_same_is_not_filed_twice_and_what_was_taken_back_is_filed_as_the_next(in_review: Path, tmp_path: Path) -> None:
    river = open_river(in_review)
    first = put_on_file(river)
    assert "says the same already" in run(in_review, "file", SYSTEM, "annex-iv", "--as", OWNER, "--role", "technical_owner", "--reason", REASON, code=1)
    revoke_decision(river, SYSTEM, str(first.record.digest), signer(river, OWNER), "Filed before the legal advisor had read point 8.")
    inbox.admit(river.archive)
    assert filed(river.archive, SYSTEM) == ((), ()) and "Nobody has filed" in run(in_review, "list", SYSTEM)
    again = put_on_file(river)
    assert again.version == 2 and parse_canonical(river.archive.artefacts.get_bytes(Digest.parse(again.record.body.shown)))["previous"] == first.record.digest
    found = audited(in_review, tmp_path / "bundle")
    assert not found.problems and [note for note in found.notes if f"took back annex-iv version 1, filed in entry {first.record.index}" in note]


def test_who_may_not_file_and_what_there_is_not_are_refused_before_anything_is_signed(in_review: Path) -> None:
    river = open_river(in_review)
    with pytest.raises(Misused, match="Documents are filed by technical_owner, governance_lead, not by ml_engineer"):
        file(river, "annex-iv", SYSTEM, "", signer(river, ENGINEER, "ml_engineer"), REASON)
    with pytest.raises(Misused, match="There is no document"):
        file(river, "brochure", SYSTEM, "", signer(river, OWNER), REASON)
    with pytest.raises(Misused, match="names no releases"):
        file(river, "annex-iv", SYSTEM, "123456", signer(river, OWNER), REASON)
    with pytest.raises(Misused, match="in your own words"):
        file(river, "annex-iv", SYSTEM, "", signer(river, OWNER), "looks good to me")
    assert not inbox.waiting(river.home.inbox)


# ------------------------------------------------------------------------------------------- signed all the same, by a real person

Bend = Callable[[River, Json, Json], None]


def other_head(river: River, note: Json, content: Json) -> None:
    note["ledger"] = content["ledger"] = {**note["ledger"], "root": "0" * 64}


def head_to_come(river: River, note: Json, content: Json) -> None:
    note["ledger"] = content["ledger"] = {"size": river.archive.ledger.size + 5, "root": "0" * 64}


def invented_source(river: River, note: Json, content: Json) -> None:
    note["sources"][0]["evidence_id"] = "0" * 64


def later_source(river: River, note: Json, content: Json) -> None:
    note["sources"][0]["ledger_index"] = note["ledger"]["size"]


def of_another_candidate(river: River, note: Json, content: Json) -> None:
    note["candidate"] += 1


def of_another_system(river: River, note: Json, content: Json) -> None:
    note["system"] = content["system"] = "another"


FALSE: dict[str, tuple[Bend, str, str, tuple[str, ...]]] = {
    "a filed document with a head that never was": (
        other_head, "this ledger never had the head that it names", "never had the head of", ("check_filed: this ledger never had the head of",)),
    "a filed document with a head to come": (head_to_come, "did not stand before it", "never had the head of", ()),
    "a filed document that names an invented source": (
        invented_source, "is not what it says that it was read from", "is not what it says that it was read from",
        ("_held: is not what it says that it was read from", "check_filed: is not what it says that it was read from")),
    "a filed document that names a source from after its head": (
        later_source, "is not what it says that it was read from", "is not what it says that it was read from", ()),
    "a filed document whose note is about another candidate": (
        of_another_candidate, "another document, candidate or head", "another document, candidate or head",
        ("_held: its note says another document, candidate or head than the document",
         "check_filed: its note says another document, candidate or head than the document")),
    "a filed document of another system": (of_another_system, "none of a filed document of this system", "its note is none of this document", ()),
}
"""What is wrong, how our readers and the auditor's verifier refuse it, and the checks each of which alone holds it off for its own reader."""


def hand_made(river: River, bend: Bend, **changes: object) -> Statement:
    """A filing as `file` makes it, bent, and signed with the person's own key all the same."""
    statement, path = file(river, "annex-iv", SYSTEM, "", signer(river, OWNER), REASON)
    path.unlink()
    note = json.loads(river.archive.artefacts.get_bytes(Digest.parse(statement.body.shown)))
    content = json.loads(river.archive.artefacts.get_bytes(Digest.parse(note["content"])))
    bend(river, note, content)
    note["content"] = str(river.archive.artefacts.put_bytes(canonical_json(content)))
    digest = river.archive.artefacts.put_bytes(canonical_json({**note, **changes}))
    made = Statement((("filed-document", digest), ("document", Digest.parse(note["content"]))), statement.body.model_copy(update={"shown": str(digest)}))
    sign_statement(river, made, signer(river, OWNER))
    admitted, refused = inbox.admit(river.archive)
    assert len(admitted) == 1 and not refused
    return made


@pytest.mark.parametrize("name", FALSE)
def test_a_false_filing_counts_for_nobody(in_review: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    bend, ours, theirs, checks = FALSE[name]
    made = hand_made(open_river(in_review), bend)
    river = open_river(in_review)
    (), ((record, why),) = filed(river.archive, SYSTEM)
    assert record.digest == made.digest and ours in why and why in Visitor(in_review).see("/documents").text and why in run(in_review, "list", SYSTEM)
    found = audited(in_review, tmp_path / "bundle")
    assert [one for one in found.problems if one.startswith(f"entry {record.index} (filed document)") and theirs in one], found.problems
    assert put_on_file(river).version == 1, "what does not count takes no version"
    for number, (function, _, refusal) in enumerate(check.partition(": ") for check in checks):
        place: Any = vb.Bundle if hasattr(vb.Bundle, function) else filing
        with monkeypatch.context() as patched:
            patched.setattr(place, function, without(getattr(place, function), refusal))
            believed = (not audited(in_review, tmp_path / f"unchecked-{number}").problems if place is vb.Bundle
                        else made.digest in {one.record.digest for one in filed(open_river(in_review).archive, SYSTEM)[0]})
        assert believed, f"{function} alone holds it off"


def test_a_filing_of_a_role_that_files_nothing_or_out_of_order_is_noted_and_counts_for_nothing(in_review: Path, tmp_path: Path) -> None:
    river = open_river(in_review)
    ahead = hand_made(river, lambda *_: None, version=7)
    theirs = Statement(ahead.subjects, ahead.body.model_copy(update={"person": ENGINEER, "role": "ml_engineer"}))
    sign_statement(river, theirs, signer(river, ENGINEER, "ml_engineer"))
    inbox.admit(river.archive)
    found, refused = filed(river.archive, SYSTEM)
    assert not found and [why for _, why in refused] == ["it does not follow version 0", "the role ml_engineer files no documents"]
    told = audited(in_review, tmp_path / "bundle")
    assert not told.problems and "filed documents: bytes, ledger head and sources" not in told.counts
    assert [note for note in told.notes if "does not follow version 0" in note] and [note for note in told.notes if "the role ml_engineer files no" in note]


def test_bytes_that_changed_or_are_gone_are_no_filed_document(in_review: Path, tmp_path: Path) -> None:
    one = put_on_file(open_river(in_review))
    bundle = tmp_path / "bundle"
    made = export(open_river(in_review).archive, SYSTEM, bundle)
    for number, spoil in enumerate((lambda path: path.write_bytes(path.read_bytes().replace(b"small_lender", b"large_lender")), Path.unlink)):
        folder = Path(shutil.copytree(bundle, tmp_path / f"spoilt-{number}"))
        spoil(folder / "artefacts" / "sha256" / one.document)
        found = vb.Bundle(folder)
        found.verify(f"{made.size}:{made.root}", None)
        assert (found.problems and "filed documents: bytes, ledger head and sources" not in found.counts) or number == 0
    path = open_river(in_review).archive.artefacts.open_path(one.document)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b" ")
    (), ((record, _),) = filed(open_river(in_review).archive, SYSTEM)
    assert record.digest == one.record.digest


def test_a_person_must_sign_it_themselves(in_review: Path) -> None:
    river = open_river(in_review)
    statement, path = file(river, "aisdp", SYSTEM, "", signer(river, OWNER), REASON)
    path.unlink()
    with pytest.raises(UntrustedEvidence):
        sign_statement(river, statement, Signer(OWNER, "technical_owner", signer(river, GOVERNANCE).key))


# ------------------------------------------------------------------------------------------------------------------- templates


TEMPLATES = {"annex-iv": (2, "4aefd98300cb"), "aisdp": (1, "9aa5a7dd0570"), "instructions": (2, "c9bead96cd38"), "datasheet": (1, "606fddff87e8"), CARD: (1, "1fe1d55e1c28")}


def test_a_template_that_asks_for_something_else_has_another_version(reviewed_world: Path) -> None:
    """Filed documents name the version of their template: whoever changes what is asked raises it, and then this table."""
    river = open_river(reviewed_world, writer=False)
    said = {}
    for kind in KINDS:
        asked = [[one.number, one.asks, one.fill] for one in document(river, kind, SYSTEM).points]
        said[kind] = (KINDS[kind].template, digest_of([asked, {name: field.asks for name, field in FIELDS.items() if name.startswith(f"{kind}/")}])[:12])
    said[CARD] = (TEMPLATE, digest_of(list(HEADINGS))[:12])
    assert said == TEMPLATES


def test_a_document_of_another_release_or_template_is_said_to_be_one(in_review: Path) -> None:
    river = open_river(in_review)
    one, now = put_on_file(river), draft(river, "annex-iv", SYSTEM)
    other = filing.Draft(now.kind, now.template + 1, {**now.content, "candidate": 3, "points": now.content["points"][1:]}, now.sources)
    assert differences(one, now) == ()
    assert differences(one, other) == ("the template (version 2, now 3)", f"the candidate (#{one.candidate}, now #3)", f"point {now.content['points'][0]['point']}")


@pytest.mark.slow
def test_filed_documents_in_chromium(reviewed_world: Path, tmp_path: Path) -> None:
    root = copied(reviewed_world, tmp_path / "world")
    put_on_file(open_river(root))
    written_part(open_river(root), "annex-iv/1(a)", "Persons who ask for a small loan; not for employment.")
    with browsing(root, tmp_path / "profile") as browser:
        browser.with_token("/documents")
        for scheme in ("light", "dark"):
            browser.page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            browser.open("/documents")
            assert "would differ" in browser.said() and browser.violations() == []
        browser.check_quiet()
