"""The guard passes on what people need, and refuses every way to reach Dagster that its webserver would answer.

Behind the guard stands a small application that answers like Dagster's webserver where it matters: it executes whatever
reaches it, by any method, and remembers it. So "nothing reached Dagster" is checked on the far side, not on the status.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from compliance_assets.errors import Misused
from compliance_assets.web.forwarding import Upstream
from compliance_assets.web.graphql_rules import OPERATOR_MUTATIONS, permit, read_operation
from compliance_assets.web.guard import build_guard
from compliance_assets.web.request_rules import Refused, read_path
from compliance_assets.web.ui_users import Role, User, new_token, token_hash
from compliance_assets_tests.web.serving_asgi import free_socket, served

LAUNCH = 'mutation { launchRun(executionParams: {}) { __typename } }'
WIPE = 'mutation { wipeAssets(assetPartitionRanges: []) { __typename } }'


@dataclass
class Seen:
    """What reached the far side."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    socket_messages: list[dict[str, Any]] = field(default_factory=list)


def far_side(seen: Seen) -> Starlette:
    async def graphql(request: Request) -> Response:
        seen.headers.append(dict(request.headers))
        seen.methods.append(request.method)
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return HTMLResponse("<title>GraphiQL</title>")
        seen.asked.append(dict(request.query_params) if request.method == "GET" else json.loads(await request.body()))
        return JSONResponse({"data": {"asked": True}}, headers={"set-cookie": "dagster=1", "access-control-allow-origin": "*"})

    async def report(request: Request) -> Response:
        seen.reported.append(request.url.path)
        return JSONResponse({})

    async def events(_: Request) -> Response:
        async def lines() -> Any:
            for number in range(3):
                yield f"line {number}\n"
                await asyncio.sleep(0)
        return StreamingResponse(lines(), media_type="text/plain")

    async def page(request: Request) -> Response:
        seen.headers.append(dict(request.headers))
        return HTMLResponse("<title>Dagster</title>", headers={"Content-Security-Policy": "base-uri 'none'", "Cache-Control": "no-store"})

    async def subscriptions(socket: WebSocket) -> None:
        await socket.accept(subprotocol="graphql-ws")
        seen.headers.append(dict(socket.headers))
        try:
            while True:
                message = await socket.receive_json()
                seen.socket_messages.append(message)
                if message["type"] == "connection_init":
                    await socket.send_json({"type": "connection_ack"})
                if message["type"] == "start":
                    await socket.send_json({"type": "data", "id": message["id"], "payload": {"data": {"event": 1}}})
        except WebSocketDisconnect:
            return

    every = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(routes=[
        Route("/graphql", graphql, methods=["GET", "POST"]), WebSocketRoute("/graphql", subscriptions),
        *(Route(f"/report_asset_{what}/{{key:path}}", report, methods=every) for what in ("materialization", "check", "observation")),
        Route("/logs/run/out", events), Route("/{path:path}", page, methods=every),
    ])


@dataclass
class World:
    """A guard before the far side, with an operator and a reader."""

    port: int
    seen: Seen
    tokens: dict[str, str]

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def browser(self, name: str | None = "ada") -> Iterator[httpx.Client]:
        """A browser on our own page, signed in as `name`."""
        with httpx.Client(base_url=self.origin, headers={"origin": self.origin, "sec-fetch-site": "same-origin",
                                                         "accept": "application/json"}, trust_env=False) as client:
            if name is not None:
                answer = client.post("/guard/login", data={"token": self.tokens[name]})
                assert answer.status_code == 303, answer.text
            yield client

    def program(self, name: str = "ada") -> httpx.Client:
        """A program that sends a token and no Origin."""
        return httpx.Client(base_url=self.origin, headers={"authorization": f"Bearer {self.tokens[name]}"}, trust_env=False)

    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['ada']}"}

    def raw(self, method: str, target: str, headers: dict[str, str] | list[tuple[str, str]], body: bytes = b"") -> http.client.HTTPResponse:
        """A request exactly as written: no client tidies the path or the headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        pairs = list(headers.items()) if isinstance(headers, dict) else headers
        if not any(name.lower() == "host" for name, _ in pairs):
            pairs.insert(0, ("Host", f"127.0.0.1:{self.port}"))
        if body and not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in pairs):
            pairs.append(("Content-Length", str(len(body))))
        for name, value in pairs:
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    def untouched(self) -> bool:
        return not (self.seen.asked or self.seen.reported or self.seen.socket_messages)


@contextmanager
def a_world() -> Iterator[World]:
    seen, tokens = Seen(), {"ada": new_token(), "otto": new_token()}
    users = [User("ada", Role.OPERATOR, token_hash(tokens["ada"])), User("otto", Role.READER, token_hash(tokens["otto"]))]
    with served(far_side(seen)) as behind:
        listening = free_socket()
        port = listening.getsockname()[1]
        with served(build_guard(f"http://127.0.0.1:{behind}", "127.0.0.1", port, users), listening):
            yield World(port, seen, tokens)


@pytest.fixture(scope="module")
def place() -> Iterator[World]:
    with a_world() as shared:
        yield shared


@pytest.fixture
def world(place: World) -> World:
    """The module's guard, with nothing seen yet."""
    for seen in (place.seen.asked, place.seen.reported, place.seen.headers, place.seen.methods, place.seen.socket_messages):
        seen.clear()
    return place


@pytest.fixture
def fresh_world() -> Iterator[World]:
    """A guard of its own, for tests that use up sign-in attempts."""
    with a_world() as own:
        yield own


# ------------------------------------------------------------------------------------------------- what people need


def test_an_operator_sees_pages_asks_and_launches(world: World) -> None:
    with world.browser() as browser:
        assert "Dagster" in browser.get("/overview/runs?view=all").text
        assert browser.post("/graphql", json={"query": "{ version }"}).json() == {"data": {"asked": True}}
        assert browser.post("/graphql?op=LaunchRun", json={"operationName": "L", "variables": {"a": 1}, "query": LAUNCH.replace("mutation", "mutation L")}).is_success
    assert [body["query"].split()[0] for body in world.seen.asked] == ["{", "mutation"]
    assert world.seen.asked[1]["variables"] == {"a": 1}


def test_a_reader_asks_but_never_changes(world: World) -> None:
    with world.browser("otto") as browser:
        assert browser.post("/graphql", json={"query": "{ version }"}).is_success
        refused = browser.post("/graphql", json={"query": LAUNCH})
    assert refused.status_code == 403
    assert refused.json()["rule"] == "readers change nothing"
    assert len(world.seen.asked) == 1


def test_long_answers_stream_through(world: World) -> None:
    with world.program() as program, program.stream("GET", "/logs/run/out") as answer:
        assert answer.read() == b"line 0\nline 1\nline 2\n"


def test_a_query_by_get_is_asked_by_post(world: World) -> None:
    with world.program() as program:
        assert program.get("/graphql", params={"query": "query Q($n: Int) { version }", "variables": '{"n": 1}', "operationName": "Q"}).is_success
    assert world.seen.methods == ["POST"]
    assert world.seen.asked == [{"query": "query Q($n: Int) { version }", "variables": {"n": 1}, "operationName": "Q"}]


def test_dagster_learns_who_asked_from_the_guard_and_from_nobody_else(world: World) -> None:
    with world.browser() as browser:
        browser.post("/graphql", json={"query": LAUNCH}, headers={"X-Forwarded-User": "eve", "X-Forwarded-For": "9.9.9.9",
                                                                "Forwarded": "for=eve", "Remote-User": "eve"})
    sent = world.seen.headers[-1]
    assert sent["x-forwarded-user"] == "ada"
    assert not {"cookie", "origin", "authorization", "x-forwarded-for", "forwarded", "remote-user", "referer"} & sent.keys()


def test_dagsters_own_policy_stays_and_framing_is_forbidden(world: World) -> None:
    with world.browser() as browser:
        answer = browser.get("/overview")
    assert answer.headers.get_list("content-security-policy") == ["base-uri 'none', frame-ancestors 'none'"] or \
        answer.headers.get_list("content-security-policy") == ["base-uri 'none'", "frame-ancestors 'none'"]
    assert answer.headers["x-frame-options"] == "DENY"


def test_dagsters_cookies_and_cors_permissions_stop_at_the_guard(world: World) -> None:
    with world.browser() as browser:
        answer = browser.post("/graphql", json={"query": "{ version }"})
    assert "set-cookie" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


def test_dagster_may_listen_on_a_socket_that_no_page_can_reach(tmp_path: Path) -> None:
    seen, token, path = Seen(), new_token(), str(tmp_path / "d.sock")
    with served(far_side(seen), uds=path):
        listening = free_socket()
        port = listening.getsockname()[1]
        guard = build_guard(f"unix:{path}", "127.0.0.1", port, [User("ada", Role.OPERATOR, token_hash(token))])
        with served(guard, listening):
            answer = httpx.post(f"http://127.0.0.1:{port}/graphql", json={"query": LAUNCH}, headers={"authorization": f"Bearer {token}"}, trust_env=False)
    assert answer.is_success
    assert seen.asked[0]["query"] == LAUNCH


@pytest.mark.parametrize("address", ["http://10.0.0.7:3000", "https://127.0.0.1:3000", "http://127.0.0.1", "http://dagster.example:80", "unix:relative"])
def test_the_guard_stands_only_before_loopback_or_a_socket(address: str) -> None:
    with pytest.raises(Misused, match="cannot stand before"):
        Upstream(address)


def test_a_dagster_that_is_down_is_said_to_be_down() -> None:
    token, listening = new_token(), free_socket()
    port = listening.getsockname()[1]
    closed = free_socket()
    behind = closed.getsockname()[1]
    closed.close()
    guard = build_guard(f"http://127.0.0.1:{behind}", "127.0.0.1", port, [User("ada", Role.OPERATOR, token_hash(token))])
    with served(guard, listening):
        answer = httpx.get(f"http://127.0.0.1:{port}/", headers={"authorization": f"Bearer {token}"}, trust_env=False)
    assert answer.status_code == 502
    assert "compliance up" in answer.json()["remedy"]


# --------------------------------------------------------------------------------------------------- whom and where


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:{port}.evil.example", "localhost.evil.example:{port}", "[::1]:{port}", "2130706433:{port}", ""])
def test_a_foreign_host_is_refused(world: World, host: str) -> None:
    answer = world.raw("GET", "/", {"Host": host.format(port=world.port), **world.bearer()})
    assert answer.status in (400, 421)  # an empty Host never reaches the guard
    assert not world.seen.headers


def test_two_hosts_are_refused(world: World) -> None:
    own = f"127.0.0.1:{world.port}"
    answer = world.raw("GET", "/", [("Host", own), ("Host", own), ("Authorization", f"Bearer {world.tokens['ada']}")])
    assert answer.status in (400, 421)
    assert not world.seen.headers


def test_localhost_is_one_of_the_guards_names(world: World) -> None:
    assert world.raw("GET", "/", {"Host": f"LOCALHOST:{world.port}", **world.bearer()}).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}", "http://localhost:{port}", "http://127.0.0.1:{port}.evil.example", "", "http://127.0.0.1:{port} http://evil.example"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_pages_request_is_refused_though_it_carries_the_cookie(world: World, origin: str, method: str) -> None:
    with world.browser() as browser:
        answer = browser.request(method, "/graphql" + ("?query=%7Bversion%7D" if method == "GET" else ""), headers={"origin": origin.format(port=world.port)},
                                 json={"query": LAUNCH} if method == "POST" else None)
    assert answer.status_code == 403
    assert answer.json()["rule"] == "Origin is the guard's own"
    assert world.untouched()


def test_a_token_does_not_excuse_another_pages_origin(world: World) -> None:
    with world.program() as program:
        assert program.post("/graphql", json={"query": LAUNCH}, headers={"origin": "http://evil.example"}).status_code == 403
    assert world.untouched()


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", "unheard-of"])
def test_a_post_that_the_browser_says_is_not_ours_is_refused(world: World, site: str) -> None:
    with world.browser() as browser:
        assert browser.post("/graphql", json={"query": LAUNCH}, headers={"sec-fetch-site": site}).status_code == 403
    assert world.untouched()


@pytest.mark.parametrize(("mode", "dest", "path", "passes"), [
    ("navigate", "document", "/runs", True), ("navigate", "iframe", "/runs", False), ("no-cors", "image", "/runs", False),
    ("navigate", "document", "/graphql", False), ("cors", "empty", "/runs", False)])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_from_another_page_only_a_link_to_a_page_arrives(world: World, mode: str, dest: str, path: str, passes: bool, site: str) -> None:
    with world.browser() as browser:
        del browser.headers["origin"]
        answer = browser.get(path, headers={"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest, "accept": "text/html"})
    assert (answer.status_code == 200) is passes


def test_a_post_without_origin_needs_a_token(world: World) -> None:
    with world.browser() as browser:
        del browser.headers["origin"], browser.headers["sec-fetch-site"]
        refused = browser.post("/graphql", json={"query": LAUNCH})
    assert refused.status_code == 403 and refused.json()["value"] == "no Origin"
    assert world.untouched()
    with world.program() as program:
        assert program.post("/graphql", json={"query": LAUNCH}).is_success


# ------------------------------------------------------------------------------------------------ reporting of events


@pytest.mark.parametrize("target", [
    "/report_asset_materialization/credit/dataset", "/report_asset_check/credit/dataset", "/report_asset_observation/credit/dataset",
    "/report_asset_check", "//report_asset_check/a", "/./report_asset_check/a", "/x/../report_asset_check/a", "/%72eport_asset_check/a",
    "/%2572eport_asset_check/a", "/REPORT_ASSET_CHECK/a", "/%2Freport_asset_check/a", "/x%2F..%2Freport_asset_check/a", "/\\report_asset_check/a",
    "/report_asset_check%00/a", "/report_asset_check;x/a", "http://127.0.0.1/report_asset_check/a"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_no_event_is_reported_by_any_method_or_path(world: World, target: str, method: str) -> None:
    own = {"Origin": world.origin, "Content-Type": "application/json", **world.bearer()}
    answer = world.raw(method, target, own, b"" if method in ("GET", "HEAD") else b'{"passed": true}')
    assert answer.status in (400, 403, 405)
    assert not world.seen.reported


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_header_cannot_rename_the_method(world: World, header: str) -> None:
    with world.program() as program:
        assert program.get("/runs", headers={header: "POST"}).json()["rule"] == "no method override"
    assert not world.seen.headers


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "POST"])
def test_other_methods_are_not_answered(world: World, method: str) -> None:
    answer = world.raw(method, "/runs", {"Origin": world.origin, **world.bearer()})
    assert answer.status == 405
    assert not world.seen.headers


# ------------------------------------------------------------------------------------------------------------ GraphQL


@pytest.mark.parametrize("accept", ["*/*", "image/avif,image/webp,*/*", "application/json", "text/html"])
def test_no_mutation_by_get(world: World, accept: str) -> None:
    with world.program() as program:
        answer = program.get("/graphql", params={"query": LAUNCH}, headers={"accept": accept})
    assert answer.status_code == 403
    assert "mutations come by POST only" in answer.text
    assert world.untouched()


@pytest.mark.parametrize("target", [
    "/GraphQL?query={q}", "/graphql/?query={q}", "/%67raphql?query={q}", "//graphql?query={q}", "/./graphql?query={q}", "/graphql;x?query={q}",
    "/graphql%2f?query={q}", "/graphql?query={q}&query=%7Bversion%7D", "/graphql?query=%7Bversion%7D&query={q}", "/graphql?QUERY={q}&query=%7Bversion%7D",
    "/graphql?query=%7Bversion%7D;query={q}", "/graphql?%71uery={q}"])
def test_no_mutation_by_get_under_any_spelling(world: World, target: str) -> None:
    answer = world.raw("GET", target.format(q=quote(LAUNCH)), world.bearer())
    assert answer.status in (400, 403)
    assert world.untouched()


def test_a_get_with_a_body_is_refused(world: World) -> None:
    body = json.dumps({"query": LAUNCH}).encode()
    answer = world.raw("GET", "/graphql?query=%7Bversion%7D", {"Content-Type": "application/json", **world.bearer()}, body)
    assert answer.status == 403
    chunked = [("Transfer-Encoding", "chunked"), ("Authorization", f"Bearer {world.tokens['ada']}")]
    assert world.raw("GET", "/runs", chunked, b"0\r\n\r\n").status == 403
    assert world.untouched()


@pytest.mark.parametrize("query", [
    "mutation { %s(x: 1) }", "mutation { launchRun: %s(x: 1) }", "mutation { launchRun(x: 1) %s(x: 1) }", "mutation { ... { %s(x: 1) } }",
    "mutation { ... on Mutation @include(if: true) { launchRun ... on Mutation { %s } } }", "mutation M { ...F } fragment F on Mutation { %s(x: 1) }",
    "mutation M { ...F } fragment F on Mutation { ...G } fragment G on Mutation { %s }", "mutation { %s @skip(if: true) }", "#launchRun\nmutation{%s}",
    "\ufeffmutation { %s }", "mutation,,,{,%s,}"])
@pytest.mark.parametrize("name", ["reportRunlessAssetEvents", "reportAssetCheckEvaluations", "deletePipelineRun", "deleteRun", "wipeAssets",
                                  "deleteDynamicPartitions", "setConcurrencyLimit", "shutdownRepositoryLocation", "launchrun"])
def test_a_mutation_that_nobody_needs_is_refused_however_it_is_written(world: World, query: str, name: str) -> None:
    assert name not in OPERATOR_MUTATIONS
    with world.program() as program:
        answer = program.post("/graphql", json={"query": query % name})
    assert answer.status_code == 403
    assert answer.json()["rule"] in ("mutations are allowed by name", "GraphQL is read one way")
    assert world.untouched()


@pytest.mark.parametrize("body", [
    [{"query": LAUNCH}], [], {}, {"query": None}, {"query": ["{ version }"]}, {"query": ""}, {"query": "mutation {"}, {"query": "{ version } " + LAUNCH},
    {"query": f"query A {{ version }} {LAUNCH.replace('mutation', 'mutation B')}", "operationName": "A"}, {"query": "type X { y: Int }"},
    {"query": "{ version }", "variables": [1]}, {"query": "{ version }", "variables": "{}"}, {"query": "{ version }", "operationName": 7},
    {"query": "{ version }", "mutation": WIPE}, {"id": "persisted"}, {"query": "mutation { ...F } fragment F on Mutation { ...F }"},
    {"query": "mutation { ...Nowhere }"}, {"query": "{" * 5000}, {"query": "{ a(b: " + "[" * 3000 + "]" * 3000 + ") }"},
    {"query": "subscription { pipelineRunLogs }"}, {"query": "{ " + "a " * 30_000 + "}"}])
def test_a_request_that_is_not_one_readable_operation_is_refused(world: World, body: object) -> None:
    with world.program() as program:
        answer = program.post("/graphql", json=body)
    assert answer.status_code == 403
    assert answer.json()["errors"][0]["message"]
    assert world.untouched()


@pytest.mark.parametrize(("kind", "content"), [
    ("application/x-www-form-urlencoded", f"query={quote(LAUNCH)}".encode()), ("text/plain", json.dumps({"query": LAUNCH}).encode()),
    ("application/graphql", LAUNCH.encode()), ("", b""), ("multipart/form-data; boundary=x", b"--x\r\n\r\n--x--"),
    ("application/json; charset=utf-16", json.dumps({"query": LAUNCH}).encode("utf-16")), ("application/json", b'{"query": "{ version }", "query": "mutation { wipeAssets }"}'),
    ("application/json", b"\xff\xfe"), ("application/json", b'{"query": "{ version }", "variables": {"x": NaN}}'), ("text/html, application/json", b"{}"),
    ("application/json, application/graphql", LAUNCH.encode()), ("application/jsonp", b"{}")])
def test_a_post_in_another_form_is_refused(world: World, kind: str, content: bytes) -> None:
    with world.program() as program:
        assert program.post("/graphql", content=content, headers={"content-type": kind}).status_code == 403
    assert world.untouched()


def test_a_query_in_the_address_of_a_post_is_refused(world: World) -> None:
    with world.program() as program:
        for name in ("query", "QUERY", "variables", "operationName"):
            answer = program.post("/graphql", params={name: LAUNCH}, json={"query": "{ version }"})
            assert answer.status_code == 403
    assert world.untouched()


def test_an_enormous_request_is_refused(world: World) -> None:
    with world.program() as program:
        assert program.post("/graphql", content=b" " * (5 << 20), headers={"content-type": "application/json"}).status_code == 413


@given(st.text(max_size=40))
def test_text_is_either_one_operation_or_refused(text: str) -> None:
    try:
        operation = read_operation(text)
    except Refused:
        return
    assert operation.kind in ("query", "mutation", "subscription") and operation.fields


@given(st.sampled_from(sorted(OPERATOR_MUTATIONS)), st.text("abcdefghijklmnopqrstuvwxyzABC", min_size=1, max_size=12))
def test_no_name_near_an_allowed_one_is_allowed(name: str, other: str) -> None:
    permit(read_operation(f"mutation {{ {name} }}"), "POST", Role.OPERATOR)
    if name + other not in OPERATOR_MUTATIONS:
        with pytest.raises(Refused):
            permit(read_operation(f"mutation {{ {name}{other} }}"), "POST", Role.OPERATOR)


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_no_path_that_decodes_to_the_reporting_endpoints_is_read(before: bytes, after: bytes) -> None:
    raw = b"/" + quote(before).encode() + b"/" + quote(b"report_asset_check").replace("r", "%72").encode() + quote(after).encode()
    with pytest.raises(Refused):
        read_path(raw)


# ---------------------------------------------------------------------------------------------------------- WebSocket


async def _talk(world: World, messages: list[Any], *, origin: str | None = None, host: str | None = None, cookie: str | None = None,
                bearer: bool = True, path: str = "/graphql", protocol: str = "graphql-ws") -> list[dict[str, Any]]:
    """Open a WebSocket, send the messages, and give back everything that came until it was closed or quiet."""
    headers = dict(world.bearer()) if bearer else {}
    headers |= {"Cookie": cookie} if cookie else {}
    headers |= {"Host": host} if host else {}
    heard: list[dict[str, Any]] = []
    async with connect(f"ws://127.0.0.1:{world.port}{path}", subprotocols=[protocol], additional_headers=headers, origin=origin, proxy=None) as socket:  # type: ignore[arg-type,list-item]
        for message in messages:
            await socket.send(message if isinstance(message, bytes | str) else json.dumps(message))
        try:
            async with asyncio.timeout(1.0):
                async for message in socket:
                    heard.append(json.loads(message))
        except TimeoutError:
            pass
        except ConnectionClosed as closed:
            heard.append({"closed": closed.rcvd.code if closed.rcvd else None})
    return heard


def test_subscriptions_pass_and_dagster_learns_who_listens(world: World) -> None:
    start = {"type": "start", "id": "1", "payload": {"query": "subscription { pipelineRunLogs }", "variables": {}}}
    heard = asyncio.run(_talk(world, [{"type": "connection_init"}, start, {"type": "stop", "id": "1"}]))
    assert [message["type"] for message in heard] == ["connection_ack", "data"]
    assert world.seen.headers[-1]["x-forwarded-user"] == "ada"
    assert [message["type"] for message in world.seen.socket_messages] == ["connection_init", "start", "stop"]


@pytest.mark.parametrize("message", [
    {"type": "start", "id": "1", "payload": {"query": WIPE}}, {"type": "start", "id": "1", "payload": {"query": LAUNCH}},
    {"type": "subscribe", "id": "1", "payload": {"query": WIPE}}, {"type": "start", "id": "1", "payload": {"query": "{ version }"}},
    {"type": "start", "id": "1", "payload": {"query": "subscription { a } " + WIPE, "operationName": None}}, [{"type": "start", "payload": {"query": WIPE}}],
    {"type": "start", "id": "1", "payload": {"query": "subscription S { a } mutation M { wipeAssets }", "operation_name": "M"}},
    {"type": "start", "id": "1", "payload": "mutation"}, {"type": "start", "id": "1"}, {"type": ["start"], "id": "1"}, {"type": "start", "id": {}},
    '{"type": "stop", "type": "start", "id": "1", "payload": {"query": "mutation { wipeAssets }"}}', "not json", b"\x00\x01"])
def test_a_mutation_by_websocket_ends_the_connection(world: World, message: Any) -> None:
    heard = asyncio.run(_talk(world, [message]))
    assert heard[0]["type"] == "connection_error" and heard[0]["payload"]["rule"]
    assert heard[-1] == {"closed": 1008}
    assert not world.seen.socket_messages


def test_another_pages_websocket_is_refused_though_it_carries_the_cookie(world: World) -> None:
    with world.browser() as browser:
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    assert asyncio.run(_talk(world, [{"type": "connection_init"}], origin=world.origin, cookie=cookie, bearer=False))[0]["type"] == "connection_ack"
    for refused in ({"origin": "http://evil.example"}, {"origin": None}, {"origin": "http://127.0.0.1:1"}):
        with pytest.raises(InvalidStatus) as said:
            asyncio.run(_talk(world, [], cookie=cookie, bearer=False, **refused))
        assert said.value.response.status_code == 403


@pytest.mark.parametrize(("wrong", "status"), [({"host": "evil.example"}, 421), ({"bearer": False}, 403), ({"path": "/graphql?x=1"}, 403), ({"path": "/runs"}, 403),
                                               ({"path": "/report_asset_check/a"}, 403), ({"protocol": "graphql-transport-ws"}, 403)])
def test_a_websocket_that_breaks_a_rule_is_never_opened(world: World, wrong: dict[str, Any], status: int) -> None:
    with pytest.raises((InvalidStatus, ValueError)) as said:
        asyncio.run(_talk(world, [], **wrong))
    if isinstance(said.value, InvalidStatus):
        assert said.value.response.status_code == status
    assert not world.seen.headers


# ------------------------------------------------------------------------------------------------------------ sign-in


def test_nobody_is_signed_in_at_first(world: World) -> None:
    with world.browser(None) as stranger:
        asked = stranger.post("/graphql", json={"query": "{ version }"})
        page = stranger.get("/runs/abc?x=1", headers={"accept": "text/html"})
    assert asked.status_code == 401 and asked.json()["rule"] == "sign-in"
    assert page.status_code == 401 and 'value="/runs/abc?x=1"' in page.text
    assert world.untouched() and not world.seen.headers


def test_the_cookie_is_for_this_site_and_not_for_scripts(world: World) -> None:
    with world.browser(None) as browser:
        answer = browser.post("/guard/login", data={"token": world.tokens["ada"], "next": "/runs/abc"})
    cookie = answer.headers["set-cookie"].lower()
    assert answer.headers["location"] == "/runs/abc"
    assert "httponly" in cookie and "samesite=strict" in cookie and "max-age=28800" in cookie and "path=/" in cookie
    assert world.tokens["ada"] not in cookie
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("following", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\nx", "/ü", ""])
def test_signing_in_leads_nowhere_else(world: World, following: str) -> None:
    with world.browser(None) as browser:
        answer = browser.post("/guard/login", data={"token": world.tokens["ada"], "next": following})
    assert answer.headers["location"] == "/"


def test_the_login_page_is_not_cached_framed_or_scripted(world: World) -> None:
    with world.browser(None) as browser:
        page = browser.get("/guard/login", headers={"accept": "text/html"})
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe-inline" not in policy
    assert page.headers["cache-control"] == "no-store"
    assert "<script" not in page.text


def test_what_a_refusal_quotes_is_escaped(world: World) -> None:
    with world.browser() as browser:
        page = browser.get("/graphql", params={"query": "<script>alert(1)</script>"}, headers={"accept": "text/html"})
    assert page.status_code == 403 and "<script>" not in page.text


def test_guessing_is_stopped_and_the_signed_in_are_not(fresh_world: World) -> None:
    with fresh_world.browser() as signed_in, fresh_world.browser(None) as guesser:
        said = [guesser.post("/guard/login", data={"token": f"guess {number}"}).status_code for number in range(6)]
        right = guesser.post("/guard/login", data={"token": fresh_world.tokens["ada"]})
        assert said == [401] * 5 + [429]
        assert right.status_code == 429 and 0 < int(right.headers["retry-after"]) <= 61
        assert signed_in.post("/graphql", json={"query": "{ version }"}).is_success


def test_another_page_can_neither_guess_nor_lock_out(world: World) -> None:
    with world.browser(None) as browser:
        for _ in range(8):
            assert browser.post("/guard/login", data={"token": "x"}, headers={"origin": "http://evil.example"}).status_code == 403
        assert browser.post("/guard/login", data={"token": world.tokens["ada"]}).status_code == 303


def test_signing_out_ends_the_session_everywhere(world: World) -> None:
    with world.browser() as browser:
        kept = dict(browser.cookies)
        assert browser.post("/guard/logout").status_code == 303
        with world.browser(None) as thief:
            thief.cookies.update(kept)
            assert thief.post("/graphql", json={"query": "{ version }"}).status_code == 401


@pytest.mark.parametrize("spoil", [lambda note: note[:-1] + ("A" if note[-1] != "A" else "B"), lambda note: "." + note.split(".")[1], lambda note: note.split(".")[0],
                                   lambda note: "A" + note, lambda note: "", lambda note: note + ".x"])
def test_a_changed_cookie_is_nobodys(world: World, spoil: Any) -> None:
    with world.browser() as browser:
        name, note = next(iter(browser.cookies.items()))
        browser.cookies.clear()
        assert browser.post("/graphql", json={"query": "{ version }"}, headers={"cookie": f"{name}={spoil(note)}"}).status_code == 401


def test_two_cookies_of_the_name_are_nobodys(world: World) -> None:
    with world.browser() as browser:
        name, note = next(iter(browser.cookies.items()))
        browser.cookies.clear()
        assert browser.post("/graphql", json={"query": "{ version }"}, headers={"cookie": f"{name}={note}; {name}={note}"}).status_code == 401


@pytest.mark.parametrize("header", ["Bearer wrong", "Basic YTpi", "Bearer", ""])
def test_a_wrong_authorization_is_refused_and_the_cookie_does_not_help(fresh_world: World, header: str) -> None:
    with fresh_world.browser() as browser:
        assert browser.post("/graphql", json={"query": "{ version }"}, headers={"authorization": header}).status_code == 401
    assert fresh_world.untouched()
