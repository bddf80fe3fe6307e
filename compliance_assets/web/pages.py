"""The governance pages: what is in production, what waits for whom, what was refused and why, and the evidence for all of it.

One ASGI application; every page is whole when it arrives, and only those that speak to a passkey have a script. It holds no key: people
sign with their own, here (`desk`) or on the command line. Each request meets, in this order, its address, path, method and origin
(`request_rules`), sign-in (`sign_in`, `people`), and then a view that asks `governance` for plain data and hands it to a template.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from compliance_assets.errors import ComplianceError, Misused
from compliance_assets.web.desk import Desk
from compliance_assets.web.page_views import VIEWS
from compliance_assets.web.passkey_views import ACTIONS, Action, Asker, Visit
from compliance_assets.web.people import People
from compliance_assets.web.project_reading import ProjectReading
from compliance_assets.web.rendering import PRIVATE, page, script, style
from compliance_assets.web.request_rules import (
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
from compliance_assets.web.sign_in import SignIn, own_path
from compliance_assets.web.ui_users import User

if TYPE_CHECKING:
    import socket

STYLE, SCRIPT, ALIVE = "/style.css", "/passkey.js", "/health/live"
LARGEST_FORM = 1 << 16
log = logging.getLogger("compliance_assets.pages")


class Pages:
    """One ASGI application: every request is refused with a reason, or answered with a page."""

    def __init__(self, project: ProjectReading, names: OwnNames, port: int, users: Iterable[User], dagster: str = "",
                 clock: Callable[[], float] = time.time) -> None:
        self._project = project
        declared = project.declared_pages()
        self._names = names.behind(declared.origin) if declared is not None else names
        origin = declared.origin if declared is not None else f"http://localhost:{port}"
        self._people = People(lambda: project.river().archive.in_force(), origin, declared, clock)
        self._desk = Desk(self._people, clock)
        self._door = SignIn(users, f"compliance_pages_{port}", LOGIN, people=self._people.users, clock=clock)
        self._dagster = dagster

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("the pages speak HTTP only")
        request = Request(scope, receive, send)
        session: Session | None = None
        try:
            answer = await self._answer(request)
        except Refused as error:
            log.info("%s", json.dumps({"event": "refused", "status": error.status, "rule": error.rule, "method": request.method,
                                       "path": scope["path"][:120]}))
            answer = self._refusal(request, error, session)
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        host = self._names.check(request.headers)
        path = read_path(request.scope["raw_path"])
        action, parts, shown_on = next(((one, found.groupdict(), again) for pattern, one, again in ACTIONS
                                        if (found := re.fullmatch(pattern, path))), (None, {}, ""))
        check_method(request.method, path, request.headers, posts=action is not None)
        changes = request.method == "POST"
        if changes and path not in (LOGIN, LOGOUT) and action is None:
            raise Refused("This page is only read.", status=405, rule="methods", value=f"{request.method} {path}"[:80],
                          remedy="Decisions are signed on the review page, or with `compliance approve`, `reject` or `defer`.")
        own = comes_from_own_page(request.headers, host, self._names)
        check_fetch_site(request.method, path, request.headers, changes=changes)
        if path == STYLE:
            return Response(style(), media_type="text/css", headers={**PRIVATE, "Cache-Control": "no-cache"})
        if path == SCRIPT:
            return Response(script(), media_type="text/javascript", headers={**PRIVATE, "Cache-Control": "no-cache"})
        if path == ALIVE:
            return PlainTextResponse("alive\n", headers=PRIVATE)
        if path == LOGIN:
            return await self._login(request, own)
        session = await run_in_threadpool(self._session, request, own, changes)
        if path == LOGOUT:
            return self._logout(session, changes)
        if changes and action is not None:
            form = await self._door.fields(request, from_own_page=own, largest=LARGEST_FORM)
            return await run_in_threadpool(self._act, action, session, parts, form, shown_on.format(**parts))
        return await run_in_threadpool(self._view, request, path, session)

    def _session(self, request: Request, own: bool, changes: bool) -> Session:
        """Who asks: the trusted proxy's person, or whoever signed in here."""
        proxied = self._people.from_proxy(request)
        if proxied is None:
            return self._door.session(request.headers, from_own_page=own, changes=changes)
        if changes and not own:
            raise Refused("This request does not say which page sent it.", status=403, rule="Origin is the guard's own", value="no Origin",
                          remedy="Use these pages' own forms.")
        return proxied

    def _act(self, action: Action, session: Session, parts: dict[str, str], form: dict[str, str], shown_on: str) -> Response:
        """A form that changes something: the one place where a refusal of it becomes a page.

        `shown_on`: where the form stands; it is shown again there, with what was written in it, so that nothing is lost.
        """
        common = self._common(session)
        try:
            visit = Visit(self._project.river(), self._desk, self._people, self._door.sessions, session, common)
            return action(visit, {**form, **parts})
        except Refused:
            raise
        except ComplianceError as error:
            log.info("%s", json.dumps({"event": "not signed", "user": session.user.name, "rule": error.rule}))
            if shown_on:
                again = self._at(shown_on, {}, {**common, "given": {**form, **parts}, "not_signed": error})
                if again.status_code == 200:
                    again.status_code = 409
                return again
            return page("problem.html", 409, **common, section="", title="Nothing was signed", message=error.message, rule=error.rule,
                        value=error.value[:200], remedy=error.remedy)

    # ------------------------------------------------------------------------------------------------------- pages

    def _view(self, request: Request, path: str, session: Session) -> Response:
        # What stands after the ? is told apart from the address, so that it can never take the place of a checked part of it.
        return self._at(path, {f"?{name}": value for name, value in request.query_params.items()}, self._common(session))

    def _at(self, path: str, asked: dict[str, str], common: dict[str, Any]) -> Response:
        """The page of that address; the one place where a refusal of the house becomes a page."""
        view, parts = next(((one, found.groupdict()) for pattern, one in VIEWS if (found := re.fullmatch(pattern, path))), (None, {}))
        if view is None:
            return page("problem.html", 404, **common, section="", title="There is no such page", message="Nothing here has this address.",
                        rule="address", value=path[:120], remedy="Start from the front page.")
        try:
            return view(self._project.now(), {**asked, **parts}, common)
        except ComplianceError as error:
            absent = isinstance(error, Misused)
            return page("problem.html", 404 if absent else 503, **common, section="",
                        title="Not found" if absent else "This cannot be shown", message=error.message, rule=error.rule,
                        value=error.value[:200], remedy=error.remedy)

    def _common(self, session: Session | None) -> dict[str, Any]:
        return {"user": session.user if session else None, "asker": Asker(session, self._door.sessions, self._people),
                "dagster": self._dagster, "now": datetime.now(UTC), "logout": LOGOUT, "given": {}, "not_signed": None}

    def _refusal(self, request: Request, error: Refused, session: Session | None) -> Response:
        as_page = "text/html" in request.headers.get("accept", "")
        if error.status == 401 and as_page and request.method == "GET":
            query = request.url.query
            following = own_path(request.url.path + (f"?{query}" if query else ""))
            return self._sign_in_page(401, "/" if following.startswith(LOGIN) else following)
        answer: Response = page("problem.html", error.status, **self._common(session), section="", title="Refused", message=error.message,
                                rule=error.rule, value=error.value, remedy=error.remedy)
        if error.status == 401:
            answer.headers["WWW-Authenticate"] = 'Bearer realm="compliance"'
        if error.status == 429:
            answer.headers["Retry-After"] = error.value
        return answer

    # ----------------------------------------------------------------------------------------------------- sign-in

    async def _login(self, request: Request, from_own_page: bool) -> Response:
        if request.method != "POST":
            session = await run_in_threadpool(self._door.signed_in, request.headers)
            return RedirectResponse("/", status_code=303, headers=PRIVATE) if session else self._sign_in_page(200, "/")
        form = await self._door.fields(request, from_own_page=from_own_page)
        following, by_passkey = own_path(form.get("next", "/")), "question" in form
        try:
            user = (await run_in_threadpool(self._people.answered, form["question"], form) if by_passkey
                    else self._door.check_token(form.get("token", "").strip()))
        except Refused as error:
            answer = self._sign_in_page(error.status, following, str(error))
            if error.status == 429:
                answer.headers["Retry-After"] = error.value
            return answer
        log.info("%s", json.dumps({"event": "signed in", "user": user.name, "role": user.role, "by": "passkey" if by_passkey else "token"}))
        entered = RedirectResponse(following, status_code=303, headers=PRIVATE)
        entered.set_cookie(self._door.cookie, self._door.sessions.start(user, person=by_passkey), max_age=self._door.sessions.seconds,
                           path="/", httponly=True, samesite="strict", secure=self._people.origin.startswith("https:"))
        return entered

    def _sign_in_page(self, status: int, following: str, said: str = "") -> Response:
        return page("sign_in.html", status, **self._common(None), section="", following=following, said=said, login=LOGIN,
                    question=self._people.question(), party=self._people.party, origin=self._people.origin)

    def _logout(self, session: Session, changes: bool) -> Response:
        if not changes:
            raise Refused("Signing out is a POST.", status=405, rule="methods", value="GET", remedy=f"Open {LOGIN}.")
        self._door.sessions.end(session)
        left = RedirectResponse(LOGIN, status_code=303, headers=PRIVATE)
        left.delete_cookie(self._door.cookie, path="/", httponly=True, samesite="strict")
        return left


def build_pages(root: Path, host: str, port: int, users: Iterable[User], *, home: Path | None = None, dagster: str = "",
                clock: Callable[[], float] = time.time) -> Starlette:
    """The pages of the project at `root` as an application that answers as `host:port` for `users`; `dagster`: where its pages answer."""
    return _application(ProjectReading(root, home), host, port, users, dagster, clock)


def _application(project: ProjectReading, host: str, port: int, users: Iterable[User], dagster: str,
                 clock: Callable[[], float]) -> Starlette:
    pages = Pages(project, OwnNames.of(host, port), port, users, dagster, clock)
    return Starlette(routes=[Mount("/", app=pages)])


def run_pages(root: Path, host: str, port: int, users: Iterable[User], *, home: Path | None = None, dagster: str = "",
              listening: socket.socket | None = None, started: Callable[[], None] = lambda: None) -> None:
    """Serve the pages until told to stop (SIGINT, SIGTERM). `listening`: an already bound socket for this port."""
    import uvicorn

    project = ProjectReading(root, home)
    threading.Thread(target=project.warm, daemon=True).start()
    config = uvicorn.Config(_application(project, host, port, users, dagster, time.time), host=host, port=port, proxy_headers=False,
                            server_header=False, access_log=False, log_level="warning", ws="none")
    started()
    uvicorn.Server(config).run(sockets=[listening] if listening is not None else None)
