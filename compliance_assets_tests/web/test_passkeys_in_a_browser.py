"""Real Chromium with a virtual authenticator: people enrol, sign in, read, decide with a passkey, and what they decided is deployed."""

from __future__ import annotations

import importlib.util
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compliance_assets.evidence import inbox
from compliance_assets.pipeline import open_river
from compliance_assets.policy.browsers import DeclaredPasskey
from compliance_assets.web.pages import build_pages
from compliance_assets.web.ui_users import Role, User, new_token, token_hash
from compliance_assets_tests.project import GOVERNANCE, OWNER, REASON, SYSTEM, copied, decide, step
from compliance_assets_tests.stages.test_s8_deployment import asked, supervised, version_answering
from compliance_assets_tests.web.approver import REVIEW, amended
from compliance_assets_tests.web.browser import Page, chromium
from compliance_assets_tests.web.serving_asgi import free_socket, served

PAGES = ("/", REVIEW, "/dashboard", "/releases", "/ledger", "/ledger/7", "/ledger/verification", "/provenance", "/definitions", f"/definitions/{SYSTEM}",
         "/health", "/runs/test-run", f"/systems/{SYSTEM}/candidates/9/card", "/passkeys")


class Clock:
    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Browser:
    """The pages in a real browser, with what its console said and what it asked for."""

    def __init__(self, page: Page, root: Path, port: int, token: str) -> None:
        self.page, self.root, self.token = page, root, token
        self.origin = f"http://localhost:{port}"
        for domain in ("Log", "Network", "Page", "WebAuthn"):
            page.send(f"{domain}.enable")
        page.send("Runtime.enable")

    def open(self, path: str) -> None:
        self.page.open(f"{self.origin}{path}")

    def said(self) -> str:
        return str(self.page.run("document.body.innerText"))

    def authenticator(self, **options: Any) -> str:
        made = self.page.send("WebAuthn.addVirtualAuthenticator", options={
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True,
            "automaticPresenceSimulation": True, **options})
        return str(made["authenticatorId"])

    def press(self, selector: str, until: str) -> None:
        self.page.until(f"document.querySelector({selector!r}) && !document.querySelector({selector!r}).disabled")
        self.page.act(f"document.querySelector({selector!r}).click()")
        self.page.until(f"document.readyState === 'complete' && ({until})")

    def with_token(self, following: str) -> None:
        self.open(following)
        self.page.act(f"document.getElementById('token').value = {self.token!r}; document.querySelector('form:not([data-passkey])').submit()")
        self.page.until("document.querySelector('.who')")

    def enrol(self, person: str) -> DeclaredPasskey:
        self.open("/passkeys")
        self.page.run(f"document.getElementById('person').value = {person!r}")
        self.press("main button", "document.querySelector('h1').textContent === 'Use it once'")
        self.press("main button", "document.querySelector('h1').textContent === 'The line to add'")
        line = self.page.run("document.querySelector('pre.command').textContent")
        return DeclaredPasskey.model_validate(dict(re.findall(r'(\w+): "([^"]*)"', line)))

    def sign_in(self) -> None:
        self.open(REVIEW)
        self.press("form[data-passkey] button", "document.querySelector('.who')")

    def leave(self) -> None:
        self.page.act("document.querySelector('.who form').submit()")
        self.page.until("document.title.startsWith('Sign in')")

    def decide(self, decision: str, role: str, until: str = "") -> None:
        self.page.until("document.querySelector('form.decide')")
        self.page.run(f"document.querySelector('input[value={decision}]').checked = true; document.getElementById('role').value = {role!r};"
                      f"document.getElementById('reason').value = {REASON!r}; document.getElementById('until').value = {until!r}")
        self.press("form.decide button", "document.querySelector('#statement') || document.querySelector('[role=alert]')")

    def sign(self) -> None:
        self.press("form[data-passkey] button", "document.querySelector('form.decide, .said, [role=alert]') && !document.querySelector('#statement')")

    def violations(self) -> list[str]:
        """What axe-core finds on this page (WCAG 2.2 A and AA, best practices)."""
        # The one brings a newer axe-core, and a browser's driver of 50 MB that nothing here needs; the other is 100 kB.
        found = next(filter(None, map(importlib.util.find_spec, ("axe_playwright_python", "axe_core_python"))), None)
        if found is None or not found.submodule_search_locations:
            pytest.skip("axe-core is not here: pip install axe-core-python")
        if not self.page.run("typeof axe !== 'undefined'"):
            self.page.run((Path(found.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8") + ";true")
        return list(json.loads(self.page.run("axe.run({resultTypes: ['violations']}).then(found => JSON.stringify(found.violations.map(one => "
                                             "one.id + ': ' + one.nodes.map(node => node.html.slice(0, 160)).slice(0, 3).join(' | '))))")))

    def check_quiet(self) -> None:
        """Nothing in the console, and nothing asked for from elsewhere, since the browser began."""
        spoken = [event["params"] for event in self.page.events if event["method"] in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")]
        # A refused request (401, 403, 409) is answered with a page; Chromium notes its status in the console, which no page can help.
        assert [one for one in spoken if "Failed to load resource" not in one.get("entry", {}).get("text", "")] == []
        asked = {event["params"]["request"]["url"] for event in self.page.events if event["method"] == "Network.requestWillBeSent"}
        assert asked and all(address.startswith((f"{self.origin}/", "data:")) for address in asked), asked


@contextmanager
def browsing(root: Path, profile: Path, clock: Clock | None = None) -> Iterator[Browser]:
    token, listening = new_token(), free_socket()
    port = listening.getsockname()[1]
    app = build_pages(root, "127.0.0.1", port, [User("ines", Role.OPERATOR, token_hash(token))], clock=clock or time.time)
    with served(app, listening), chromium(profile) as page:
        yield Browser(page, root, port, token)


def list_passkeys(root: Path, keys: dict[str, DeclaredPasskey], **launchers: tuple[str, ...]) -> None:
    amended(root, lambda now: {"people": tuple(person.model_copy(update={
        **({"passkeys": (keys[person.id],)} if person.id in keys else {}),
        **({"launchers": launchers[person.id.replace("-", "_")]} if person.id.replace("-", "_") in launchers else {})}) for person in now.people)})


@pytest.mark.slow
def test_people_enrol_approve_with_passkeys_and_the_release_is_deployed(reviewed_world: Path, tmp_path: Path) -> None:
    root, clock = copied(reviewed_world, tmp_path / "world"), Clock()
    with browsing(root, tmp_path / "profile", clock) as browser:
        owners = browser.authenticator()
        browser.with_token("/passkeys")
        keys = {OWNER: browser.enrol(OWNER)}
        browser.page.send("WebAuthn.removeVirtualAuthenticator", authenticatorId=owners)
        leads = browser.authenticator()
        keys[GOVERNANCE] = browser.enrol(GOVERNANCE)
        kept = browser.page.send("WebAuthn.getCredentials", authenticatorId=leads)["credentials"]
        assert len(kept) == 1 and keys[OWNER].key != keys[GOVERNANCE].key
        list_passkeys(root, {GOVERNANCE: keys[GOVERNANCE]})
        browser.leave()
        # The governance lead signs in, in two tabs as it were: the statement of the first is superseded by the second.
        browser.sign_in()
        assert f"{GOVERNANCE} approver" in browser.said().replace("\n", " ")
        browser.decide("approve", "governance_lead")
        statement = browser.page.run("document.getElementById('statement').textContent")
        assert json.loads(statement)["predicate"]["person"] == GOVERNANCE
        browser.open(REVIEW)
        browser.decide("approve", "governance_lead")
        browser.page.act("history.back()")
        browser.page.until("document.querySelector('form.decide')")
        browser.decide("approve", "governance_lead")
        assert browser.violations() == []
        browser.sign()
        assert "signed an approval" in browser.said() and "waits to be taken into the ledger" in browser.said()
        # Back to the signed statement: its signature is not taken twice.
        browser.page.act("history.back()")
        browser.page.until("document.querySelector('#statement') || document.querySelector('form.decide') || document.body.innerText.includes('Confirm Form')"
                           " || document.querySelector('.said')")
        assert len(inbox.waiting(root / ".compliance" / "inbox")) == 1
        # A session that ran out shows nothing, and signing in again goes on where it was.
        clock.ahead = 9 * 3600
        browser.open(REVIEW)
        assert browser.page.run("document.title").startswith("Sign in") and "Needs your judgement" not in browser.said()
        browser.press("form[data-passkey] button", "document.querySelector('.who')")
        assert browser.page.run("location.pathname") == REVIEW
        clock.ahead = 0.0
        river = open_river(root)
        admitted, refused = inbox.admit(river.archive)
        assert len(admitted) == 1 and not refused
        decide(river, OWNER)
        outcome = step(river, "pre_deployment_approval")
        assert outcome and river.head(SYSTEM, "approval")
        browser.open("/")
        assert "No record says that this system answers in production." in browser.said()
        # What two people signed, one of them with a passkey, is deployed: real servers, a real router, real callers.
        with supervised(river), asked(river):
            assert step(river, "deployment")
            served_now = version_answering(river)["model"]
        browser.open("/")
        card = str(browser.page.run("[...document.querySelectorAll('h3')].find(one => one.textContent === 'In production').parentElement.innerText"))
        assert served_now[:12] in card and "Approved by" in card and GOVERNANCE in card and OWNER in card, card
        browser.check_quiet()


@pytest.mark.slow
def test_who_launched_cannot_approve_and_a_rejection_or_a_strangers_form_does_what_it_says(reviewed_world: Path, tmp_path: Path) -> None:
    root = copied(reviewed_world, tmp_path / "world")
    with browsing(root, tmp_path / "profile") as browser:
        made = browser.authenticator()
        browser.with_token("/passkeys")
        key = browser.enrol(OWNER)
        list_passkeys(root, {OWNER: key}, owner_1=("engineer",), engineer_1=("somebody",))
        browser.leave()
        browser.sign_in()
        assert "Your approval would not count: they launched a run of this release" in browser.said()
        assert browser.page.run("document.querySelector('input[value=approve]').disabled")
        # Enabled by hand: refused by the server.
        browser.page.run("document.querySelector('input[value=approve]').disabled = false")
        browser.decide("approve", "technical_owner")
        assert "Your approval would not count" in browser.said() and "separation of duties" in browser.said()
        # A form without this session's token, from the page itself, and one from another page.
        browser.open(REVIEW)
        browser.page.run("document.querySelector('form.decide input[name=form]').value = '1.forged'")
        browser.decide("reject", "technical_owner")
        assert "This form was not made for you" in browser.said()
        target = f"{browser.origin}/systems/{SYSTEM}/decide"
        browser.page.send("Page.navigate", url="data:text/html," + f"<form method=post action={target}><input name=decision value=approve></form><script>document.forms[0].submit()</script>")
        browser.page.until("location.href.includes('/decide') && document.querySelector('h1')")
        assert "sent by another page" in browser.said() or "Nobody is signed in" in browser.said()
        # A user who is not verified (no PIN, no finger) signs nothing.
        browser.page.send("WebAuthn.setUserVerified", authenticatorId=made, isUserVerified=False)
        browser.open(REVIEW)
        browser.decide("reject", "technical_owner")
        browser.press("form[data-passkey] button", "document.querySelector('[role=status]').textContent.startsWith('Nothing was signed')")
        assert not inbox.waiting(root / ".compliance" / "inbox")
        browser.page.send("WebAuthn.setUserVerified", authenticatorId=made, isUserVerified=True)
        browser.sign()
        assert "signed a rejection" in browser.said()
    (record,), refused = inbox.admit(open_river(root).archive)
    assert record.body.decision == "reject" and record.body.person == OWNER and not refused
    assert not step(open_river(root), "pre_deployment_approval")


@pytest.mark.slow
def test_axe_core_finds_nothing_on_any_page_light_or_dark(reviewed_world: Path, tmp_path: Path) -> None:
    with browsing(reviewed_world, tmp_path / "profile") as browser:
        browser.open("/")
        assert browser.violations() == []
        browser.with_token("/")
        found = {}
        for scheme in ("light", "dark"):
            browser.page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            for path in PAGES if scheme == "light" else ("/", REVIEW):
                browser.open(path)
                found[path, scheme] = browser.violations()
        assert {where: what for where, what in found.items() if what} == {}
        browser.check_quiet()


