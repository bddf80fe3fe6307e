"""Attacks on the governance pages: markup in everything that people can write, path tricks, strangers' requests, guessing."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

from compliance_assets.evidence import inbox
from compliance_assets.pipeline import open_river
from compliance_assets.stages.stage import Driver
from compliance_assets.web.rendering import style
from compliance_assets_tests import small_lender
from compliance_assets_tests.project import GOVERNANCE, SYSTEM, approve_definition, copied, decide, founded
from compliance_assets_tests.web.visitor import HOST, ORIGIN, Seen, Visitor, crawl

SCRIPT = "<script>alert(1)</script>"
IMAGE = "\"'><img src=x onerror=alert(2)>"
GROUP = "f<b>x"
CSP = ("default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
REVIEW = f"/systems/{SYSTEM}/review"


@pytest.fixture(scope="module")
def hostile_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which everything that people may write freely is markup, run until it waits for people."""
    from compliance_assets.pipeline import drive

    files = {name: text.replace("female", GROUP).replace("permanent", "p<i>t") for name, text in small_lender.files().items()}
    river = founded(tmp_path_factory.mktemp("hostile") / "world", **{name: text for name, text in files.items() if name != "system.yaml"}, **{
        "title": f"Loans {SCRIPT}", "provider": IMAGE, "intended_purpose": f"To lend {SCRIPT} {IMAGE}",
        "risk.basis": SCRIPT, "evaluation.performance.0.because": f"because {SCRIPT}", "evaluation.fairness.bounds.0.because": IMAGE + " is why",
        "data.protected.sex.groups": [GROUP, "male"], "data.reference_population.shares.sex": {GROUP: 0.5, "male": 0.5},
        "features.registry.0.unit": SCRIPT, "features.registry.3.categories": ["p<i>t", "temporary", "none"],
        "features.registry.2.proxy.note": f"a proxy {SCRIPT}", "training.rationale": f"small {IMAGE} enough",
        "data.provenance.method": SCRIPT})
    approve_definition(river)
    driver = Driver(run_id="<img src=x onerror=alert(3)>", launcher=SCRIPT)
    outcomes = list(drive(river, SYSTEM, driver, stop="integration_testing"))
    assert all(outcomes), [outcome.failures for outcome in outcomes]
    decide(river, GOVERNANCE, "approve", f"A reason long enough {SCRIPT} {IMAGE} &lt;b&gt;")
    inbox.admit(river.archive)
    return river.root


def test_markup_in_everything_that_people_write_is_text_on_every_page(hostile_world: Path) -> None:
    seen = crawl(Visitor(hostile_world), most=32)
    shown = set()
    for path, answer in seen.items():
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        page = Seen(path, answer)
        page.check()
        assert not list(page.elements("img")) and not list(page.elements("b")) and not list(page.elements("i")), path
        assert SCRIPT not in answer.text and "<img" not in answer.text, path
        shown |= {text for text in (SCRIPT, IMAGE, GROUP) if text in page.text or text in page.text.replace(" × ", "*")}
    assert shown == {SCRIPT, IMAGE, GROUP}  # told, not swallowed


def test_markup_in_names_is_text_in_charts_and_their_tables(hostile_world: Path) -> None:
    page = Visitor(hostile_world).see(REVIEW)
    figure = next(iter(page.elements("figure")))
    assert GROUP in " ".join(figure.itertext()) and "f&lt;b&gt;x" in page.answer.text
    assert SCRIPT in page.text and f"Loans {SCRIPT}" in page.text


@pytest.mark.parametrize("path", [
    "/provenance?" + urlencode({"what": SCRIPT}), "/provenance?" + urlencode({"what": IMAGE, "as_of": SCRIPT}),
    "/ledger?" + urlencode({"kind": IMAGE, "system": SCRIPT, "outcome": SCRIPT}), "/ledger?" + urlencode({"before": SCRIPT}),
    "/nowhere/" + "%3Cscript%3E", "/runs/nobody", "/systems/nobody/review",
])
def test_markup_in_an_address_is_text(path: str, reviewed_world: Path) -> None:
    answer = Visitor(reviewed_world).get(path)
    Seen(path, answer).check()
    assert SCRIPT not in answer.text and "<img" not in answer.text


@pytest.mark.parametrize("path", [
    "/artefacts/..%2f..%2f..%2fetc%2fpasswd", "/artefacts/../../keys/log.key", "/artefacts/" + "0" * 63 + "g", "/artefacts/" + "0" * 65,
    "/artefacts/" + "A" * 64, "/artefacts/" + "0" * 64, "/artefacts/%2e%2e/keys", "/ledger/-1", "/ledger/999999", "/ledger/1e3", "/ledger/٣",
    "/ledger/9999999999999999999999", "/systems/../small_lender/review", "/systems/..%2f..%2fetc/review", "/systems/Small_Lender/review",
    "/definitions/..", "/definitions/%2e%2e%2f", "//ledger", "/ledger//1", "/ledger/1/../../health", "/statements/" + "f" * 64, "/style.css/../health",
    "/style.css%00", "/runs/..", "/runs/a%2fb", f"/systems/{SYSTEM}/candidates/0", f"/systems/{SYSTEM}/candidates/1",
])
def test_a_path_trick_finds_nothing(path: str, reviewed_world: Path) -> None:
    status, text = Visitor(reviewed_world).raw(path)
    assert status in (403, 404), (path, status)
    assert "PRIVATE" not in text and "root:" not in text


def test_what_stands_after_the_question_mark_cannot_take_the_place_of_the_path(reviewed_world: Path) -> None:
    visitor = Visitor(reviewed_world)
    assert visitor.get(f"{REVIEW}?system=../../etc&index=99").text.replace("\n", "").count("Small loans") > 1
    assert "entry 4" in visitor.see("/ledger/4?index=7").text.lower()
    assert visitor.get("/releases?system=../..").status_code == 200


def test_rows_about_people_are_never_shown(reviewed_world: Path) -> None:
    river = open_river(reviewed_world, writer=False)
    visitor = Visitor(reviewed_world)
    hidden = [digest for record in river.archive.entries() if record.statement.kind == "stage" for name, digest in record.body.files.items()
              if not name.endswith(".json") and name != "metadata"]
    assert len(hidden) > 10
    for digest in hidden:
        assert "are named and never shown" in visitor.see(f"/artefacts/{digest}").text


def test_a_changed_artefact_is_said_to_be_changed(in_review: Path) -> None:
    river = open_river(in_review, writer=False)
    digest = next(record.body.files["evaluation/report.json"] for record in river.archive.made_by(SYSTEM, "model_evaluation"))
    path = river.archive.artefacts.open_path(digest)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"0.9", b"0.1", 1))
    visitor = Visitor(in_review)
    answer = visitor.get(REVIEW)
    assert answer.status_code == 503 and "cannot be shown" in answer.text
    assert "bytes" in visitor.see(f"/artefacts/{digest}").text


def change_entry_seven(root: Path) -> None:
    """As somebody who owns the file can, past the trigger."""
    with sqlite3.connect(root / ".compliance" / "ledger.db") as database:
        (trigger,) = database.execute("SELECT sql FROM sqlite_master WHERE name = 'entry_no_update'").fetchone()
        database.execute("DROP TRIGGER entry_no_update")
        database.execute("UPDATE entry SET body = CAST(replace(CAST(body AS TEXT), 'a', 'b') AS BLOB) WHERE idx = 7")
        database.execute(trigger)
    database.close()


def test_a_changed_ledger_is_not_read_as_if_nothing_were(in_review: Path) -> None:
    change_entry_seven(in_review)
    visitor = Visitor(in_review)
    for address in ("/", REVIEW, "/ledger", "/ledger/7", "/ledger/verification"):
        said = visitor.get(address).text
        assert "cannot be trusted" in said, address
        assert "waits for people" not in said and "proof and signatures hold" not in said, address


# --------------------------------------------------------------------------------------------------------------- who asks


def test_nobody_sees_anything_before_signing_in(reviewed_world: Path) -> None:
    visitor = Visitor(reviewed_world)
    for path in ("/", REVIEW, "/ledger", "/ledger/1/envelope", "/health", "/definitions", "/artefacts/" + "0" * 64, "/nowhere"):
        answer = visitor.ask("GET", path, {"accept": "text/html"})
        assert answer.status_code == 401 and "Small" not in answer.text and "Sign in" in answer.text, path
    assert visitor.ask("GET", "/health/live").text == "alive\n"


def test_the_style_sheet_and_every_page_fetch_nothing_from_elsewhere(reviewed_world: Path) -> None:
    answer = Visitor(reviewed_world).ask("GET", "/style.css")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/css")
    assert not re.search(rb"url\(|@import|https?:|expression", style())


@pytest.mark.parametrize("path", ["/", REVIEW, "/ledger/3", "/style.css", "/nowhere", "/guard/login", "/ledger/3/envelope", "/health/live"])
@pytest.mark.parametrize("signed_in", [True, False])
def test_every_answer_carries_the_headers_that_keep_strangers_out(path: str, signed_in: bool, reviewed_world: Path) -> None:
    visitor = Visitor(reviewed_world)
    headers = (visitor.get(path) if signed_in else visitor.ask("GET", path)).headers
    scripted = path == "/guard/login"  # it speaks to a passkey, with the one script
    assert headers["content-security-policy"] == CSP + ("; script-src 'self'; require-trusted-types-for 'script'" if scripted else "")
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin" and headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin" and "access-control-allow-origin" not in headers
    assert headers["cache-control"] == ("no-cache" if path == "/style.css" else "no-store")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:3100", "127.0.0.1:3101", "127.0.0.1", "localhost:3000", ""])
def test_another_host_name_is_refused(host: str, reviewed_world: Path) -> None:
    assert Visitor(reviewed_world).get("/", host=host).status_code == 421


def test_two_host_names_are_refused(reviewed_world: Path) -> None:
    import asyncio

    import httpx

    visitor = Visitor(reviewed_world)

    async def go() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(visitor.app), base_url=ORIGIN) as client:
            return await client.get("/", headers=[("host", HOST), ("host", "evil.example"), ("authorization", f"Bearer {visitor.token}")])
    assert asyncio.run(go()).status_code == 421


@pytest.mark.parametrize("headers", [
    {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:3000"}, {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, {"x-http-method-override": "DELETE"},
])
def test_a_request_from_another_page_is_refused(headers: dict[str, str], reviewed_world: Path) -> None:
    assert Visitor(reviewed_world).get("/", **headers).status_code == 403


def test_a_link_from_dagsters_pages_is_followed(reviewed_world: Path) -> None:
    headers = {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert Visitor(reviewed_world).get(REVIEW, **headers).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_the_pages_are_only_read(method: str, reviewed_world: Path) -> None:
    visitor = Visitor(reviewed_world)
    before = open_river(reviewed_world, writer=False).archive.head()
    for path in ("/", REVIEW, "/ledger", "/graphql"):
        answer = visitor.ask(method, path, {"authorization": f"Bearer {visitor.token}", "origin": ORIGIN}, "decision=approve")
        assert answer.status_code == 405, (method, path)
    assert open_river(reviewed_world, writer=False).archive.head() == before


FORM = {"origin": ORIGIN, "content-type": "application/x-www-form-urlencoded", "accept": "text/html"}


def test_a_token_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(reviewed_world: Path) -> None:
    visitor = Visitor(reviewed_world)
    answer = visitor.ask("POST", "/guard/login", FORM, urlencode({"token": visitor.token, "next": REVIEW}))
    assert answer.status_code == 303 and answer.headers["location"] == REVIEW
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and cookie.startswith("compliance_pages_3100=")
    note = cookie.split(";")[0]
    assert visitor.ask("GET", "/", {"cookie": note}).status_code == 200
    assert visitor.ask("POST", "/guard/logout", {"cookie": note}).status_code == 403
    assert visitor.ask("POST", "/guard/logout", {"cookie": note, "origin": ORIGIN}).status_code == 303
    assert visitor.ask("GET", "/", {"cookie": note}).status_code == 401
    assert visitor.ask("GET", "/", {"cookie": note[:-2] + "xx"}).status_code == 401


@pytest.mark.parametrize("following", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "\n/x", "/ä"])
def test_signing_in_never_leads_away(following: str, reviewed_world: Path) -> None:
    visitor = Visitor(reviewed_world)
    answer = visitor.ask("POST", "/guard/login", FORM, urlencode({"token": visitor.token, "next": following}))
    assert answer.status_code == 303 and answer.headers["location"] == "/"


def test_a_sign_in_form_on_another_page_is_refused(reviewed_world: Path) -> None:
    visitor = Visitor(reviewed_world)
    body = urlencode({"token": visitor.token})
    assert visitor.ask("POST", "/guard/login", {**FORM, "origin": "http://evil.example"}, body).status_code == 403
    assert visitor.ask("POST", "/guard/login", {key: value for key, value in FORM.items() if key != "origin"}, body).status_code == 403
    assert visitor.ask("POST", "/guard/login", {**FORM, "content-type": "text/plain"}, body).status_code == 403
    assert visitor.ask("POST", "/guard/login", FORM, "token=" + "a" * 9000).status_code == 413


def test_guessing_is_counted_and_stopped_even_for_the_right_token(reviewed_world: Path) -> None:
    visitor = Visitor(reviewed_world)
    statuses = [visitor.ask("POST", "/guard/login", FORM, urlencode({"token": f"wrong-{number}"})).status_code for number in range(7)]
    assert statuses == [401] * 5 + [429] * 2
    assert visitor.get("/").status_code == 429
    assert int(visitor.get("/").headers["retry-after"]) > 0


def test_only_dagsters_own_address_is_linked_outside(in_review: Path) -> None:
    page = Visitor(in_review, dagster="http://127.0.0.1:3000").see("/")
    page.check(allowed=("http://127.0.0.1:3000",))
    assert "http://127.0.0.1:3000" in page.links


def test_a_reader_of_the_pages_holds_no_key(in_review: Path) -> None:
    from compliance_assets.errors import Misused
    from compliance_assets.web.project_reading import ProjectReading

    for key in (in_review / ".compliance" / "keys").glob("*.key"):
        key.unlink()
    assert Visitor(in_review).get(REVIEW).status_code == 200
    with pytest.raises(Misused, match="opened for reading"):
        ProjectReading(in_review).river().archive.ledger.append([])


def test_a_copied_home_reads_the_same(reviewed_world: Path, tmp_path: Path) -> None:
    root = copied(reviewed_world, tmp_path / "elsewhere")
    drop = re.compile(r"read <time.*?</time>")
    assert drop.sub("", Visitor(root).see("/").answer.text) == drop.sub("", Visitor(reviewed_world).see("/").answer.text)


def test_a_ledger_changed_under_a_running_server_is_noticed(in_review: Path) -> None:
    visitor = Visitor(in_review)
    assert "waits" in visitor.see("/").text.lower()
    change_entry_seven(in_review)
    until = time.monotonic() + 10
    while time.monotonic() < until and visitor.get("/alerts").status_code == 200:
        time.sleep(0.05)
    for address in ("/", "/releases", "/dashboard", "/alerts", "/ledger"):
        answer = visitor.get(address)
        assert answer.status_code == 503 and "cannot be trusted" in answer.text, address
