"""Somebody with a passkey, before the governance pages, in this process: every form as a browser would send it, or bent."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

from compliance_assets.evidence import inbox
from compliance_assets.governance.deciding import decide_trust_policy
from compliance_assets.governance.proposing import propose_organisation
from compliance_assets.pipeline import River, open_river
from compliance_assets.policy.organisation import Organisation, render_organisation
from compliance_assets.trust.dsse import PAYLOAD_TYPE, pae
from compliance_assets.trust.passkeys import Assertion
from compliance_assets.web.pages import build_pages
from compliance_assets.web.people import PARTS
from compliance_assets.web.ui_users import Role, User, new_token, token_hash
from compliance_assets_tests.authenticator import ORIGIN, SoftPasskey, b64
from compliance_assets_tests.project import PEOPLE, REASON, SYSTEM, signer

REVIEW = f"/systems/{SYSTEM}/review"
HEADERS = {"origin": ORIGIN, "content-type": "application/x-www-form-urlencoded", "accept": "text/html"}


def amended(root: Path, change: Callable[[Organisation], Mapping[str, Any]]) -> River:
    """organisation.yaml changed, proposed, and approved by everybody who must: the normal way."""
    river = open_river(root)
    new = river.organisation.model_copy(update=dict(change(river.organisation)))
    (root / "organisation.yaml").write_text(render_organisation(new))
    river = open_river(root)
    propose_organisation(river)
    for person, role in PEOPLE.items():
        decide_trust_policy(river, signer(river, person, role), "approve", REASON, opened_seconds=1)
    inbox.admit(river.archive)
    assert river.archive.in_force().digest == river.organisation.digest == new.digest
    return open_river(root)


def enrolled(root: Path, keys: Mapping[str, SoftPasskey], **more: Any) -> River:
    """The project, with these passkeys listed for these people."""
    return amended(root, lambda now: {"people": tuple(
        person.model_copy(update={"passkeys": (keys[person.id].declared(),)}) if person.id in keys else person for person in now.people), **more})


def fields(assertion: Assertion) -> dict[str, str]:
    parts = {name: getattr(assertion, name) for name in PARTS if name != "credential"}
    return {"credential": assertion.credential, **{name: b64(part) for name, part in parts.items()}}


def statement_bytes(page: str) -> bytes:
    """What the sign page asks to sign, as its script reads it."""
    found = re.search(r'<pre [^>]*id="statement"[^>]*>(.*?)</pre>', page, re.S)
    assert found is not None, re.sub(r"<[^>]+>|\s+", " ", page)[-700:]
    return pae(PAYLOAD_TYPE, html.unescape(found[1]).encode())


def hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, (name, re.sub(r"<[^>]+>|\s+", " ", page)[-900:])
    return html.unescape(found[1])


@dataclass
class Approver:
    """A browser without a script of its own, a passkey, and the pages."""

    root: Path
    key: SoftPasskey
    client: tuple[str, int] = ("127.0.0.1", 1)
    clock: Callable[[], float] | None = None
    app: Any = None
    cookie: str = ""
    token: str = field(default_factory=new_token)

    def __post_init__(self) -> None:
        if self.app is None:
            more = {"clock": self.clock} if self.clock else {}
            self.app = build_pages(self.root, "127.0.0.1", 3100, [User("ines", Role.OPERATOR, token_hash(self.token))], **more)

    def ask(self, method: str, path: str, form: Mapping[str, str] | None = None, **headers: str) -> httpx.Response:
        given = {**HEADERS, **({"cookie": self.cookie} if self.cookie else {}), **{name.replace("_", "-"): value for name, value in headers.items()}}

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=self.client)
            async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
                return await client.request(method, path, headers={k: v for k, v in given.items() if v}, content=urlencode(form) if form else None)
        return asyncio.run(go())

    def sign_in(self, **bent: Any) -> httpx.Response:
        question = hidden(self.ask("GET", "/guard/login").text, "question")
        answer = self.ask("POST", "/guard/login", {"question": question, "next": REVIEW, **fields(self.key.sign(question.encode(), **bent))})
        if answer.status_code == 303:
            self.cookie = answer.headers["set-cookie"].split(";")[0]
        return answer

    def see(self, path: str = REVIEW) -> str:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def prepare(self, decision: str = "approve", role: str = "technical_owner", **changes: str) -> httpx.Response:
        page = self.see()
        form = {"decision": decision, "role": role, "reason": REASON, "shown": hidden(page, "shown"), "form": hidden(page, "form"), **changes}
        return self.ask("POST", f"/systems/{SYSTEM}/decide", form)

    def sign(self, page: str, key: SoftPasskey | None = None, **bent: Any) -> httpx.Response:
        return self.ask("POST", "/decisions", self.signed(page, key, **bent))

    def signed(self, page: str, key: SoftPasskey | None = None, **bent: Any) -> dict[str, str]:
        return {"statement": hidden(page, "statement"), "form": hidden(page, "form"), **fields((key or self.key).sign(statement_bytes(page), **bent))}
