"""A signed-in browser holds a signed, expiring note of who it is; guessing is counted and stopped.

The note (cookie) is `payload.signature`: base64url JSON and its HMAC-SHA256 (RFC 2104) under a key that lives as long as
the guard's process, so that a restart signs everybody out. The role is not in the note: it is looked up at each request, so
that a user who was removed, or whose token was renewed, is signed out at once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from compliance_assets.web.ui_users import User

SESSION_SECONDS = 8 * 3600


@dataclass(frozen=True)
class Session:
    """Who is signed in until when (seconds since the epoch); `id` names this sign-in, for signing out."""

    user: User
    expires: int
    id: str
    person: str = ""
    """The person of organisation.yaml who is signed in; empty for a token's user, who can sign nothing."""


People = Callable[[str], Iterable[User]]
"""Who a person is now, one user for each of their passkeys (`token_sha256` is the hash of its credential's id)."""


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Sessions:
    """Makes and reads the signed notes of one guard."""

    def __init__(self, users: Iterable[User], *, seconds: int = SESSION_SECONDS, clock: Callable[[], float] = time.time,
                 people: People = lambda name: ()) -> None:
        self._users = {user.name: user for user in users}
        self._people = people
        self._key = secrets.token_bytes(32)
        self._seconds = seconds
        self._clock = clock
        self._ended: dict[str, int] = {}

    @property
    def users(self) -> tuple[User, ...]:
        return tuple(self._users.values())

    @property
    def seconds(self) -> int:
        return self._seconds

    def _sign(self, payload: str) -> str:
        return _encode(hmac.new(self._key, payload.encode(), hashlib.sha256).digest())

    def start(self, user: User, *, person: bool = False) -> str:
        """A note for `user`, valid for `seconds`. `person`: they showed a passkey, not a token."""
        body = {"user": user.name, "token": user.token_sha256, "expires": int(self._clock()) + self._seconds,
                "id": secrets.token_hex(16), "person": person}
        payload = _encode(json.dumps(body).encode())
        return f"{payload}.{self._sign(payload)}"

    def read(self, note: str) -> Session | None:
        """Who the note is about; None if it is forged, expired, ended, or its user is no longer who they were."""
        payload, _, signature = note.partition(".")
        if not note.isascii() or not hmac.compare_digest(signature, self._sign(payload)):
            return None
        try:
            body = json.loads(_decode(payload))
        except (ValueError, binascii.Error):
            return None
        session_id, expires = str(body["id"]), int(body["expires"])
        if expires <= self._clock() or session_id in self._ended:
            return None
        known = self._people(body["user"]) if body["person"] else (self._users[body["user"]],) if body["user"] in self._users else ()
        user = next((one for one in known if one.token_sha256 == body["token"]), None)
        return Session(user, expires, session_id, user.name if body["person"] else "") if user is not None else None

    def form_token(self, session: Session, *about: str) -> str:
        """What a form of this session, about this, must send back: when it was made, and a MAC that only this process can make."""
        made = str(int(self._clock()))
        return f"{made}.{self._sign(_about(made, session, about))}"

    def form_seconds(self, token: str, session: Session, *about: str) -> int | None:
        """How long ago the form was made; None if the token is not of this session and about this, or older than a session can be."""
        made, _, signature = token.partition(".")
        if not token.isascii() or not made.isdigit() or len(made) > 12 or not hmac.compare_digest(
                signature, self._sign(_about(made, session, about))):
            return None
        seconds = int(self._clock()) - int(made)
        return max(0, seconds) if seconds <= self._seconds else None

    def end(self, session: Session) -> None:
        """Sign out: the note is refused from now on."""
        now = self._clock()
        self._ended = {name: expires for name, expires in self._ended.items() if expires > now}
        self._ended[session.id] = session.expires


def _about(made: str, session: Session, about: tuple[str, ...]) -> str:
    return json.dumps(["form", made, session.user.name, session.id, *about])


class Once:
    """Sentences that may be used one time, soon: challenges. Asking for many of them fills no memory; only used ones are remembered."""

    def __init__(self, seconds: int = 300, clock: Callable[[], float] = time.time) -> None:
        self._seconds, self._clock = seconds, clock
        self._key = secrets.token_bytes(32)
        self._used: dict[str, int] = {}

    def _mac(self, text: str) -> str:
        return _encode(hmac.new(self._key, text.encode(), hashlib.sha256).digest())

    def make(self, sentence: str) -> str:
        """The sentence with a number, its end (seconds since the epoch), and a MAC that only this process can make."""
        text = f"{sentence} {secrets.token_hex(16)} {int(self._clock()) + self._seconds}"
        return f"{text} {self._mac(text)}"

    def take(self, made: str) -> bool:
        """Whether this was made here, is not too old, and was not taken before."""
        text, _, mac = made.rpartition(" ")
        now = self._clock()
        if not made.isascii() or not hmac.compare_digest(mac, self._mac(text)) or int(text.rpartition(" ")[2]) <= now:
            return False
        self._used = {one: until for one, until in self._used.items() if until > now}
        fresh = mac not in self._used
        self._used[mac] = int(text.rpartition(" ")[2])
        return fresh


class Attempts:
    """Counts failed sign-ins: after `limit` within `seconds`, nobody may try until the oldest is that long ago."""

    def __init__(self, limit: int = 5, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._failures: deque[float] = deque(maxlen=limit)

    def wait_seconds(self) -> float:
        """How long to wait before the next try; 0 if it may be made now."""
        if len(self._failures) < self._limit:
            return 0.0
        return max(0.0, self._failures[0] + self._seconds - self._clock())

    def failed(self) -> None:
        self._failures.append(self._clock())
