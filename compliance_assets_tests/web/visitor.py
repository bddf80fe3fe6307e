"""Somebody who visits the governance pages, in this process; and what every page must be: valid, whole, without a script or a stranger."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.etree.ElementTree import Element

import html5lib
import httpx

from compliance_assets.web.pages import build_pages
from compliance_assets.web.ui_users import Role, User, new_token, token_hash

HOST = "127.0.0.1:3100"
ORIGIN = f"http://{HOST}"
HTML = "{http://www.w3.org/1999/xhtml}"
ADDRESSES = ("href", "src", "action", "srcset", "data", "poster", "formaction", "background", "cite", "ping")


@dataclass
class Visitor:
    """A browser without scripts, signed in with a bearer token unless told otherwise."""

    root: Path
    dagster: str = ""
    token: str = field(default_factory=new_token)

    def __post_init__(self) -> None:
        users = [User("ines", Role.READER, token_hash(self.token))]
        self.app = build_pages(self.root, "127.0.0.1", 3100, users, dagster=self.dagster)

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None, content: str = "") -> httpx.Response:
        """One request, exactly as it is given here; no redirect is followed."""
        async def go() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=ORIGIN) as client:
                return await client.request(method, path, headers=dict(headers or {}), content=content or None)
        return asyncio.run(go())

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.ask("GET", path, {"authorization": f"Bearer {self.token}", "accept": "text/html", **headers})

    def raw(self, path: str) -> tuple[int, str]:
        """A request whose path is sent byte for byte, as no well-mannered client would; gives status and text."""
        sent: list[Any] = []
        encoded = path.encode()
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "query_string": b"",
                 "path": unquote_to_bytes(encoded).decode("utf-8", "replace"), "raw_path": encoded, "root_path": "",
                 "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 3100),
                 "headers": [(b"host", HOST.encode()), (b"authorization", f"Bearer {self.token}".encode()), (b"accept", b"text/html")]}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        return sent[0]["status"], b"".join(message["body"] for message in sent[1:] if "body" in message).decode()

    def see(self, path: str) -> Seen:
        """A page that must be there."""
        answer = self.get(path)
        assert answer.status_code == 200, (path, answer.status_code, re.sub(r"<[^>]+>|\s+", " ", answer.text)[:600])
        return Seen(path, answer)


@dataclass
class Seen:
    """One page, read."""

    path: str
    answer: httpx.Response

    @property
    def document(self) -> Element:
        """The page as a tree; refuses everything that is not valid HTML."""
        parser = html5lib.HTMLParser(strict=True)
        tree: Element = parser.parse(self.answer.text)
        return tree

    @property
    def text(self) -> str:
        """The words of the page, blanks folded."""
        return " ".join(" ".join(self.document.find(f"{HTML}body").itertext()).split())  # type: ignore[union-attr]

    def elements(self, name: str) -> Iterator[Element]:
        return self.document.iter(f"{HTML}{name}")

    @property
    def links(self) -> set[str]:
        return {link.attrib["href"] for link in self.elements("a")}

    def rows(self, css_class: str) -> list[str]:
        """The words of every table row in a table of this class."""
        return [" ".join(" ".join(row.itertext()).split()) for table in self.elements("table")
                if css_class in table.attrib.get("class", "").split() for row in table.iter(f"{HTML}tr")]

    def check(self, allowed: tuple[str, ...] = ()) -> None:
        """Valid, one heading of the first level, no script but the one that speaks to a passkey, no inline style, no handler, nothing from elsewhere."""
        headings = list(self.elements("h1"))
        assert len(headings) == 1, (self.path, len(headings))
        ids: list[str] = []
        for element in self.document.iter():
            tag = str(element.tag).rpartition("}")[2]
            if tag == "script" and dict(element.attrib) == {"src": "/passkey.js", "defer": ""} and not element.text:
                assert "script-src 'self'; require-trusted-types-for 'script'" in self.answer.headers["content-security-policy"], self.path
                continue
            assert tag not in ("script", "iframe", "object", "embed", "style", "base", "audio", "video"), (self.path, tag)
            for key, value in element.attrib.items():
                name = str(key).rpartition("}")[2].lower()
                assert not name.startswith("on") and name != "style", (self.path, tag, name)
                if name in ADDRESSES and tag != "svg":
                    ours = re.match(r"(/(?![/\\])|#|data:,$)", value)
                    assert ours or value in allowed, (self.path, tag, name, value)
                if name == "id":
                    ids.append(value)
        assert len(ids) == len(set(ids)), (self.path, [one for one in ids if ids.count(one) > 1][:3])


def crawl(visitor: Visitor, start: str = "/", most: int = 400) -> dict[str, Any]:
    """Every page that links lead to, from `start` on."""
    todo, seen = [start], {}
    while todo and len(seen) < most:
        path = todo.pop(0)
        if path in seen:
            continue
        answer = visitor.get(path)
        seen[path] = answer
        if answer.status_code == 200 and answer.headers["content-type"].startswith("text/html"):
            todo += sorted(link.split("#")[0] for link in Seen(path, answer).links if link.startswith("/") and link.split("#")[0] not in seen)
    return seen
