"""An alert is answered on its page with a passkey: the statement that an SSH key would sign; every other way of using the form is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from compliance_assets.evidence import inbox
from compliance_assets.evidence.alerts import alerts_of
from compliance_assets.governance.alerts.keeping import answer_statement
from compliance_assets.governance.export import export
from compliance_assets.pipeline import open_river
from compliance_assets_tests.authenticator import SoftPasskey
from compliance_assets_tests.governance.answering import WHY, answered, raised
from compliance_assets_tests.project import ENGINEER, GOVERNANCE, OWNER, SYSTEM, copied
from compliance_assets_tests.web.approver import Approver, enrolled, hidden, statement_bytes
from compliance_assets_tests.web.test_passkeys_in_a_browser import browsing, list_passkeys

KEYS = {OWNER: SoftPasskey("ES256", counter=1), GOVERNANCE: SoftPasskey("EdDSA"), ENGINEER: SoftPasskey("ES256")}
SIGNED_PARTS = ("issued", "nonce", "opened_seconds")


@pytest.fixture(scope="module")
def passkey_world(founded_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copied(founded_world, tmp_path_factory.mktemp("alerted") / "world")
    enrolled(root, KEYS)
    return root


@pytest.fixture
def world(passkey_world: Path, tmp_path: Path) -> Path:
    return copied(passkey_world, tmp_path / "world")


def somebody(world: Path, person: str = OWNER, app: object = None) -> Approver:
    one = Approver(world, KEYS[person], app=app)
    assert one.sign_in().status_code == 303
    return one


def answer(one: Approver, index: int, event: str = "acknowledged", role: str = "technical_owner", **changes: str) -> httpx.Response:
    form = re.search(rf'action="/alerts/{index}/answer".*?</form>', one.see("/alerts"), re.S)
    token = hidden(form[0], "form") if form else ""
    return one.ask("POST", f"/alerts/{index}/answer", {"event": event, "role": role, "reason": WHY, "form": token, **changes})


def state(world: Path) -> list[str]:
    return [one.state for one in alerts_of(open_river(world).archive, SYSTEM)]


def test_two_people_acknowledge_and_close_with_passkeys_and_the_auditor_says_so(world: Path, tmp_path: Path) -> None:
    index = raised(open_river(world))
    for person, event, role in ((OWNER, "acknowledged", "technical_owner"), (GOVERNANCE, "closed", "governance_lead")):
        one = somebody(world, person)
        stale = hidden(one.see("/alerts"), "form")
        page = answer(one, index, event, role)
        assert page.status_code == 200 and "What the data say" in page.text and f"ledger entry {index}" in page.text
        done = one.sign(page.text)
        assert (done.status_code, done.headers["location"]) == (303, "/alerts")
        again = answer(one, index, event, role, form=stale)
        assert "your answer has arrived" in one.see("/alerts") and again.status_code == 409 and "Nothing more is asked of you" in again.text
        admitted, refused = inbox.admit(open_river(world).archive)
        assert len(admitted) == 1 and not refused and state(world) == [event]
        assert f"by {person} as" in one.see("/alerts")
    made = export(open_river(world).archive, SYSTEM, tmp_path / "bundle")
    told = subprocess.run((sys.executable, "-I", "-S", str(tmp_path / "bundle" / "verify.py"), str(tmp_path / "bundle"), "--head", f"{made.size}:{made.root}",
                           "--json"), capture_output=True, text=True, timeout=120, cwd="/")
    assert told.returncode == 0 and json.loads(told.stdout)["counts"]["alerts closed by a person who signed"] == 1, told.stdout


def test_a_passkey_and_an_ssh_key_sign_the_same_answer(world: Path) -> None:
    river = open_river(world)
    index = raised(river)
    shown = json.loads(statement_bytes(answer(somebody(world), index).text).split(b" ", 4)[4])
    ours = json.loads(answer_statement(river, index, "acknowledged", OWNER, "technical_owner", WHY, opened_seconds=0).payload())
    for statement in (shown, ours):
        for name in SIGNED_PARTS:
            statement["predicate"].pop(name)
    assert shown == ours


@pytest.mark.parametrize(("changes", "status", "said"), [
    ({"reason": "ok"}, 409, "at least 20 characters"), ({"event": "deleted"}, 409, "acknowledge or close"), ({"role": "governance_lead"}, 409, "is not yours"),
    ({"form": "1.x"}, 403, "not made for you"), ({"form": ""}, 403, "not made for you")])
def test_a_form_that_is_not_whole_signs_nothing_and_loses_nothing(world: Path, changes: dict[str, str], status: int, said: str) -> None:
    index = raised(open_river(world))
    refused = answer(somebody(world), index, **{"reason": f"{WHY} Kept: <b>&", **changes})
    assert refused.status_code == status and said in refused.text and not inbox.waiting(open_river(world).home.inbox)
    if status == 409 and "reason" not in changes:
        assert f"{WHY} Kept: &lt;b&gt;&amp;</textarea>" in refused.text, "what was written is still there"
        assert re.search(rf'<details class="answer" open><summary>Answer T1 contract \(entry {index}\)', refused.text)


def test_one_alerts_form_answers_no_other_and_a_closed_one_is_not_answered(world: Path) -> None:
    river = open_river(world)
    first, second = raised(river), raised(river, "fairness")
    one = somebody(world)
    page = one.see("/alerts")
    tokens = {index: hidden(re.search(rf'action="/alerts/{index}/answer".*?</form>', page, re.S)[0], "form") for index in (first, second)}  # type: ignore[index]
    assert answer(one, second, form=tokens[first]).status_code == 403
    answered(river, first, "closed")
    late = answer(one, first, "closed", form=tokens[first])
    assert late.status_code == 409 and "closed already" in late.text
    absent = answer(one, 0, form=tokens[first])
    assert absent.status_code == 403 and not inbox.waiting(river.home.inbox)


def test_whose_role_owns_no_alert_is_shown_no_form_and_a_token_signs_nothing(world: Path) -> None:
    index = raised(open_river(world))
    engineer = somebody(world, ENGINEER)
    page = engineer.see("/alerts")
    assert "none of these roles is yours" in page and 'name="event"' not in page
    owner = somebody(world, app=engineer.app)
    theirs = hidden(owner.see("/alerts"), "form")
    assert answer(engineer, index, role="ml_engineer", form=theirs).status_code == 403
    reader = Approver(world, KEYS[OWNER], app=engineer.app, token=engineer.token)
    reader.cookie = reader.ask("POST", "/guard/login", {"token": engineer.token}).headers["set-cookie"].split(";")[0]
    assert 'name="event"' not in reader.see("/alerts") and answer(reader, index).status_code == 403


def test_an_assertion_over_another_answer_and_a_second_hand_in_are_refused(world: Path) -> None:
    index = raised(open_river(world))
    one = somebody(world)
    old = one.signed(answer(one, index).text)
    new = answer(one, index, "closed").text
    bent = one.ask("POST", "/decisions", {**old, "statement": hidden(new, "statement"), "form": hidden(new, "form")})
    assert bent.status_code == 409 and "over other bytes" in bent.text
    form = one.signed(answer(one, index, "closed").text)
    assert [one.ask("POST", "/decisions", form).status_code for _ in range(2)] == [303, 409]
    assert len(inbox.waiting(open_river(world).home.inbox)) == 1


@pytest.mark.slow
def test_a_person_answers_an_alert_in_chromium(founded_world: Path, tmp_path: Path) -> None:
    root = copied(founded_world, tmp_path / "world")
    index = raised(open_river(root))
    with browsing(root, tmp_path / "profile") as browser:
        browser.authenticator()
        browser.with_token("/passkeys")
        list_passkeys(root, {OWNER: browser.enrol(OWNER)})
        browser.leave()
        browser.sign_in()
        browser.open("/alerts")
        browser.page.run("document.querySelector('details.answer').open = true")
        assert browser.violations() == []
        # A reason of blanks passes the browser's own check, and is refused by the pages: everything else stands as it was chosen.
        browser.page.run(f"document.querySelector('input[value=closed]').checked = true; document.getElementById('reason-{index}').value = ' '.repeat(30)")
        browser.press("form.decide button", "document.querySelector('[role=alert]')")
        assert "at least 20 characters" in browser.said() and browser.page.run("document.querySelector('input[value=closed]').checked")
        assert browser.page.run("document.querySelector('details.answer').open") and browser.violations() == []
        browser.page.run(f"document.getElementById('reason-{index}').value = {WHY!r}")
        browser.press("form.decide button", "document.querySelector('#statement')")
        assert "Close this alert?" in browser.said() and browser.violations() == []
        signed = json.loads(browser.page.run("document.getElementById('statement').textContent"))
        assert signed["subject"][0]["name"] == "alert-closed" and signed["predicate"]["rationale"] == WHY
        browser.press("form[data-passkey] button", "location.pathname === '/alerts' && document.querySelector('h1')")
        browser.page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert "your answer has arrived" in browser.said()
        admitted, refused = inbox.admit(open_river(root).archive)
        assert len(admitted) == 1 and not refused and state(root) == ["closed"]
        browser.open("/alerts")
        assert f"Closed by {OWNER} as technical owner, who signed" in browser.said() and browser.violations() == []
        browser.check_quiet()
