"""Definitions and organisation.yaml approved on their page with passkeys: what an SSH key would sign, believed by stages and by the auditor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from compliance_assets.cli import cli
from compliance_assets.errors import ComplianceError, UntrustedEvidence
from compliance_assets.evidence import inbox
from compliance_assets.evidence import verify_bundle as vb
from compliance_assets.governance.deciding import decide_definition, definition_statement, trust_policy_statement
from compliance_assets.governance.export import export
from compliance_assets.governance.proposing import propose_definition
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.organisation import render_organisation
from compliance_assets.trust.canonical import canonical_json
from compliance_assets.trust.passkeys import assertion_by
from compliance_assets_tests.authenticator import SoftPasskey
from compliance_assets_tests.evidence.forging import Forger
from compliance_assets_tests.project import ENGINEER, GOVERNANCE, OWNER, PEOPLE, REASON, SYSTEM, copied, run_to, signer, step
from compliance_assets_tests.web.approver import Approver, enrolled, hidden, statement_bytes
from compliance_assets_tests.web.test_passkeys_in_a_browser import browsing, list_passkeys

KEYS = {OWNER: SoftPasskey("ES256", counter=1), GOVERNANCE: SoftPasskey("EdDSA"), ENGINEER: SoftPasskey("ES256")}
OF_SYSTEM, OF_PEOPLE = f"/definitions/{SYSTEM}", "/definitions"


@pytest.fixture(scope="module")
def passkey_world(founded_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copied(founded_world, tmp_path_factory.mktemp("defined") / "world")
    enrolled(root, KEYS)
    return root


@pytest.fixture
def world(passkey_world: Path, tmp_path: Path) -> Path:
    return copied(passkey_world, tmp_path / "world")


def weakened(root: Path, to: str = "0.70", propose: bool = True) -> River:
    """A bound is lowered on disk; and that definition put on record, if asked for."""
    path = root / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("at_least: 0.75, judged_on: lower, because: below", f"at_least: {to}, judged_on: lower, because: below"))
    river = open_river(root)
    if propose:
        propose_definition(river, SYSTEM, ENGINEER)
    return river


def renamed(root: Path, name: str = "Larger Lender") -> River:
    """organisation.yaml is changed on disk and put on record by the command for it."""
    river = open_river(root)
    (root / "organisation.yaml").write_text(render_organisation(river.organisation.model_copy(update={"name": name})))
    done = CliRunner().invoke(cli, ["definition", "propose", "--trust-policy", "--as", ENGINEER, "--root", str(root)], catch_exceptions=False)
    assert done.exit_code == 0 and "is on record" in done.output
    return open_river(root)


def somebody(world: Path, person: str = OWNER, app: object = None) -> Approver:
    one = Approver(world, KEYS[person], app=app)
    assert one.sign_in().status_code == 303
    return one


def prepare(one: Approver, page: str, role: str = "technical_owner", **changes: str) -> httpx.Response:
    seen = one.see(page)
    form = {"role": role, "reason": REASON, "shown": hidden(seen, "shown"), "form": hidden(seen, "form"), **changes}
    return one.ask("POST", f"{page}/approve", form)


def waiting(world: Path) -> int:
    return len(inbox.waiting(open_river(world).home.inbox))


# --------------------------------------------------------------------------------------------------------------- the way it goes


def test_two_people_approve_a_definition_with_passkeys_and_stages_and_the_auditor_go_by_it(world: Path, tmp_path: Path) -> None:
    river = weakened(world)
    digest, before = river.definition(SYSTEM).digest, river.archive.definition_in_force(SYSTEM)
    for person, role in PEOPLE.items():
        one = somebody(world, person)
        assert "weakens" in one.see(OF_SYSTEM) and open_river(world).archive.definition_in_force(SYSTEM) == before
        page = prepare(one, OF_SYSTEM, role)
        assert page.status_code == 200 and "weakens, SIGNIFICANT" in page.text and str(digest) in page.text and str(before) in page.text
        done = one.sign(page.text)
        assert (done.status_code, done.headers["location"]) == (303, OF_SYSTEM)
        assert "your approval has arrived" in one.see(OF_SYSTEM)
        (record,), refused = inbox.admit(open_river(world).archive)
        assert not refused and assertion_by(record.envelope, person) is not None
        assert ("approved, in force" if person == GOVERNANCE else "you have approved it") in one.see(OF_SYSTEM)
    river = open_river(world)
    assert river.archive.definition_in_force(SYSTEM) == digest
    # Acting stages go by the definition in force: registration acts, and its record says so.
    assert all(run_to(river, "model_registration"))
    assert river.archive.made_by(SYSTEM, "model_registration")[-1].body.definition == digest
    bundle = tmp_path / "bundle"
    made = export(river.archive, SYSTEM, bundle)
    told = subprocess.run((sys.executable, "-I", "-S", str(bundle / "verify.py"), str(bundle), "--head", f"{made.size}:{made.root}", "--json"),
                          capture_output=True, text=True, timeout=120, cwd="/")
    assert told.returncode == 0 and json.loads(told.stdout)["verified"], told.stdout
    # What an insider makes of it, every machine key at hand: the same passkey's signature under an approval of another definition.
    forger = Forger(bundle, world / ".compliance" / "keys")
    said = [one for one in forger.decisions("definition") if one["predicate"]["definition"] == str(digest)][-1]
    genuine, index = json.loads(forger.kept[id(said)]), forger.entries.index(said)
    said["subject"][0]["digest"]["sha256"] = str(before)
    folder, _, policy = forger.write(tmp_path / "forged")
    entry = folder / f"entries/{index}.json"
    entry.write_bytes(canonical_json({**genuine, "payload": json.loads(entry.read_bytes())["payload"]}))
    found = vb.Bundle(folder)
    found.verify(None, policy)
    assert f"entry {index} (decision): the passkey signed other bytes than these" in found.problems, found.problems


def test_a_stage_does_not_act_on_what_only_one_of_two_people_approved(world: Path) -> None:
    river = weakened(world)
    one = somebody(world)
    assert one.sign(prepare(one, OF_SYSTEM).text).status_code == 303
    inbox.admit(river.archive)
    run_to(open_river(world), "model_evaluation")
    with pytest.raises(ComplianceError, match="definition"):
        step(open_river(world), "model_registration")


def test_two_people_approve_organisation_yaml_with_passkeys_and_it_decides_who_counts(world: Path, tmp_path: Path) -> None:
    river = renamed(world)
    digest = river.organisation.digest
    for person, role in PEOPLE.items():
        one = somebody(world, person)
        assert "Larger Lender" in one.see(OF_PEOPLE) and river.archive.in_force().digest != digest
        page = prepare(one, OF_PEOPLE, role)
        assert page.status_code == 200 and "Approve organisation.yaml?" in page.text and str(digest) in page.text
        assert one.sign(page.text).headers["location"] == OF_PEOPLE
        (_,), refused = inbox.admit(open_river(world).archive)
        assert not refused
    river = open_river(world)
    assert river.archive.in_force().digest == digest and river.archive.require_trust_policy()
    assert "what is on disk does not count" not in one.see(OF_PEOPLE)
    made = export(river.archive, SYSTEM, tmp_path / "bundle")
    audited = vb.Bundle(tmp_path / "bundle")
    audited.verify(f"{made.size}:{made.root}", None)
    assert not audited.problems and audited.reigns[-1][2] == digest


@pytest.mark.parametrize(("change", "page", "make"), [
    (weakened, OF_SYSTEM, lambda river: definition_statement(river, SYSTEM, OWNER, "technical_owner", "approve", REASON, opened_seconds=0)),
    (renamed, OF_PEOPLE, lambda river: trust_policy_statement(river, OWNER, "technical_owner", "approve", REASON, opened_seconds=0))])
def test_a_passkey_and_an_ssh_key_sign_the_same_statement(world: Path, change: Callable[[Path], River], page: str, make: Callable[[River], object]) -> None:
    river = change(world)
    shown = json.loads(statement_bytes(prepare(somebody(world), page).text).split(b" ", 4)[4])
    ours = json.loads(make(river).payload())  # type: ignore[attr-defined]
    for statement in (shown, ours):
        for name in ("issued", "nonce", "opened_seconds"):
            statement["predicate"].pop(name)
    assert shown == ours


# ------------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("change", "page"), [(weakened, OF_SYSTEM), (renamed, OF_PEOPLE)])
@pytest.mark.parametrize(("changes", "status", "said"), [
    ({"reason": "ok"}, 409, "at least 20 characters"), ({"role": "governance_lead"}, 409, "is not yours"), ({"shown": "0" * 64}, 403, "not made for you"),
    ({"form": ""}, 403, "not made for you")])
def test_a_form_that_is_not_whole_signs_nothing_and_loses_nothing(world: Path, change: Callable[[Path], River], page: str, changes: dict[str, str], status: int,
                                                                  said: str) -> None:
    change(world)
    refused = prepare(somebody(world), page, **changes)
    assert refused.status_code == status and said in refused.text and not waiting(world)
    assert status == 403 or f'{changes.get("reason", REASON)}</textarea>' in refused.text


def test_what_changed_since_it_was_opened_is_read_again(world: Path) -> None:
    weakened(world)
    one = somebody(world)
    seen = one.see(OF_SYSTEM)
    stale = {"role": "technical_owner", "reason": REASON, "shown": hidden(seen, "shown"), "form": hidden(seen, "form")}
    path = world / "systems" / SYSTEM / "system.yaml"
    path.write_text(path.read_text().replace("at_least: 0.70", "at_least: 0.10"))
    answer = one.ask("POST", f"{OF_SYSTEM}/approve", stale)
    assert answer.status_code == 409 and "has changed since you opened it" in answer.text and not waiting(world)


def test_what_is_not_on_record_or_in_force_already_is_not_signed(world: Path) -> None:
    one = somebody(world)
    assert 'name="reason"' not in one.see(OF_SYSTEM) and 'name="reason"' not in one.see(OF_PEOPLE)
    river = weakened(world, propose=False)
    assert "it is not on record yet: compliance definition propose" in one.see(OF_SYSTEM) and 'name="reason"' not in one.see(OF_SYSTEM)
    done = CliRunner().invoke(cli, ["definition", "propose", SYSTEM, "--as", ENGINEER, "--root", str(world), "--json"], catch_exceptions=False)
    assert json.loads(done.output)["proposed"] == river.definition(SYSTEM).digest and 'name="reason"' in one.see(OF_SYSTEM)
    seen = one.see(OF_SYSTEM)
    stale = {"role": "technical_owner", "reason": REASON, "shown": hidden(seen, "shown"), "form": hidden(seen, "form")}
    decide_definition(open_river(world), SYSTEM, signer(river, OWNER), "approve", REASON, opened_seconds=1)
    inbox.admit(river.archive)
    again = one.ask("POST", f"{OF_SYSTEM}/approve", stale)
    assert again.status_code == 409 and "Nothing is asked of you: you have approved it" in again.text


def test_an_unknown_person_proposes_nothing(world: Path) -> None:
    river = weakened(world, propose=False)
    size = river.archive.ledger.size
    done = CliRunner().invoke(cli, ["definition", "propose", SYSTEM, "--as", "nobody", "--root", str(world)])
    assert done.exit_code == 1 and isinstance(done.exception, UntrustedEvidence) and open_river(world).archive.ledger.size == size


def test_whose_role_approves_no_definition_is_shown_no_form_and_a_definition_waits_for_the_people_in_force(world: Path) -> None:
    weakened(world)
    owner = somebody(world)
    seen = owner.see(OF_SYSTEM)
    engineer = somebody(world, ENGINEER, app=owner.app)
    assert "none of your roles approves it" in engineer.see(OF_SYSTEM)
    form = {"role": "ml_engineer", "reason": REASON, "shown": hidden(seen, "shown"), "form": hidden(seen, "form")}
    assert engineer.ask("POST", f"{OF_SYSTEM}/approve", form).status_code == 403, "another session's token"
    renamed(world)
    draft = prepare(owner, OF_SYSTEM)
    assert draft.status_code == 409 and "is not the trust policy in force" in draft.text and not waiting(world)


def test_one_definitions_form_approves_nothing_else_and_a_token_signs_nothing(world: Path) -> None:
    weakened(world)
    renamed(world)
    one = somebody(world)
    forms = {page: {"role": "technical_owner", "reason": REASON, "shown": hidden(one.see(page), "shown"), "form": hidden(one.see(page), "form")}
             for page in (OF_SYSTEM, OF_PEOPLE)}
    assert one.ask("POST", f"{OF_SYSTEM}/approve", forms[OF_PEOPLE]).status_code == 403
    assert one.ask("POST", f"{OF_PEOPLE}/approve", {**forms[OF_SYSTEM], "system": SYSTEM}).status_code == 403
    reader = Approver(world, KEYS[OWNER], app=one.app, token=one.token)
    reader.cookie = reader.ask("POST", "/guard/login", {"token": one.token}).headers["set-cookie"].split(";")[0]
    assert 'name="reason"' not in reader.see(OF_SYSTEM) and reader.ask("POST", f"{OF_SYSTEM}/approve", forms[OF_SYSTEM]).status_code == 403


@pytest.mark.slow
def test_a_person_approves_a_definition_and_organisation_yaml_in_chromium(founded_world: Path, tmp_path: Path) -> None:
    root = copied(founded_world, tmp_path / "world")
    with browsing(root, tmp_path / "profile") as browser:
        browser.authenticator()
        browser.with_token("/passkeys")
        list_passkeys(root, {OWNER: browser.enrol(OWNER)})
        river = weakened(root)
        browser.leave()
        browser.sign_in()
        for page, name, digest in ((OF_SYSTEM, "definition", river.definition(SYSTEM).digest), (OF_PEOPLE, "trust-policy", "")):
            digest = digest or renamed(root).organisation.digest
            browser.open(page)
            assert browser.violations() == []
            browser.page.run("document.getElementById('reason').value = ' '.repeat(30)")
            browser.press("form.decide button", "document.querySelector('[role=alert]')")
            assert "at least 20 characters" in browser.said() and browser.violations() == []
            browser.page.run(f"document.getElementById('reason').value = {REASON!r}")
            browser.press("form.decide button", "document.querySelector('#statement')")
            signed = json.loads(browser.page.run("document.getElementById('statement').textContent"))
            assert signed["subject"] == [{"name": name, "digest": {"sha256": digest}}] and browser.violations() == []
            browser.press("form[data-passkey] button", f"location.pathname === {page!r} && document.querySelector('h1')")
            assert "your approval has arrived" in browser.said()
            admitted, refused = inbox.admit(open_river(root).archive)
            assert len(admitted) == 1 and not refused
        browser.check_quiet()
