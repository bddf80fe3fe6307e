"""The lock before Dagster's web pages: who asks, from which page, and for what; then, and only then, it is passed on.

Dagster's webserver has no sign-in, executes mutations from any page that the operator's browser opens (even by GET), and
takes forged events over HTTP. The river survives all of that, because the dossier decides and not Dagster's event log;
people should still not have to. Each request meets, in this order: its address, path, method and origin (`request_rules`),
sign-in (`sessions`), and, for GraphQL, what it would execute (`graphql_rules`).

1. `POST /guard/login` exchanges a token for a cookie (HttpOnly, SameSite=Strict, 8 hours); wrong tokens are counted.
2. A program sends `Authorization: Bearer TOKEN` instead; only then may a POST come without an Origin.
3. Cookies do not tell ports apart, so another local page's request carries ours: Origin and Fetch Metadata decide, not it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from compliance_assets.web.forwarding import Upstream
from compliance_assets.web.graphql_rules import (
    GraphqlRequest,
    permit,
    read_body,
    read_parameters,
)
from compliance_assets.web.guard_pages import PRIVATE, login_page, refusal, signed_in_page
from compliance_assets.web.request_rules import (
    GRAPHQL,
    LOGIN,
    LOGOUT,
    OwnNames,
    Refused,
    check_fetch_site,
    check_method,
    comes_from_own_page,
    read_path,
)
from compliance_assets.web.sessions import Session
from compliance_assets.web.sign_in import SignIn, own_path, whole_body
from compliance_assets.web.subscriptions import carry
from compliance_assets.web.ui_users import User

if TYPE_CHECKING:
    import socket

LARGEST_BODY = 4 << 20
log = logging.getLogger("compliance_assets.guard")


def _tell(event: str, **facts: object) -> None:
    log.info("%s", json.dumps({"event": event, **facts}, default=str))


class Guard:
    """One ASGI application: every request is refused with a reason, answered here, or passed on to Dagster."""

    def __init__(self, upstream: Upstream, names: OwnNames, port: int, users: Iterable[User]) -> None:
        self._upstream = upstream
        self._names = names
        self._door = SignIn(users, f"compliance_guard_{port}", LOGIN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(WebSocket(scope, receive, send))
            return
        request = Request(scope, receive, send)
        try:
            response = await self._http(request)
        except Refused as error:
            _tell("refused", status=error.status, rule=error.rule, value=error.value, method=request.method,
                  path=scope["path"][:120], client=request.client.host if request.client else None)
            response = self._refusal(request, error)
        await response(scope, receive, send)

    def _refusal(self, request: Request, error: Refused) -> Response:
        as_page = "text/html" in request.headers.get("accept", "")
        if error.status == 401 and as_page and request.method == "GET":
            query = request.url.query
            following = own_path(request.url.path + (f"?{query}" if query else ""))
            return login_page(401, following="/" if following.startswith(LOGIN) else following)
        response = refusal(error, as_page=as_page)
        if error.status == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="compliance"'
        if error.status == 429:
            response.headers["Retry-After"] = error.value
        return response

    # ------------------------------------------------------------------------------------------------------- HTTP

    async def _http(self, request: Request) -> Response:
        host = self._names.check(request.headers)
        path = read_path(request.scope["raw_path"])
        check_method(request.method, path, request.headers)
        changes = request.method == "POST"
        own = comes_from_own_page(request.headers, host)
        check_fetch_site(request.method, path, request.headers, changes=changes)
        if path == LOGIN:
            return await self._login(request, own)
        session = self._door.session(request.headers, from_own_page=own, changes=changes)
        if path == LOGOUT:
            if not changes:
                raise Refused("Signing out is a POST.", status=405, rule="methods", value=request.method, remedy=f"Open {LOGIN}.")
            self._door.sessions.end(session)
            left = RedirectResponse(LOGIN, status_code=303, headers=PRIVATE)
            left.delete_cookie(self._door.cookie, path="/", httponly=True, samesite="strict")
            return left
        if path == GRAPHQL:
            return await self._graphql(request, session)
        return await self._upstream.read(request.method, path, request.scope["query_string"], request.headers,
                                         session.user.name)

    async def _graphql(self, request: Request, session: Session) -> Response:
        pairs = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if request.method == "POST":
            # The pages add ?op=NAME for their own logs; anything that Dagster could read as part of the query is refused.
            if {name.lower() for name, _ in pairs} - {"op"}:
                raise Refused("A POST carries its query in the body only.", status=403, rule="GraphQL is read one way",
                              value=f"{[name for name, _ in pairs]!r:.80}", remedy="Leave the address without parameters.")
            asked = read_body(request.headers.get("content-type", ""), await whole_body(request, LARGEST_BODY))
            permit(asked.operation, "POST", session.user.role)
        elif not pairs and "text/html" in request.headers.get("accept", ""):
            return await self._upstream.read(request.method, GRAPHQL, b"", request.headers, session.user.name)
        else:
            asked = read_parameters(pairs)
            permit(asked.operation, "GET", session.user.role)
        return await self._ask(asked, request.headers, session)

    async def _ask(self, asked: GraphqlRequest, headers: Mapping[str, str], session: Session) -> Response:
        if asked.operation.kind == "mutation":
            _tell("mutation", user=session.user.name, fields=asked.operation.fields)
        # Dagster answers a GET that accepts HTML with a page; what was read as a query is asked as one.
        return await self._upstream.ask(asked.body(), {**headers, "accept": "application/json"}, session.user.name)

    async def _login(self, request: Request, from_own_page: bool) -> Response:
        if request.method != "POST":
            session = self._door.signed_in(request.headers)
            return signed_in_page(session) if session else login_page(200)
        token, following = await self._door.form(request, from_own_page=from_own_page)
        try:
            user = self._door.check_token(token)
        except Refused as error:
            _tell("refused", status=error.status, rule=error.rule, path=LOGIN)
            page = login_page(error.status, following=following, said=str(error))
            if error.status == 429:
                page.headers["Retry-After"] = error.value
            return page
        _tell("signed in", user=user.name, role=user.role)
        answer = RedirectResponse(following, status_code=303, headers=PRIVATE)
        answer.set_cookie(self._door.cookie, self._door.sessions.start(user), max_age=self._door.sessions.seconds, path="/",
                          httponly=True, samesite="strict")
        return answer

    # -------------------------------------------------------------------------------------------------- WebSocket

    async def _websocket(self, socket: WebSocket) -> None:
        try:
            host = self._names.check(socket.headers)
            path = read_path(socket.scope["raw_path"])
            if path != GRAPHQL or socket.scope["query_string"]:
                raise Refused("Subscriptions live at one address.", status=403, rule="WebSocket address", value=path[:80],
                              remedy=f"Connect to {GRAPHQL}.")
            own = comes_from_own_page(socket.headers, host)
            check_fetch_site("GET", path, socket.headers, changes=True)
            # A handshake from another page would carry the cookie, and its answers can be read: it counts as a change.
            session = self._door.session(socket.headers, from_own_page=own, changes=True)
            if "graphql-ws" not in socket.scope["subprotocols"]:
                raise Refused("This WebSocket speaks graphql-ws only.", status=403, rule="WebSocket protocol",
                              value=", ".join(socket.scope["subprotocols"])[:80], remedy="Ask for the subprotocol graphql-ws.")
        except Refused as error:
            _tell("refused", status=error.status, rule=error.rule, value=error.value, method="WebSocket")
            await socket.send_denial_response(refusal(error, as_page=False))
            return
        await carry(socket, session, self._upstream)


def build_guard(upstream: str, host: str, port: int, users: Iterable[User]) -> Starlette:
    """The guard as an application that answers as `host:port` for `users`, before Dagster's webserver at `upstream`.

    `upstream` is `unix:/path` (best: no page can reach it) or `http://127.0.0.1:PORT`; anything else raises `Misused`.
    """
    dagster = Upstream(upstream)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await dagster.close()

    guard = Guard(dagster, OwnNames.of(host, port), port, users)
    return Starlette(routes=[Mount("/", app=guard)], lifespan=lifespan)


def run_guard(upstream: str, host: str, port: int, users: Iterable[User], *, listening: socket.socket | None = None) -> None:
    """Serve the guard until it is told to stop (SIGINT, SIGTERM). `listening`: an already bound socket for this port."""
    import uvicorn

    # proxy_headers=False: nobody stands before us, so X-Forwarded-* from outside is somebody's invention.
    config = uvicorn.Config(build_guard(upstream, host, port, users), host=host, port=port, proxy_headers=False,
                            server_header=False, access_log=False, log_level="warning", ws_max_size=1 << 20)
    uvicorn.Server(config).run(sockets=[listening] if listening is not None else None)
