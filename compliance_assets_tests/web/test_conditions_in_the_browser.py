"""An approval under conditions, given on the review page: what is signed is what was written, and what is refused is not lost."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from compliance_assets.errors import Misused, Waiting
from compliance_assets.evidence import inbox
from compliance_assets.evidence.conditions import conditions_of, end_of
from compliance_assets.governance.deciding import LONGEST_CONDITION, meet_condition, release_statement
from compliance_assets.pipeline import open_river
from compliance_assets_tests.authenticator import SoftPasskey
from compliance_assets_tests.project import GOVERNANCE, OWNER, REASON, SYSTEM, copied, decide, signer, step
from compliance_assets_tests.web.approver import REVIEW, Approver, enrolled, statement_bytes
from compliance_assets_tests.web.test_passkeys_in_a_browser import browsing, list_passkeys

KEYS = {OWNER: SoftPasskey("ES256")}
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
FIRST, SECOND = "The officer's manual names the new bounds.", "Complaints of <b>young</b> applicants are counted & read weekly."
BOTH = f"{FIRST}\r\n\r\n  {SECOND}  \r\n"


@pytest.fixture(scope="module")
def passkey_world(reviewed_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copied(reviewed_world, tmp_path_factory.mktemp("conditions") / "world")
    enrolled(root, KEYS)
    return root


@pytest.fixture
def world(passkey_world: Path, tmp_path: Path) -> Path:
    return copied(passkey_world, tmp_path / "world")


def owner(world: Path) -> Approver:
    one = Approver(world, KEYS[OWNER])
    assert one.sign_in().status_code == 303
    return one


def test_what_was_written_is_shown_signed_and_asked_for_until_it_is_met(world: Path) -> None:
    one = owner(world)
    prepared = one.prepare(conditions=BOTH, by=TOMORROW)
    seen = html.unescape(re.sub(r"<[^>]+>", " ", prepared.text))
    assert prepared.status_code == 200 and "under 2 conditions" in seen
    for said in (FIRST, SECOND, f"the end of {TOMORROW} (UTC)", "your approval counts no longer", "compliance condition met"):
        assert said in seen, said
    body = json.loads(statement_bytes(prepared.text).split(b" ", 4)[4])["predicate"]
    assert (body["conditions"], body["due"]) == ([FIRST, SECOND], TOMORROW)
    river = open_river(world)
    ours = json.loads(release_statement(river, SYSTEM, OWNER, "technical_owner", "approve", REASON, opened_seconds=0, due=TOMORROW,
                                        conditions=(FIRST, SECOND)).payload())["predicate"]
    assert {name for name in ours if ours[name] != body[name]} <= {"issued", "expires", "nonce", "opened_seconds"}, "as an SSH key would sign it"
    assert one.sign(prepared.text).status_code == 303
    decide(river, GOVERNANCE)
    inbox.admit(river.archive)
    page = html.unescape(one.see())
    assert f"Condition of {OWNER}, due {TOMORROW}, not met yet: {FIRST}" in page and "<b>young</b>" not in one.see()
    later = replace(open_river(world), now=lambda: end_of(TOMORROW))
    with pytest.raises(Waiting, match="its condition was due"):
        step(later, "pre_deployment_approval")
    assert step(open_river(world), "pre_deployment_approval")
    for text in (FIRST, SECOND):
        found = next(c for c in conditions_now(world) if c["text"] == text)
        meet_condition(river, SYSTEM, found["condition"], signer(river, OWNER), REASON)
    inbox.admit(river.archive)
    assert html.unescape(one.see()).count(f"due {TOMORROW}, met, says {OWNER}: ") == 2


def conditions_now(world: Path) -> list[dict[str, str]]:
    archive = open_river(world).archive
    return [one.as_json() for one in conditions_of(archive, archive.decided("release", SYSTEM))]


PAST = "2020-01-01"
REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "no day": ({"conditions": FIRST}, "such a day needs a condition"),
    "no condition": ({"by": TOMORROW}, "such a day needs a condition"),
    "a day that is over": ({"conditions": FIRST, "by": PAST}, "not past"),
    "no date at all": ({"conditions": FIRST, "by": "soon"}, "not past"),
    "the same twice": ({"conditions": f"{FIRST}\n{FIRST}", "by": TOMORROW}, "something else than the others"),
    "too long": ({"conditions": "x" * (LONGEST_CONDITION + 1), "by": TOMORROW}, "At most 20 conditions"),
    "too many": ({"conditions": "\n".join(f"Condition {number}" for number in range(21)), "by": TOMORROW}, "At most 20 conditions"),
    "of a rejection": ({"decision": "reject", "conditions": FIRST}, "Only an approval is given under conditions"),
    "a rejection with their day": ({"decision": "reject", "by": TOMORROW}, "Only an approval is given under conditions"),
    "of a deferral": ({"decision": "defer", "until": TOMORROW, "conditions": FIRST}, "Only an approval is given under conditions"),
    "a reason too short": ({"conditions": FIRST, "by": TOMORROW, "reason": "ok, go"}, "At least 20 characters"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_with_nothing_lost(world: Path, name: str) -> None:
    given, words = REFUSED[name]
    refused = owner(world).prepare(**given)
    assert refused.status_code == 409 and words.lower() in html.unescape(refused.text).lower() and not inbox.waiting(open_river(world).home.inbox)
    written = {"reason": REASON, "decision": "approve", **given}
    form = re.search(r'<form class="decide".*?</form>', refused.text, re.S)
    assert form is not None and 'id="statement"' not in refused.text
    for field in ("reason", "conditions"):
        kept = re.search(rf'<textarea id="{field}"[^>]*>(.*?)</textarea>', form[0], re.S)
        assert kept is not None and html.unescape(kept[1]) == written.get(field, ""), field
    for field in ("by", "until"):
        assert f'name="{field}" type="date" value="{written.get(field, "")}"' in form[0], field
    assert re.search(rf'value="{written["decision"]}" required checked', form[0]) and '<details class="conditions" open>' in form[0]


def test_conditions_are_signed_as_one_line_each_and_an_empty_one_is_none(world: Path) -> None:
    river = open_river(world)
    made = release_statement(river, SYSTEM, OWNER, "technical_owner", "approve", REASON, opened_seconds=0, due=TOMORROW.replace("-", ""), conditions=(f"  {FIRST}\n",))
    assert (made.body.conditions, made.body.due) == ((FIRST,), TOMORROW), "a day in another spelling is written as verify.py reads it"
    with pytest.raises(Misused, match="says something"):
        release_statement(river, SYSTEM, OWNER, "technical_owner", "approve", REASON, opened_seconds=0, due=TOMORROW, conditions=(FIRST, " "))


@pytest.mark.slow
def test_a_person_approves_under_conditions_in_chromium(reviewed_world: Path, tmp_path: Path) -> None:
    root = copied(reviewed_world, tmp_path / "world")
    with browsing(root, tmp_path / "profile") as browser:
        browser.authenticator()
        browser.with_token("/passkeys")
        list_passkeys(root, {OWNER: browser.enrol(OWNER)})
        browser.leave()
        browser.sign_in()
        browser.page.run("document.querySelector('details.conditions').open = true")
        assert browser.violations() == []
        write = f"document.getElementById('conditions').value = {FIRST + chr(10) + SECOND!r};"
        browser.page.run(write + f"document.getElementById('by').value = {PAST!r}")
        browser.decide("approve", "technical_owner")
        assert "not past" in browser.said() and browser.violations() == []
        kept = browser.page.run("[document.getElementById('conditions').value, document.getElementById('by').value, document.getElementById('reason').value,"
                                "document.querySelector('input[value=approve]').checked, document.querySelector('details.conditions').open]")
        assert kept == [f"{FIRST}\n{SECOND}", PAST, REASON, True, True]
        browser.page.run(f"document.getElementById('by').value = {TOMORROW!r}")
        browser.press("form.decide button", "document.querySelector('#statement')")
        said = browser.said()
        assert all(text in said for text in ("under 2 conditions", FIRST, SECOND, TOMORROW, "your approval counts no longer")) and browser.violations() == []
        body = json.loads(browser.page.run("document.getElementById('statement').textContent"))["predicate"]
        assert (body["conditions"], body["due"]) == ([FIRST, SECOND], TOMORROW)
        browser.sign()
        assert browser.page.run("location.pathname") == REVIEW and "signed an approval" in browser.said()
        (record,), refused = inbox.admit(open_river(root).archive)
        assert record.body.conditions == (FIRST, SECOND) and not refused
        browser.open(REVIEW)
        assert f"Condition of {OWNER}, due {TOMORROW}, not met yet: {SECOND}" in browser.said() and browser.violations() == []
        browser.check_quiet()
