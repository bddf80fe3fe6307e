"""A person decides with a passkey: what they sign is what an SSH key would sign, and every other way of using the pages is refused."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compliance_assets.evidence import inbox
from compliance_assets.governance.deciding import release_statement
from compliance_assets.governance.export import export
from compliance_assets.pipeline import open_river
from compliance_assets.policy.browsers import DeclaredPages, TrustedProxy
from compliance_assets.policy.organisation import Organisation, load_organisation, render_organisation
from compliance_assets.trust.passkeys import assertion_by
from compliance_assets_tests.authenticator import SoftPasskey
from compliance_assets_tests.project import ENGINEER, GOVERNANCE, OWNER, PEOPLE, REASON, SYSTEM, copied, decide, step
from compliance_assets_tests.web.approver import REVIEW, Approver, amended, enrolled, fields, hidden, statement_bytes

KEYS = {OWNER: SoftPasskey("ES256", counter=1), GOVERNANCE: SoftPasskey("EdDSA")}


@pytest.fixture(scope="module")
def passkey_world(reviewed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release waits for two people, each of whom has enrolled a passkey."""
    root = copied(reviewed_world, tmp_path_factory.mktemp("passkeys") / "world")
    enrolled(root, KEYS)
    return root


@pytest.fixture
def world(passkey_world: Path, tmp_path: Path) -> Path:
    return copied(passkey_world, tmp_path / "world")


def retired(now: Organisation) -> dict[str, object]:
    """Every passkey's use has ended."""
    ended = {person.id: tuple(key.model_copy(update={"valid_until": "2020-01-02T00:00:00Z"}) for key in person.passkeys) for person in now.people}
    return {"people": tuple(person.model_copy(update={"passkeys": ended[person.id]}) for person in now.people)}


def approver(world: Path, person: str = OWNER) -> Approver:
    one = Approver(world, KEYS[person])
    assert one.sign_in().status_code == 303
    return one


# --------------------------------------------------------------------------------------------------------------- the way it goes


def test_two_people_approve_with_passkeys_and_the_approval_stage_admits_it(world: Path) -> None:
    for person, role in PEOPLE.items():
        one = approver(world, person)
        prepared = one.prepare(role=role)
        assert prepared.status_code == 200 and "Nothing is recorded yet" in prepared.text
        answer = one.sign(prepared.text)
        assert answer.status_code == 303 and answer.headers["location"] == REVIEW
        page = one.see()
        assert "signed an approval" in page and "waits to be taken into the ledger" in page
    river = open_river(world)
    admitted, refused = inbox.admit(river.archive)
    assert len(admitted) == 2 and not refused
    for record in admitted:
        kept = assertion_by(record.envelope, record.body.person)
        assert kept is not None and kept.credential == KEYS[record.body.person].credential
    assert step(open_river(world), "pre_deployment_approval")


def test_a_passkey_and_an_ssh_key_sign_the_same_statement(world: Path) -> None:
    one = approver(world)
    river = open_river(world)
    decide(river, GOVERNANCE)
    shown = json.loads(statement_bytes(one.prepare().text).split(b" ", 4)[4])
    ours = json.loads(release_statement(river, SYSTEM, OWNER, "technical_owner", "approve", REASON, opened_seconds=0).payload())
    for statement in (shown, ours):
        for name in ("issued", "expires", "nonce", "opened_seconds"):
            statement["predicate"].pop(name)
    assert shown == ours


@pytest.mark.parametrize(("decision", "until", "said"), [("reject", "", "signed a rejection"), ("defer", "2099-01-31", "signed a deferral")])
def test_a_rejection_and_a_deferral_carry_their_reason_and_date(world: Path, decision: str, until: str, said: str) -> None:
    one = approver(world)
    assert one.sign(one.prepare(decision, until=until).text).status_code == 303
    assert said in one.see()
    (record,), _ = inbox.admit(open_river(world).archive)
    assert record.body.decision == decision and record.body.due == until and record.body.rationale == REASON


def test_how_long_the_review_was_open_is_counted_by_the_pages(world: Path) -> None:
    now = [time.time()]
    one = Approver(world, KEYS[OWNER], clock=lambda: now[0])
    one.sign_in()
    page = one.see()
    now[0] += 95
    form = {"decision": "approve", "role": "technical_owner", "reason": REASON, "shown": hidden(page, "shown"), "form": hidden(page, "form")}
    prepared = one.ask("POST", f"/systems/{SYSTEM}/decide", form)
    assert json.loads(statement_bytes(prepared.text).split(b" ", 4)[4])["predicate"]["opened_seconds"] == 95


# ------------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("changes", "status", "said"), [
    ({"reason": "ok"}, 409, "at least 20 characters"), ({"reason": ""}, 409, "at least 20 characters"), ({"decision": "deploy"}, 409, "approve, reject or defer"),
    ({"role": "governance_lead"}, 409, "is not yours"), ({"decision": "defer"}, 409, "needs a date"), ({"decision": "defer", "until": "2020-01-01"}, 409, "is past"),
    ({"shown": "0" * 64}, 403, "not made for you"), ({"form": ""}, 403, "not made for you"), ({"form": "1.x"}, 403, "not made for you")])
def test_a_form_that_is_not_whole_signs_nothing(world: Path, changes: dict[str, str], status: int, said: str) -> None:
    answer = approver(world).prepare(**{"decision": "approve", **changes})
    assert answer.status_code == status and said in answer.text
    assert not inbox.waiting(open_river(world).home.inbox)


def test_a_review_that_changed_since_it_was_opened_is_read_again(world: Path) -> None:
    one = approver(world)
    page = one.see()
    decide(open_river(world), GOVERNANCE)
    inbox.admit(open_river(world).archive)
    form = {"decision": "approve", "role": "technical_owner", "reason": REASON, "shown": hidden(page, "shown"), "form": hidden(page, "form")}
    answer = one.ask("POST", f"/systems/{SYSTEM}/decide", form)
    assert answer.status_code == 409 and "has changed since you opened it" in answer.text


def test_an_assertion_is_handed_in_once(world: Path) -> None:
    one = approver(world)
    form = one.signed(one.prepare().text)
    assert one.ask("POST", "/decisions", form).status_code == 303
    again = one.ask("POST", "/decisions", form)
    assert again.status_code == 409 and "does not wait for a signature" in again.text
    assert len(inbox.waiting(open_river(world).home.inbox)) == 1


def test_of_two_tabs_the_later_statement_waits_and_a_second_decision_is_refused(world: Path) -> None:
    one = approver(world)
    page = one.see()
    stale = {"decision": "approve", "role": "technical_owner", "reason": REASON, "shown": hidden(page, "shown"), "form": hidden(page, "form")}
    first, second = one.prepare().text, one.prepare("reject").text
    assert one.sign(first).status_code == 409
    second = one.prepare("reject").text
    assert one.sign(second).status_code == 303
    page = one.see()
    assert "waits to be taken into the ledger" in page and 'name="decision"' not in page
    answer = one.ask("POST", f"/systems/{SYSTEM}/decide", stale)
    assert answer.status_code == 409 and "Nothing more is asked of you" in answer.text


@pytest.mark.parametrize(("bent", "said"), [
    ({"flags": 0x01}, "did not verify who was there"), ({"origin": "http://localhost:3101"}, "not one of"), ({"rp": "evil.example"}, "not made for"),
    ({"crossOrigin": True}, "frame")])
def test_an_assertion_that_is_not_as_it_must_be_signs_nothing(world: Path, bent: dict[str, object], said: str) -> None:
    one = approver(world)
    answer = one.sign(one.prepare().text, **bent)
    assert answer.status_code == 409 and said in answer.text
    assert not inbox.waiting(open_river(world).home.inbox)


def test_a_statement_is_signed_by_the_passkey_of_the_person_whom_it_names(world: Path) -> None:
    one = approver(world)
    for other in (KEYS[GOVERNANCE], SoftPasskey(credential=KEYS[OWNER].credential)):
        answer = one.sign(one.prepare().text, key=other)
        assert answer.status_code == 409 and ("not one that organisation.yaml gives" in answer.text or "does not fit" in answer.text)


def test_what_was_signed_for_one_statement_does_not_sign_another(world: Path) -> None:
    one = approver(world)
    old = one.signed(one.prepare().text)
    new = one.prepare("reject").text
    answer = one.ask("POST", "/decisions", {**old, "statement": hidden(new, "statement"), "form": hidden(new, "form")})
    assert answer.status_code == 409 and "over other bytes" in answer.text


def test_another_session_cannot_hand_in_what_was_prepared_in_this_one(world: Path) -> None:
    one = approver(world)
    form = one.signed(one.prepare().text)
    other = Approver(world, KEYS[GOVERNANCE], app=one.app)
    other.sign_in()
    assert other.ask("POST", "/decisions", form).status_code == 403
    nobody = Approver(world, KEYS[OWNER], app=one.app)
    assert nobody.ask("POST", "/decisions", form).status_code == 401


def test_a_statement_waits_ten_minutes(world: Path) -> None:
    now = [time.time()]
    one = Approver(world, KEYS[OWNER], clock=lambda: now[0])
    one.sign_in()
    page = one.prepare().text
    now[0] += 601
    assert one.sign(page).status_code == 409


def test_another_pages_form_changes_nothing(world: Path) -> None:
    """Cross-site request forgery: the cookie alone is worth nothing."""
    one = approver(world)
    page = one.see()
    form = {"decision": "approve", "role": "technical_owner", "reason": REASON, "shown": hidden(page, "shown"), "form": hidden(page, "form")}
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"origin": ""}, {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"},
                    {"content_type": "text/plain"}, {"content_type": "application/json"}):
        assert one.ask("POST", f"/systems/{SYSTEM}/decide", form, **headers).status_code == 403, headers
    other = Approver(world, KEYS[GOVERNANCE], app=one.app)
    other.sign_in()
    assert one.ask("POST", f"/systems/{SYSTEM}/decide", {**form, "form": hidden(other.see(), "form")}).status_code == 403
    assert not inbox.waiting(open_river(world).home.inbox)


def test_a_token_reads_and_signs_nothing(world: Path) -> None:
    one = Approver(world, KEYS[OWNER])
    entered = one.ask("POST", "/guard/login", {"token": one.token})
    one.cookie = entered.headers["set-cookie"].split(";")[0]
    page = one.see()
    assert 'name="decision"' not in page and "Sign in with a passkey to decide here" in page
    for form in ({"decision": "approve"}, {"statement": "0" * 64}):
        assert one.ask("POST", f"/systems/{SYSTEM}/decide" if "decision" in form else "/decisions", form).status_code == 403
    assert one.ask("POST", f"/systems/{SYSTEM}/decide", {"decision": "approve"}, cookie="", authorization=f"Bearer {one.token}").status_code == 403


def test_who_launched_the_run_may_not_approve_but_may_reject(world: Path) -> None:
    names = {OWNER: ("engineer",), ENGINEER: ("someone-else",)}
    root = world
    amended(root, lambda now: {"people": tuple(person.model_copy(update={"launchers": names[person.id]} if person.id in names else {})
                                               for person in now.people)})
    one = approver(root)
    page = one.see()
    assert "Your approval would not count: they launched a run of this release" in page and re.search(r'value="approve" required disabled', page)
    answer = one.prepare("approve")
    assert answer.status_code == 409 and "separation of duties" in answer.text
    assert one.sign(one.prepare("reject").text).status_code == 303


# -------------------------------------------------------------------------------------------------------------------- sign-in


def test_a_session_of_a_passkey_expires_and_ends_with_the_passkey(world: Path) -> None:
    now = [time.time()]
    one = Approver(world, KEYS[OWNER], clock=lambda: now[0])
    one.sign_in()
    assert f"<strong>{OWNER}</strong>" in one.see() and "approver" in one.see()
    now[0] += 8 * 3600 + 1
    assert one.ask("GET", REVIEW).status_code == 401
    now[0] -= 8 * 3600
    assert one.ask("GET", REVIEW).status_code == 200
    amended(world, retired)
    assert one.ask("GET", REVIEW).status_code == 401
    assert one.sign_in().status_code == 401


def test_a_sign_in_is_used_once_and_soon(world: Path) -> None:
    now = [time.time()]
    one = Approver(world, KEYS[OWNER], clock=lambda: now[0])
    question = hidden(one.ask("GET", "/guard/login").text, "question")
    form = {"question": question, **fields(one.key.sign(question.encode()))}
    assert one.ask("POST", "/guard/login", form).status_code == 303
    assert one.ask("POST", "/guard/login", form).status_code == 401
    late = hidden(one.ask("GET", "/guard/login").text, "question")
    now[0] += 301
    assert one.ask("POST", "/guard/login", {"question": late, **fields(one.key.sign(late.encode()))}).status_code == 401
    made_up = late.rpartition(" ")[0] + " x"
    for asked in (made_up, "", "Sign in"):
        assert one.ask("POST", "/guard/login", {"question": asked, **fields(one.key.sign(asked.encode()))}).status_code == 401


def test_a_strangers_passkey_signs_nobody_in_and_guessing_is_stopped(world: Path) -> None:
    one = Approver(world, SoftPasskey())
    assert [one.sign_in().status_code for _ in range(7)] == [401] * 5 + [429] * 2
    mine = Approver(world, KEYS[OWNER], app=one.app)
    assert mine.sign_in().status_code == 429
    assert mine.ask("GET", "/", authorization=f"Bearer {one.token}").status_code == 200, "tokens are counted apart"


def test_a_sign_in_is_no_approval_and_an_approval_no_sign_in(world: Path) -> None:
    one = approver(world)
    page = one.prepare().text
    question = hidden(Approver(world, KEYS[OWNER], app=one.app).ask("GET", "/guard/login").text, "question")
    signed_question = fields(one.key.sign(question.encode()))
    answer = one.ask("POST", "/decisions", {**one.signed(page), **signed_question})
    assert answer.status_code == 409 and "over other bytes" in answer.text
    signed_statement = {name: value for name, value in one.signed(page).items() if name not in ("statement", "form")}
    assert one.ask("POST", "/guard/login", {"question": question, **signed_statement}).status_code == 401


# ---------------------------------------------------------------------------------------------------------------------- proxy


def test_the_declared_proxy_names_the_person_and_nobody_else_may(world: Path) -> None:
    pages = DeclaredPages(origin="https://governance.example", proxy=TrustedProxy(addresses=("10.0.0.7",), header="X-Forwarded-User"))
    amended(world, lambda now: {"pages": pages})
    proxied = Approver(world, KEYS[OWNER], client=("10.0.0.7", 4))
    page = proxied.ask("GET", REVIEW, x_forwarded_user=OWNER, host="governance.example", origin="")
    assert page.status_code == 200 and f"<strong>{OWNER}</strong>" in page.text and "reader" in page.text, "their passkey is bound to another address"
    assert proxied.ask("GET", REVIEW, x_forwarded_user="nobody-1", host="governance.example", origin="").status_code == 403
    assert proxied.ask("GET", REVIEW, host="governance.example", origin="").status_code == 401
    forged = Approver(world, KEYS[OWNER], app=proxied.app, client=("127.0.0.1", 4))
    answer = forged.ask("GET", REVIEW, x_forwarded_user=OWNER)
    assert answer.status_code == 403 and "Only the declared proxy" in answer.text
    assert proxied.ask("GET", REVIEW, x_forwarded_user=OWNER, host="evil.example", origin="").status_code == 421
    for origin in ("http://governance.example", "https://evil.example"):
        assert proxied.ask("GET", REVIEW, x_forwarded_user=OWNER, host="governance.example", origin=origin).status_code == 403


def test_a_proxied_approver_decides_with_a_passkey_of_the_public_address(world: Path) -> None:
    pages = DeclaredPages(origin="https://governance.example", proxy=TrustedProxy(addresses=("10.0.0.7",), header="X-Forwarded-User"))
    key = SoftPasskey(origin="https://governance.example", relying_party="governance.example")
    enrolled(world, {OWNER: key}, pages=pages)
    one = Approver(world, key, client=("10.0.0.7", 4))
    there = {"x_forwarded_user": OWNER, "host": "governance.example", "origin": "https://governance.example"}
    page = one.ask("GET", REVIEW, **there).text
    form = {"decision": "approve", "role": "technical_owner", "reason": REASON, "shown": hidden(page, "shown"), "form": hidden(page, "form")}
    assert one.ask("POST", f"/systems/{SYSTEM}/decide", form, **{**there, "origin": ""}).status_code == 403
    prepared = one.ask("POST", f"/systems/{SYSTEM}/decide", form, **there)
    assert one.ask("POST", "/decisions", one.signed(prepared.text), **there).status_code == 303
    (record,), _ = inbox.admit(open_river(world).archive)
    assert record.body.person == OWNER


# ------------------------------------------------------------------------------------------------------------ the wall itself


def test_a_copied_passkey_is_told_by_its_counter(world: Path) -> None:
    one = approver(world)
    one.key.counter = 40
    assert one.sign(one.prepare().text).status_code == 303
    inbox.admit(open_river(world).archive)
    one.key.counter = 11
    answer = one.sign(one.prepare("reject").text)
    assert answer.status_code == 409 and "there are two copies of it" in answer.text
    one.key.counter = 41
    assert one.sign(one.prepare("reject").text).status_code == 303


def test_the_inbox_believes_no_assertion_that_somebody_put_there(world: Path) -> None:
    from compliance_assets.trust.dsse import PAYLOAD_TYPE, Envelope
    from compliance_assets.trust.passkeys import passkey_signature

    river = open_river(world)
    statement = release_statement(river, SYSTEM, OWNER, "technical_owner", "approve", REASON, opened_seconds=3)
    whole = Envelope(statement.payload(), PAYLOAD_TYPE, ())
    good = KEYS[OWNER].sign(whole.signed_bytes)
    bad = [KEYS[GOVERNANCE].sign(whole.signed_bytes), KEYS[OWNER].sign(b"other"), KEYS[OWNER].sign(whole.signed_bytes, flags=1),
           dataclasses.replace(good, signature=good.signature[:-1] + bytes([good.signature[-1] ^ 1]))]
    for assertion in bad:
        inbox.put(river.home.inbox, dataclasses.replace(whole, signatures=(passkey_signature(OWNER, assertion),)))
        admitted, refused = inbox.admit(river.archive)
        assert not admitted and len(refused) == 1
    inbox.put(river.home.inbox, dataclasses.replace(whole, signatures=(passkey_signature(OWNER, good),)))
    assert len(inbox.admit(river.archive)[0]) == 1


def test_a_passkey_taken_out_of_the_policy_no_longer_signs(world: Path) -> None:
    one = approver(world)
    page = one.prepare().text
    amended(world, retired)
    assert one.sign(page).status_code == 401


def test_an_auditor_verifies_passkey_approvals_with_one_file_and_refuses_bent_ones(world: Path, tmp_path: Path) -> None:
    for person, role in PEOPLE.items():
        one = approver(world, person)
        one.sign(one.prepare(role=role).text)
    river = open_river(world)
    inbox.admit(river.archive)
    bundle = tmp_path / "bundle"
    made = export(river.archive, SYSTEM, bundle)
    held = f"{river.archive.head().size}:{river.archive.head().root}"

    def verified() -> dict[str, object]:
        done = subprocess.run((sys.executable, "-I", "-S", str(bundle / "verify.py"), str(bundle), "--head", held, "--json"), capture_output=True, check=False)
        said: dict[str, object] = json.loads(done.stdout)
        return said
    said = verified()
    assert said["verified"], said["problems"]
    assert made
    entry = max(path for path in (bundle / "entries").iterdir() if b"webauthn" in path.read_bytes())
    content = json.loads(entry.read_bytes())
    signature = json.loads(base64.b64decode(content["signatures"][0]["sig"]))
    signature["client_data"] = base64.b64encode(base64.b64decode(signature["client_data"]).replace(b"localhost", b"localhoax")).decode()
    content["signatures"][0]["sig"] = base64.b64encode(json.dumps(signature, sort_keys=True, separators=(",", ":")).encode()).decode()
    entry.write_bytes(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
    assert any("another page than one of" in str(problem) for problem in verified()["problems"])  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------------------------ enrolment


def test_enrolment_prints_a_line_that_organisation_yaml_takes(world: Path) -> None:
    one, new = approver(world), SoftPasskey("RS256")
    page = one.see("/passkeys")
    made = one.ask("POST", "/passkeys", {"person": OWNER, "credential": new.credential, "key": new.key, "form": hidden(page, "form")})
    sentence = re.search(r'data-message="([^"]*)"', made.text)
    assert made.status_code == 200 and sentence is not None
    import html

    proof = fields(new.sign(html.unescape(sentence[1]).encode()))
    form = {name: hidden(made.text, name) for name in ("person", "new_credential", "key", "valid_from", "form")}
    done = one.ask("POST", "/passkeys/check", {**form, **proof})
    assert done.status_code == 200 and "It counts for nothing yet" in done.text
    line = html.unescape(re.search(r"- (\{credential.*?\})", done.text)[1])  # type: ignore[index]
    path = world / "organisation.yaml"
    path.write_text(path.read_text().replace(render_line(KEYS[OWNER]), f"{render_line(KEYS[OWNER])}\n      - {line}"))
    assert [key.credential for key in load_organisation(path).person(OWNER).passkeys] == [KEYS[OWNER].credential, new.credential]
    assert one.ask("POST", "/passkeys/check", {**form, **proof, "person": GOVERNANCE}).status_code == 409, "the line is another person's"
    assert one.ask("POST", "/passkeys/check", {**form, **fields(new.sign(html.unescape(sentence[1]).encode(), flags=1))}).status_code == 409


def render_line(key: SoftPasskey) -> str:
    from compliance_assets.policy.rendering import passkey_line

    return passkey_line(key.declared())


@pytest.mark.parametrize("changes", [{"person": "Ines Owner"}, {"person": ""}, {"credential": ""}, {"key": "ES256:AAAA"}, {"key": "<script>"}, {"form": "x"}])
def test_what_is_no_passkey_is_not_enrolled(world: Path, changes: dict[str, str]) -> None:
    one, new = approver(world), SoftPasskey()
    form = {"person": OWNER, "credential": new.credential, "key": new.key, "form": hidden(one.see("/passkeys"), "form"), **changes}
    assert one.ask("POST", "/passkeys", form).status_code in (403, 409)


def test_organisation_yaml_with_passkeys_is_read_back_as_written_and_without_them_keeps_its_digest(world: Path, reviewed_world: Path) -> None:
    now = load_organisation(world / "organisation.yaml")
    assert now.person(OWNER).passkeys and "passkeys" not in now.model_dump(mode="json")["people"][2]
    path = world / "again.yaml"
    path.write_text(render_organisation(now))
    assert load_organisation(path).digest == now.digest
    before = load_organisation(reviewed_world / "organisation.yaml").model_dump(mode="json")
    assert all("passkeys" not in person for person in before["people"]) and "pages" not in before


@pytest.mark.parametrize(("old", "new", "said"), [
    ("relying_party: \"localhost\"", "relying_party: \"bank.example\"", "no page of"), ("origin: \"http://localhost:3100\"", "origin: \"http://bank.example\"", "is not https"),
    (KEYS[GOVERNANCE].credential, KEYS[OWNER].credential, "already"), ("key: \"ES256:", "key: \"ES512:", "must be a public key")],
    ids=["another party", "another origin", "somebody else's", "another algorithm"])  # keys are made afresh: two workers must agree on names
def test_a_passkey_that_cannot_be_right_is_refused_where_it_stands(world: Path, old: str, new: str, said: str) -> None:
    from compliance_assets.errors import DeclarationError

    path = world / "organisation.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DeclarationError) as refused:
        load_organisation(path)
    assert said in str(refused.value)
