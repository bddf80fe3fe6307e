"""Who is asking? A token is exchanged for a cookie once, wrong tokens are counted, and every later request shows the cookie.

The same users, roles and tokens as before Dagster's pages (`ui_users`), with a cookie of each port's own. A program sends
`Authorization: Bearer TOKEN` instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import Request

from compliance_assets.web.request_rules import Refused
from compliance_assets.web.sessions import Attempts, People, Session, Sessions
from compliance_assets.web.ui_users import User, user_of

LARGEST_LOGIN = 8192


def own_path(text: str) -> str:
    """Where to go after signing in: a path of ours, or the front page; never another host (`//host`, `/\\host`)."""
    if not text.startswith("/") or text[1:2] in ("/", "\\") or not text.isascii() or not text.isprintable():
        return "/"
    return text


async def whole_body(request: Request, largest: int) -> bytes:
    """The whole body, as long as it is not larger than it may be (bytes)."""
    read = bytearray()
    async for piece in request.stream():
        read += piece
        if len(read) > largest:
            raise Refused("This request is too large.", status=413, rule="size of a request", value=f"over {largest} bytes",
                          remedy="Send less at once.")
    return bytes(read)


class SignIn:
    """The users of one port, their sessions, and how often somebody guessed."""

    def __init__(self, users: Iterable[User], cookie: str, login: str, *, people: People = lambda name: (),
                 clock: Callable[[], float] = time.time) -> None:
        self.cookie = cookie
        self.sessions = Sessions(users, people=people, clock=clock)
        self._login = login
        self._attempts = Attempts()

    def note(self, headers: Headers) -> str | None:
        """The one cookie of ours; None where there is none, or more than one."""
        found = []
        for line in headers.getlist("cookie"):
            with suppress(CookieError):
                # one morsel at a time: SimpleCookie would let a later cookie of the same name replace the first
                found += [jar[self.cookie].value for part in line.split(";") if self.cookie in (jar := SimpleCookie(part))]
        return found[0] if len(found) == 1 else None

    def check_token(self, token: str) -> User:
        """Whose token this is. Refuses a wrong one (401), and everybody for a while after too many wrong ones (429)."""
        wait = self._attempts.wait_seconds()
        if wait:
            raise Refused("Too many wrong tokens.", status=429, rule="sign-in attempts", value=str(int(wait) + 1),
                          remedy=f"Wait {int(wait) + 1} seconds.")
        user = user_of(token, self.sessions.users)
        if user is None:
            self._attempts.failed()
            raise Refused("This token is nobody's.", status=401, rule="sign-in",
                          remedy="Take the token that `compliance up` printed.")
        return user

    def signed_in(self, headers: Headers) -> Session | None:
        """The session of the cookie; None where nobody is signed in."""
        note = self.note(headers)
        return self.sessions.read(note) if note is not None else None

    def session(self, headers: Headers, *, from_own_page: bool, changes: bool) -> Session:
        """Who asks. A request that may change something needs our own page, or a token that no browser adds by itself."""
        bearer = headers.get("authorization")
        if bearer is not None:
            kind, _, token = bearer.partition(" ")
            if kind.lower() != "bearer":
                raise Refused("Only bearer tokens are read.", status=401, rule="sign-in", value=kind[:20],
                              remedy="Send Authorization: Bearer TOKEN.")
            return Session(self.check_token(token.strip()), int(time.time()) + self.sessions.seconds, "")
        if changes and not from_own_page:
            raise Refused("This request does not say which page sent it.", status=403, rule="Origin is the guard's own",
                          value="no Origin", remedy="Programs send Authorization: Bearer TOKEN.")
        session = self.signed_in(headers)
        if session is None:
            raise Refused("Nobody is signed in.", status=401, rule="sign-in", remedy=f"Open {self._login}.")
        return session

    async def form(self, request: Request, *, from_own_page: bool) -> tuple[str, str]:
        """The token and the way to go of a sign-in form; refuses a form that another page sent."""
        form = await self.fields(request, from_own_page=from_own_page)
        return form["token"].strip() if "token" in form else "", own_path(form["next"] if "next" in form else "/")

    async def fields(self, request: Request, *, from_own_page: bool, largest: int = LARGEST_LOGIN) -> dict[str, str]:
        """The fields of a form of our own, the first of each name; refuses a form that another page sent."""
        if not from_own_page:
            raise Refused("Signing in happens on the guard's own page.", status=403, rule="Origin is the guard's own",
                          value="no Origin", remedy="Programs need no cookie: send Authorization: Bearer TOKEN.")
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/x-www-form-urlencoded":
            raise Refused("Signing in is a form.", status=403, rule="sign-in form", remedy=f"Open {self._login}.")
        body = (await whole_body(request, largest)).decode("latin-1")
        try:
            return {name: values[0] for name, values in parse_qs(body, max_num_fields=16, keep_blank_values=True).items()}
        except ValueError:
            raise Refused("This form has more fields than any of ours.", status=403, rule="forms", remedy=f"Open {self._login}.") from None
